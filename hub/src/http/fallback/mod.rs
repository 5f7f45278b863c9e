//! Sessions without a WebSocket: an event stream and a long poll. They are sessions like any other, whose frames leave by a
//! pipe; the request says what a client says first, so that any node can answer it.

mod ending;
mod frames;
pub(super) mod poll;
mod request;
pub(crate) mod say;
pub(super) mod sse;
mod vector;

use std::net::{IpAddr, Ipv4Addr};

use common::{
    http::{Connection, Peer},
    protocol::Dialect,
};

use http::request::Parts;

use self::{frames::Frames, request::Asked, vector::Vector};
use super::{
    admit::{Admitted, Refused, admit_whoever},
    head::Head,
    seat::begin,
};
use crate::{Hub, metrics::OpenFallback, pipe::pipe, receive::Wire};

/// Who is let in, and what was asked for.
struct Entered {
    admitted: Admitted,
    asked: Asked,
}

async fn enter(hub: &Hub, parts: &Parts) -> Result<Entered, Refused> {
    let peer = parts
        .extensions
        .get::<Peer>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let head = Head::of(&parts.uri, &parts.headers);
    let mut admitted = admit_whoever(hub, &head, peer, Dialect::CarillonV1).await?;
    // Whatever its headers offer, these frames are no WebSocket's.
    (admitted.dialect, admitted.wire) = (Dialect::CarillonV1, Wire::Plain);
    let shared = &hub.inner.shared;
    let asked = Asked::read(&parts.uri, &parts.headers).and_then(|asked| {
        asked.check(
            &admitted.identity,
            &shared.public_topics,
            shared.ceilings.topics(),
        )?;
        Ok(asked)
    });
    match asked {
        Ok(asked) => Ok(Entered { admitted, asked }),
        Err(problem) => Err((problem.code, problem.into())),
    }
}

/// A session whose frames come out here. Dropping it ends the session.
struct Opened {
    frames: Frames,
    vector: Vector,
    /// Counts it while it is open.
    _open: OpenFallback,
}

/// Gives the session to its worker.
async fn open(
    hub: &Hub,
    transport: &'static str,
    connection: Option<Connection>,
    entered: Entered,
) -> Opened {
    let Entered { admitted, asked } = entered;
    let open = hub.inner.shared.metrics.fallback(transport);
    let (writer, reader) = pipe(asked.commands(), connection);
    begin(hub, admitted, writer.into(), Vec::new()).await;
    Opened {
        frames: Frames::new(reader),
        vector: Vector::resuming(asked.positions),
        _open: open,
    }
}
