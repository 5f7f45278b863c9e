//! Calls in the access log and in metrics, from their beginning to the end of their answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::body::{Body, Bytes, HttpBody};
use common::telemetry::Metrics;
use http_body::{Frame, SizeHint};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Unit,
};
use tonic::Code;

use super::enter::code;

/// A call's name, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    call: String,
    code: String,
}

/// A call's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    call: String,
}

/// What is counted of calls.
#[derive(Debug, Clone)]
pub(super) struct CallMetrics {
    ended: Family<Ended, Counter>,
    seconds: Family<Named, Histogram, fn() -> Histogram>,
    under_way: Gauge,
}

impl CallMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let new = Self {
            ended: Family::default(),
            // From half a millisecond to a quarter of a minute.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 16))),
            under_way: Gauge::default(),
        };
        let m = new.clone();
        metrics.register(|registry| {
            registry.register("grpc_calls", "gRPC calls that ended", m.ended);
            registry.register_with_unit(
                "grpc_call_duration",
                "From a gRPC call to the end of its answer",
                Unit::Seconds,
                m.seconds,
            );
            registry.register(
                "grpc_calls_under_way",
                "gRPC calls, streams included",
                m.under_way,
            );
        });
        new
    }
}

/// A call that was seen to begin. It ends once: when it goes, as one whose caller went away.
#[derive(Debug)]
pub(super) struct Seen {
    path: String,
    began: Instant,
    metrics: CallMetrics,
    ended: bool,
}

impl Seen {
    pub(super) fn begin(path: &str, metrics: CallMetrics) -> Self {
        metrics.under_way.inc();
        Self {
            path: path.to_owned(),
            began: Instant::now(),
            metrics,
            ended: false,
        }
    }

    pub(super) fn end(mut self, code: Code) {
        self.note(code);
    }

    fn note(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.began.elapsed();
        self.metrics.under_way.dec();
        // Names that nobody answers to are whatever callers make up.
        let call = match code {
            Code::Unimplemented => "unknown",
            _ => self.path.trim_start_matches('/'),
        };
        let call = call.to_owned();
        let seconds = self.metrics.seconds.get_or_create(&Named { call: call.clone() });
        seconds.observe(took.as_secs_f64());
        let ended = Ended {
            call,
            code: format!("{code:?}"),
        };
        self.metrics.ended.get_or_create(&ended).inc();
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(target: "access", method = "gRPC", path = self.path, ?code, duration_ms, "call");
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.note(Code::Cancelled);
    }
}

/// An answer that is on its way.
#[derive(Debug)]
pub(super) struct Observed {
    body: Body,
    seen: Seen,
}

impl Observed {
    pub(super) fn new(body: Body, seen: Seen) -> Self {
        Self { body, seen }
    }
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(code) = frame.trailers_ref().and_then(code)
        {
            self.seen.note(code);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
