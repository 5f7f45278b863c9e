//! `GET /api/v1/poll`: a session for as long as one request.

use std::{collections::HashSet, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::http::Problem;
use http::{HeaderValue, header, request::Parts};
use tokio::time::{Instant, timeout_at};

use super::{Opened, ending::Ending, frames::Frame, request::public_name, vector::Seen};
use crate::{Hub, http::admit};

/// Frames of one answer at the most.
const MAX_FRAMES: usize = 512;

/// Bytes of one answer's frames after which no other is added.
const MAX_BYTES: usize = 512 * 1024;

/// How long the bus may take to confirm the session's topics.
const SETTLING: Duration = Duration::from_secs(10);

/// What was missed, or what comes next
///
/// Answers at once with what came since `positions`; if nothing did, waits up to `wait` seconds for the first frame. Without
/// positions it answers at once where the session's topics stand. Any node can answer.
#[utoipa::path(get, path = "/api/v1/poll", tag = "sockets", security(("bearer" = [])),
    params(("token" = Option<String>, Query, description = "The token, where no header can be sent"),
        ("user_id" = Option<String>, Query, description = "Has to be the token's"),
        ("tenant_id" = Option<String>, Query, description = "Has to be the token's"),
        ("topics" = Option<String>, Query, description = "Explicit topics: `a,b`, or a JSON array"),
        ("positions" = Option<String>, Query, description = "`positions` of the answer before"),
        ("wait" = Option<u64>, Query, description = "Seconds, 0 to 60; default 25")),
    responses((status = 200, body = Polled), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(in crate::http) async fn poll(State(hub): State<Hub>, parts: Parts) -> Response {
    let entered = match super::enter(&hub, &parts).await {
        Ok(entered) => entered,
        Err(refused) => return admit::refuse(&hub, refused),
    };
    let mut poll = Poll {
        settling: Settling {
            welcome: true,
            topics: entered.asked.fresh().map(public_name).collect(),
            resume: !entered.asked.positions.is_empty(),
        },
        from_now: entered.asked.positions.is_empty(),
        frames: Vec::new(),
        bytes: 0,
        has_news: false,
    };
    let deadline = Instant::now() + entered.asked.wait;
    let mut opened = super::open(&hub, "poll", None, entered).await;
    match poll.gather(&mut opened, deadline).await {
        Ok(more) => poll.answer(&opened, more),
        Err(problem) => problem.into_response(),
    }
}

/// Documents the answer, which is written as text: its frames are not parsed.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the document's form of what is written by hand")]
struct Polled {
    /// Frames as on the WebSocket.
    frames: Vec<serde_json::Value>,
    /// Every topic of the session: `positions` of the next poll.
    positions: std::collections::BTreeMap<String, String>,
    /// The next poll has more at once.
    more: bool,
}

/// What the session has to be told before it is in place.
#[derive(Debug)]
struct Settling {
    welcome: bool,
    /// Explicit topics, by their public names, that begin where they stand.
    topics: HashSet<String>,
    resume: bool,
}

impl Settling {
    fn is_done(&self) -> bool {
        !self.welcome && self.topics.is_empty() && !self.resume
    }
}

struct Poll {
    settling: Settling,
    /// There is nothing to come back to: only the positions are wanted.
    from_now: bool,
    frames: Vec<Bytes>,
    bytes: usize,
    /// Something worth an answer has come.
    has_news: bool,
}

impl Poll {
    /// Takes frames until there is an answer; whether there is more than fits.
    async fn gather(&mut self, opened: &mut Opened, deadline: Instant) -> Result<bool, Problem> {
        let settled = Instant::now() + SETTLING;
        loop {
            let settling = !self.settling.is_done();
            let next = if settling {
                let Ok(next) = timeout_at(settled, opened.frames.next()).await else {
                    return Err(unavailable());
                };
                next
            } else if self.from_now {
                return Ok(false);
            } else if self.has_news {
                match opened.frames.now() {
                    Some(next) => Some(next),
                    None => return Ok(false),
                }
            } else {
                match timeout_at(deadline, opened.frames.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(false),
                }
            };
            let json = match next {
                Some(Frame::Text(json)) => json,
                // What has come is answered first; the next poll is told the reason, if it still stands.
                _ if self.has_news => return Ok(true),
                Some(Frame::Close { code, reason }) => return Err(Ending::new(code, &reason).problem()),
                None => return Err(unavailable()),
            };
            if self.frames.len() >= MAX_FRAMES || self.bytes >= MAX_BYTES {
                // It does not count as taken, so it comes with the next poll.
                return Ok(true);
            }
            self.take(opened, json)?;
        }
    }

    fn take(&mut self, opened: &mut Opened, json: Bytes) -> Result<(), Problem> {
        match opened.vector.take(&json).0 {
            Seen::Welcome => self.settling.welcome = false,
            Seen::Subscribed(topic) => drop(self.settling.topics.remove(&topic)),
            Seen::Recovered => self.settling.resume = false,
            Seen::Pong => {}
            Seen::Error(code) if code == "unavailable" => return Err(unavailable()),
            // No poll ends for it, or one after the other would until the token does.
            Seen::Expiring => self.keep(json),
            Seen::Error(_) | Seen::News => {
                self.has_news = true;
                self.keep(json);
            }
        }
        Ok(())
    }

    fn keep(&mut self, json: Bytes) {
        self.bytes += json.len();
        self.frames.push(json);
    }

    fn answer(&self, opened: &Opened, more: bool) -> Response {
        let mut body = Vec::with_capacity(self.bytes + self.frames.len() + 1024);
        body.extend_from_slice(b"{\"frames\":[");
        for (number, frame) in self.frames.iter().enumerate() {
            if number > 0 {
                body.push(b',');
            }
            body.extend_from_slice(frame);
        }
        body.extend_from_slice(b"],\"positions\":");
        opened.vector.write(&mut body);
        body.extend_from_slice(format!(",\"more\":{more}}}").as_bytes());
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (headers, body).into_response()
    }
}

/// Topics that the bus does not confirm, or a worker that has ended.
fn unavailable() -> Problem {
    let after = Duration::from_millis(fastrand::u64(1000..3000));
    Problem::unavailable("the session's topics cannot be confirmed now; poll again", after)
}
