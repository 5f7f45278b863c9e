//! Sessions without a WebSocket: an event stream and a long poll. They are sessions like any other, whose frames leave by a
//! pipe; the request says what a client says first, so that any node can answer it.

mod ending;
mod frames;
pub(super) mod poll;
mod request;
pub(crate) mod say;
pub(super) mod sse;
mod vector;

use axum::extract::Request;
use common::{http::Connection, protocol::Dialect};

use self::{frames::Frames, request::Asked, vector::Vector};
use super::upgrade::{self, Refused};
use crate::{Hub, limits::Seat, metrics::OpenFallback, pipe::pipe, worker::NewSession};

/// Who is let in, and what was asked for.
struct Entered {
    identity: common::token::Identity,
    seat: Seat,
    asked: Asked,
}

fn enter(hub: &Hub, request: &Request) -> Result<Entered, Refused> {
    let (identity, seat) = upgrade::enter(hub, request, None)?;
    let asked = Asked::read(request)
        .and_then(|asked| {
            asked.check(
                &identity,
                &hub.inner.shared.public_topics,
                hub.inner.shared.config.max_topics,
            )?;
            Ok(asked)
        })
        .map_err(|problem| (problem.code, problem.into()))?;
    Ok(Entered {
        identity,
        seat,
        asked,
    })
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
    let Entered {
        identity,
        seat,
        asked,
    } = entered;
    let open = hub.inner.shared.metrics.fallback(transport);
    let (writer, reader) = pipe(asked.commands(), connection);
    let who = upgrade::introduce(hub, identity).await;
    hub.hand_over(NewSession {
        stream: writer.into(),
        who,
        dialect: Dialect::CarillonV1,
        early: Vec::new(),
        seat,
    })
    .await;
    Opened {
        frames: Frames::new(reader),
        vector: Vector::resuming(asked.positions),
        _open: open,
    }
}
