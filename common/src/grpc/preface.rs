//! How a connection of HTTP/2 begins.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{io::AsyncReadExt, net::TcpStream, time};

use crate::http::{Front, Rewound};

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Lets through who begins with the preface of HTTP/2 within a time. Who says nothing would otherwise keep a place for ever,
/// as keep-alive begins behind it.
#[must_use]
pub fn preface(within: Duration) -> Front {
    Arc::new(move |mut stream, peer, stop| {
        Box::pin(async move {
            let read = stop
                .run_until_cancelled(time::timeout(within, read(&mut stream)))
                .await;
            let Some(Ok(Some(read))) = read else {
                tracing::debug!(%peer, "a connection did not begin with HTTP/2");
                return None;
            };
            Some(Rewound::new(stream, read))
        })
    })
}

async fn read(stream: &mut TcpStream) -> Option<Bytes> {
    let mut said = [0; PREFACE.len()];
    let mut read = 0;
    while read < said.len() {
        // Told apart at its first wrong byte, and not when all have come.
        match stream.read(&mut said[read..]).await {
            Ok(more) if more > 0 && said[..read + more] == PREFACE[..read + more] => read += more,
            _ => return None,
        }
    }
    Some(Bytes::copy_from_slice(&said))
}
