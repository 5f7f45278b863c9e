//! `POST /api/v1/commands`: what a client without a socket says of messages.

use std::{
    num::NonZeroU32,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use axum::extract::State;
use common::{
    http::{Caller, JsonBody, Problem, parse_query},
    protocol::{Command, CommandError, ReadWhat},
    receipts::{PATIENCE, Reader, Receipt},
    topic::TopicKey,
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use http::{StatusCode, Uri};
use serde::Deserialize;

use crate::{Hub, config::HubConfig};

/// A session's name is shorter than this.
const MAX_SESSION: usize = 64;

/// Users whose allowances are kept before those that are full again are forgotten.
const KEPT: usize = 10_000;

/// What a user may say by requests: as much as by a socket.
#[derive(Debug)]
pub(crate) struct Allowances(RwLock<(u32, DefaultKeyedRateLimiter<TopicKey>)>);

fn limiter(per_second: u32) -> (u32, DefaultKeyedRateLimiter<TopicKey>) {
    let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    let burst = rate.saturating_add(rate.get());
    let quota = Quota::per_second(rate).allow_burst(burst);
    (per_second, RateLimiter::keyed(quota))
}

impl Allowances {
    pub(crate) fn new(config: &HubConfig) -> Self {
        Self(RwLock::new(limiter(config.inbound_per_second)))
    }

    /// Takes on another rate, by which all begin anew.
    pub(crate) fn take_on(&self, config: &HubConfig) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.0 != config.inbound_per_second {
            *known = limiter(config.inbound_per_second);
        }
    }

    /// Takes one; else when to come back.
    fn take(&self, user: &TopicKey) -> Result<(), Duration> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let allowances = &known.1;
        if allowances.len() > KEPT {
            allowances.retain_recent();
        }
        allowances
            .check_key(user)
            .map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

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
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(in crate::http) async fn say(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
    JsonBody(_said, body): JsonBody<Said>,
) -> Result<StatusCode, Problem> {
    let user = TopicKey::user(&caller.tenant, &caller.user);
    if let Err(wait) = hub.inner.said.take(&user) {
        let detail = "too many messages; a user has hub.inbound_per_second of them";
        return Err(
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_messages", detail).retry_after(wait),
        );
    }
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
        Ok(Command::Read(ReadWhat::All)) => Receipt::read_all(reader),
        Ok(_) => {
            let detail =
                "only `ack` and `read` are said here; the rest are parameters of the next stream or poll";
            return Err(Problem::invalid("unknown_command", "type", detail));
        }
        Err(error) => return Err(misread(&error)),
    };
    hub.inner.shared.metrics.received.inc();
    if !hub.inner.shared.receipts.wait(receipt).await {
        let detail = "what was said could not be handed on; say it again";
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "receipts_unavailable", detail);
        return Err(problem.retry_after(PATIENCE));
    }
    Ok(StatusCode::NO_CONTENT)
}

fn misread(error: &CommandError) -> Problem {
    let field = match error {
        CommandError::Field { field, .. } => field,
        CommandError::Malformed | CommandError::Unknown(_) => "type",
    };
    Problem::invalid(error.code(), field, error.to_string())
}

#[cfg(test)]
mod tests {
    use common::ids::{Name, TenantId};

    use super::*;

    #[test]
    fn each_user_has_an_allowance() {
        let mut config = HubConfig::for_tests();
        config.inbound_per_second = 2;
        let allowances = Allowances::new(&config);
        let user = |name: &str| TopicKey::user(&TenantId::new("t").unwrap(), &Name::new(name).unwrap());
        for _ in 0..4 {
            allowances.take(&user("u1")).unwrap();
        }
        assert!(allowances.take(&user("u1")).unwrap_err() <= Duration::from_secs(1));
        allowances.take(&user("u2")).unwrap();
        // Those who are full again are forgotten, those who are not are kept.
        for number in 0..=KEPT {
            allowances.take(&user(&number.to_string())).unwrap();
        }
        assert!(allowances.take(&user("u1")).is_err());
    }
}
