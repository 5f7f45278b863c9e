//! HTTP: listeners, errors as problem+json, bodies, and who is calling.

mod auth;
mod body;
mod bounded_writes;
mod comments;
mod connection;
mod origin;
mod problem;
mod rewound;
mod serve;
mod storable;

pub use self::{
    auth::{API_KEY_HEADER, Authenticator, Caller, bearer, shown},
    body::{
        BODY_TIME, BodyDepth, BodyLimit, JsonBody, JsonText, body_timeout, body_too_large, check_depth,
        is_json, not_json, parse_body, parse_json, parse_query,
    },
    bounded_writes::BoundedWrites,
    connection::Connection,
    origin::{REQUEST_ID, TrustedProxies, Whence, client_address},
    problem::Problem,
    rewound::Rewound,
    serve::{Front, Http2, Peer, ServeOptions, Stopping, serve},
    storable::{refuse_nul, refuse_nul_in},
};
