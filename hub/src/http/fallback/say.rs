//! `POST /api/v1/commands`: what a client without a socket says of messages.

use axum::extract::State;
use common::{
    http::{Caller, JsonBody, Problem, parse_query},
    protocol::{Command, CommandError, ReadWhat},
    receipts::{Reader, Receipt},
};
use http::{StatusCode, Uri};
use serde::Deserialize;

use crate::Hub;

/// A session's name is shorter than this.
const MAX_SESSION: usize = 64;

#[derive(Debug, Default, Deserialize)]
pub(in crate::http) struct Query {
    #[serde(default)]
    session: Option<String>,
}

/// `ack` or `read`, as on a socket.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(in crate::http) struct Said {
    /// `ack` or `read`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    #[expect(dead_code, reason = "the body is read again as the socket reads it")]
    kind: String,
    /// Of messages; at most 1,000.
    #[serde(default)]
    #[expect(dead_code, reason = "the body is read again as the socket reads it")]
    ids: Option<Vec<String>>,
    /// Everything there is; `read` only.
    #[serde(default)]
    #[expect(dead_code, reason = "the body is read again as the socket reads it")]
    all: Option<bool>,
}

/// Acknowledge or read messages
///
/// For clients of the event stream and of long polls; a socket says it itself.
#[utoipa::path(post, path = "/api/v1/commands", tag = "sockets", security(("bearer" = [])), request_body = Said,
    params(("session" = Option<String>, Query, description = "The stream's session, which is not told `changed`")),
    responses((status = 204, description = "It was handed on"), (status = 401, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(in crate::http) async fn say(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
    JsonBody(_said, body): JsonBody<Said>,
) -> Result<StatusCode, Problem> {
    let session = parse_query::<Query>(&uri)?.session.unwrap_or_default();
    if session.len() > MAX_SESSION {
        return Err(Problem::invalid(
            "invalid_value",
            "session",
            "give the `session` of the stream's `welcome`",
        ));
    }
    let reader = Reader {
        tenant: caller.tenant.clone(),
        user: caller.user.clone(),
        session: session.into(),
        keys: caller.keys().into(),
    };
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let receipt = match Command::parse(text) {
        Ok(Command::Ack(ids)) => Receipt::Delivered { reader, ids },
        Ok(Command::Read(ReadWhat::Ids(ids))) => Receipt::Read { reader, ids },
        Ok(Command::Read(ReadWhat::All)) => Receipt::ReadAll { reader },
        Ok(_) => {
            let detail =
                "only `ack` and `read` are said here; the rest are parameters of the next stream or poll";
            return Err(Problem::invalid("unknown_command", "type", detail));
        }
        Err(error) => return Err(misread(&error)),
    };
    hub.inner.shared.metrics.received.inc();
    // Without a dispatcher there is nobody to tell, as on a socket.
    hub.inner.shared.receipts.send(receipt).await;
    Ok(StatusCode::NO_CONTENT)
}

fn misread(error: &CommandError) -> Problem {
    let field = match error {
        CommandError::Field { field, .. } => field,
        CommandError::Malformed | CommandError::Unknown(_) => "type",
    };
    Problem::invalid(error.code(), field, error.to_string())
}
