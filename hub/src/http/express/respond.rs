//! Responses, as text.

use std::{cell::RefCell, io::Write};

use axum::response::{IntoResponse, Response};
use common::http::Problem;
use http_body_util::BodyExt;

/// Writes 200 with a JSON body.
pub(super) fn ok(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    end_of_head(out, body.len());
    out.extend_from_slice(body);
}

/// Writes a problem; the same head as the ordinary server gives it.
pub(super) async fn problem(out: &mut Vec<u8>, problem: Problem, close: bool) {
    let (parts, body) = Response::into_parts(problem.into_response());
    // The body is in memory; reading it cannot fail.
    let body = body.collect().await.map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    line(
        out,
        format_args!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()),
    );
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    end_of_head(out, body.len());
    out.extend_from_slice(&body);
}

fn end_of_head(out: &mut Vec<u8>, length: usize) {
    DATE.with_borrow_mut(|date| {
        date.renew(jiff::Timestamp::now());
        line(
            out,
            format_args!("content-length: {length}\r\ndate: {}\r\n\r\n", date.text),
        );
    });
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    out.write_fmt(text).ok();
}

/// RFC 9110 section 6.6.1: a server with a clock says when it answered. Written once a second.
#[derive(Default)]
struct Date {
    second: i64,
    text: String,
}

thread_local! {
    static DATE: RefCell<Date> = RefCell::default();
}

impl Date {
    fn renew(&mut self, now: jiff::Timestamp) {
        if self.second != now.as_second() || self.text.is_empty() {
            self.second = now.as_second();
            self.text = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_date_is_that_of_http() {
        let mut date = Date::default();
        date.renew(jiff::Timestamp::from_second(784_111_777).unwrap());
        assert_eq!(date.text, "Sun, 06 Nov 1994 08:49:37 GMT");
        date.renew(jiff::Timestamp::from_second(784_111_778).unwrap());
        assert_eq!(date.text, "Sun, 06 Nov 1994 08:49:38 GMT");
    }

    #[tokio::test]
    async fn problems_carry_their_headers() {
        let mut out = Vec::new();
        problem(
            &mut out,
            Problem::unavailable("later", Duration::from_millis(1)),
            true,
        )
        .await;
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("HTTP/1.1 503 Service Unavailable"));
        let lines: Vec<_> = lines.collect();
        for line in [
            "content-type: application/problem+json",
            "retry-after: 1",
            "connection: close",
            &format!("content-length: {}", body.len()),
        ] {
            assert_eq!(
                lines.iter().filter(|other| **other == line).count(),
                1,
                "{line}: {text}"
            );
        }
        assert!(body.contains("\"code\":\"unavailable\""));
    }
}
