//! `POST /api/v1/publish/stream`: one publish a line, for those who have many. The answers go back while the lines come.
//!
//! Lines go to the bus in rounds of what has arrived, and nothing else is held. Who does not take the answers is not read any more; whose connection is cut has
//! published the lines that arrived whole.

use std::{convert::Infallible, pin::pin, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::http::{Caller, Problem, Stopping, parse_query};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, StreamLine, write_number, write_result},
    key::NoHeaderKey,
    lines::{Line, Lines},
    publish::{self, PublishBody},
    round::Round,
};
use crate::Hub;

/// Bytes of answers that are gathered before they are sent.
const GATHERED: usize = 32 * 1024;

/// Gathered answers that may wait for the client.
const WAITING: usize = 4;

/// A client that takes no answer for so long is given up.
const TAKE_TIME: Duration = Duration::from_secs(30);

/// An upload of which nothing comes for so long has ended; line ends keep one open.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// How long the rest of an upload is read over after its early end, so that a client that still sends sees why it ended.
const LINGER: Duration = Duration::from_secs(1);

/// What the query says.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// `all` (default): a line for each publish. `errors`: only for those that failed.
    #[serde(default)]
    #[param(value_type = Option<String>, required = false)]
    results: Shown,
}

/// Which results are sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shown {
    #[default]
    All,
    Errors,
}

/// Publishes one message for each line of the body
///
/// NDJSON both ways, `application/x-ndjson`. Each line is what `/api/v1/publish` takes. Each answer, or problem, carries the number of its line, in order; a line
/// that cannot be published does not stop the others. The last line is the summary. Needs the scope `publish`.
#[utoipa::path(post, path = "/api/v1/publish/stream", tag = "publish", security(("bearer" = [])), params(StreamQuery),
    request_body(content = PublishBody<'_>, content_type = "application/x-ndjson"),
    responses((status = 200, body = StreamLine, content_type = "application/x-ndjson"), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn publish_stream(
    State(hub): State<Hub>,
    caller: Caller,
    _: NoHeaderKey,
    request: Request,
) -> Result<Response, Problem> {
    caller.require("publish")?;
    require_ndjson(request.headers())?;
    let query: StreamQuery = parse_query(request.uri())?;
    let stop = request
        .extensions()
        .get::<Stopping>()
        .map(|stopping| stopping.0.clone())
        .unwrap_or_default();
    let (answers, mut taken) = mpsc::channel(WAITING);
    let upload = Upload {
        round: Round::new(&hub),
        numbers: Vec::new(),
        hub,
        caller,
        results: Results {
            shown: query.results,
            answers,
            out: Vec::new(),
            scratch: Vec::new(),
            published: 0,
            failed: 0,
        },
    };
    // A task of its own: what arrived before a connection broke is published, although nobody takes answers any more.
    tokio::spawn(upload.run(request.into_body(), stop));
    let body = futures_util::stream::poll_fn(move |context| {
        taken
            .poll_recv(context)
            .map(|answers| answers.map(Ok::<Bytes, Infallible>))
    });
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, ndjson)], Body::from_stream(body)).into_response())
}

fn require_ndjson(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    let known = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
    if known.iter().any(|name| kind.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_ndjson",
        "send one publish a line with `Content-Type: application/x-ndjson`",
    ))
}

/// Why reading came to its end.
enum End {
    /// With the upload.
    Whole,
    /// With the connection, or because the client took no answers.
    Gone,
    /// Before the upload's end.
    Early(Problem),
}

/// An upload that is being read.
struct Upload {
    hub: Hub,
    caller: Caller,
    /// Lines that have arrived and are not published yet, and their numbers.
    round: Round,
    numbers: Vec<u64>,
    results: Results,
}

impl Upload {
    async fn run(mut self, mut body: Body, stop: CancellationToken) {
        let mut lines = Lines::new(super::single_limit(&self.hub));
        let early = match self.read(&mut body, &mut lines, &stop).await {
            End::Gone => return,
            End::Whole => false,
            End::Early(problem) => {
                self.results.add(lines.number() + 1, &Err(problem));
                true
            }
        };
        self.results.add_summary();
        if self.results.send().await.is_ok() && early {
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            timeout(LINGER, rest).await.ok();
        }
    }

    async fn read(&mut self, body: &mut Body, lines: &mut Lines, stop: &CancellationToken) -> End {
        let mut stopped = pin!(stop.cancelled());
        let (hub, caller) = (self.hub.clone(), self.caller.clone());
        let mut ended = pin!(hub.inner.shared.credentials.ended(&caller));
        let mut idle = pin!(sleep(IDLE_TIME));
        loop {
            // What the answers' way took is not the client's silence.
            idle.as_mut().reset(Instant::now() + IDLE_TIME);
            let frame = tokio::select! {
                biased;
                () = stopped.as_mut() => return End::Early(stopping()),
                error = ended.as_mut() => return End::Early(error.into()),
                frame = body.frame() => frame,
                () = idle.as_mut() => return End::Early(silent()),
            };
            match frame {
                Some(Ok(frame)) => {
                    let chunk = frame.into_data().unwrap_or_default();
                    if self.chunk(&chunk, lines).await.is_err() {
                        return End::Gone;
                    }
                }
                // Cut: what came whole has been published; a line that was begun is nobody's.
                Some(Err(_)) => return End::Gone,
                None => {
                    if let Some((number, line)) = lines.last() {
                        self.add(number, line);
                        self.publish().await;
                    }
                    return End::Whole;
                }
            }
        }
    }

    async fn chunk(&mut self, chunk: &[u8], lines: &mut Lines) -> Result<(), NotTaken> {
        let mut rest = chunk;
        while let Some((number, line)) = lines.next(&mut rest) {
            self.add(number, line);
            if self.round.is_full() {
                self.publish().await;
                self.hub.inner.pressure.relief().await;
                if self.results.out.len() >= GATHERED {
                    self.results.send().await?;
                }
            }
        }
        self.publish().await;
        self.results.send().await?;
        // Publishing seldom waits; those for whom it is done have their turn.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Adds a line to the round.
    fn add(&mut self, number: u64, line: Line<'_>) {
        let prepared = match line {
            Line::Text(text) if text.trim_ascii().is_empty() => return,
            Line::Text(text) => publish::read(&self.hub.inner.publisher, &self.caller, text, None),
            Line::TooLong => {
                let limit = super::single_limit(&self.hub);
                let detail = format!("a line has at most {limit} bytes");
                Err(Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "line_too_long",
                    detail,
                ))
            }
        };
        self.numbers.push(number);
        self.round.add(prepared);
    }

    /// Publishes the round.
    async fn publish(&mut self) {
        if self.round.is_empty() {
            return;
        }
        let results = self.round.publish(&self.hub.inner.publisher).await;
        for (number, result) in self.numbers.drain(..).zip(results) {
            self.results.add(number, &result);
        }
    }
}

fn stopping() -> Problem {
    let detail = "this node stops; nothing from this line on was published: send it again";
    Problem::unavailable(detail, Duration::from_secs(1))
}

fn silent() -> Problem {
    let detail = "nothing came for 60 seconds; nothing from this line on was published: send it again, and an empty line \
                  now and then while there is nothing to publish";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
}

/// The answers were not taken in time.
struct NotTaken;

/// What is told of the lines.
struct Results {
    shown: Shown,
    answers: mpsc::Sender<Bytes>,
    out: Vec<u8>,
    scratch: Vec<u8>,
    published: u64,
    failed: u64,
}

impl Results {
    fn add(&mut self, number: u64, result: &Result<Answer, Problem>) {
        match result {
            Ok(_) => self.published += 1,
            Err(_) => self.failed += 1,
        }
        if self.shown == Shown::Errors && result.is_ok() {
            return;
        }
        self.scratch.clear();
        write_result(&mut self.scratch, result);
        self.out.extend_from_slice(br#"{"line":"#);
        write_number(&mut self.out, number);
        self.out.push(b',');
        // Both are objects; the number stands before their first member.
        self.out
            .extend_from_slice(self.scratch.get(1..).unwrap_or_default());
        self.out.push(b'\n');
    }

    fn add_summary(&mut self) {
        let (published, failed) = (self.published, self.failed);
        let text = format!("{{\"summary\":{{\"published\":{published},\"failed\":{failed}}}}}\n");
        self.out.extend_from_slice(text.as_bytes());
    }

    async fn send(&mut self) -> Result<(), NotTaken> {
        if self.out.is_empty() {
            return Ok(());
        }
        let room = Vec::with_capacity(self.out.len());
        let out = std::mem::replace(&mut self.out, room);
        match timeout(TAKE_TIME, self.answers.send(out.into())).await {
            // The connection has gone. What of it has arrived is published all the same.
            Ok(_) => Ok(()),
            Err(_) => Err(NotTaken),
        }
    }
}
