//! What each answer of a receiver, and each way of not answering, leads to.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use dispatcher::{
    config::UnknownPolicy,
    model::{Channel, DeliveryState, Micros},
};
use tokio::net::TcpListener;

use super::{called, outcomes, responses};
use crate::support::{
    World, by_webhook,
    hooks::{HookServer, Reply, SECRET, configure, impatient},
    notification,
};

/// The first call gets this, each further one 200.
async fn first(reply: Reply) -> HookServer {
    let calls = AtomicUsize::new(0);
    HookServer::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => reply.clone(),
        _ => Reply::Status(200),
    })
    .await
}

fn raw(head: &str, body: &str) -> Reply {
    Reply::Raw(format!(
        "HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[tokio::test]
async fn what_never_works_is_dead_with_its_reason() {
    let mut server = HookServer::start(|call| match call.line.split(' ').nth(1).unwrap() {
        "/gone" => Reply::Status(410),
        "/large" => Reply::Status(413),
        "/moved" => raw("302 Found\r\nlocation: http://127.0.0.1:1/secret", "elsewhere"),
        "/broken" => raw("500 Internal", "the database is\r\naway"),
        _ => Reply::Status(200),
    })
    .await;
    let world = World::new().await;
    let running = world.start(configure()).await;
    for (path, reason, response, attempts) in [
        ("/gone", "recipient_invalid", "410", 1),
        ("/large", "rejected", "413", 1),
        ("/moved", "rejected", "302 redirects are not followed", 1),
        ("/broken", "attempts_exhausted", "500 the database is  away", 3),
    ] {
        let delivery = called(&world, &running, &server.url(path)).await;
        assert_eq!(delivery.state, DeliveryState::Dead, "{path}");
        assert_eq!(delivery.reason.as_deref(), Some(reason), "{path}");
        assert_eq!(responses(&delivery), vec![response; attempts], "{path}");
    }
    assert_eq!(server.further_calls(), 6);
    running.stop().await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let seconds = || "1".to_owned();
    // A date has whole seconds, so this one lies between one and two ahead.
    let date = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    for (status, value) in [(429, seconds as fn() -> String), (503, seconds), (429, date)] {
        let world = World::new().await;
        let running = world.start(configure()).await;
        let value = value();
        let mut server = first(raw(&format!("{status} X\r\nretry-after: {value}"), "")).await;
        let begun = Instant::now();
        let delivery = called(&world, &running, &server.url("/")).await;
        assert_eq!(outcomes(&delivery), ["throttled", "delivered"], "{value}");
        assert!(
            begun.elapsed() >= Duration::from_millis(900),
            "{value}: {:?}",
            begun.elapsed()
        );
        assert!(server.call().await.is_signed_by(SECRET));
        running.stop().await;
    }
}

#[tokio::test]
async fn while_a_receiver_asked_for_time_others_of_its_url_wait_untried() {
    let mut server = first(raw("429 X\r\nretry-after: 3600", "")).await;
    let world = World::new().await;
    let running = world.start(configure()).await;
    let url = server.url("/");
    let one = running.accept_one(by_webhook(notification("u1"), &url)).await;
    world
        .delivery(one, Channel::Webhook, |one| {
            one.reason.as_deref() == Some("throttled")
        })
        .await;
    let two = running.accept_one(by_webhook(notification("u1"), &url)).await;
    let waiting = world
        .delivery(two, Channel::Webhook, |one| {
            one.reason.as_deref() == Some("throttled")
        })
        .await;
    assert!(waiting.attempts.is_empty() && waiting.state == DeliveryState::Pending);
    assert!(waiting.due_at >= Micros::now().plus(Duration::from_secs(3000)));
    // Another URL of the same host does not.
    let other = called(&world, &running, &server.url("/other")).await;
    assert_eq!(other.state, DeliveryState::Delivered);
    assert_eq!(server.further_calls(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_call_that_may_have_arrived_is_unknown_and_made_again_with_the_same_id() {
    for reply in [Reply::Hang, Reply::Cut, Reply::Raw("no HTTP\r\n\r\n".to_owned())] {
        let mut server = first(reply.clone()).await;
        let world = World::new().await;
        let running = world.start(impatient()).await;
        let delivery = called(&world, &running, &server.url("/")).await;
        assert_eq!(outcomes(&delivery), ["unknown", "delivered"], "{reply:?}");
        let (first, second) = (server.call().await, server.call().await);
        assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
        assert_eq!(first.body, second.body);
        running.stop().await;
    }
}

#[tokio::test]
async fn the_unknown_can_be_held() {
    let server = first(Reply::Cut).await;
    let mut config = configure();
    config.webhook.on_unknown = UnknownPolicy::Hold;
    let world = World::new().await;
    let running = world.start(config).await;
    let delivery = called(&world, &running, &server.url("/")).await;
    assert_eq!(
        (delivery.state, delivery.reason.as_deref()),
        (DeliveryState::Dead, Some("unknown"))
    );
    running.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_away_was_not_called() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let world = World::new().await;
    let running = world.start(impatient()).await;
    let delivery = called(&world, &running, &format!("http://{address}/")).await;
    assert_eq!(outcomes(&delivery), ["retry", "retry", "retry"]);
    assert_eq!(responses(&delivery), ["connection refused"; 3]);
    running.stop().await;
}

#[tokio::test]
async fn a_half_open_receiver_costs_its_time_out() {
    // The kernel takes the connection, and nobody ever reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = World::new().await;
    let running = world.start(impatient()).await;
    let delivery = called(&world, &running, &format!("http://{address}/")).await;
    assert_eq!(outcomes(&delivery), ["unknown", "unknown", "unknown"]);
    // Where TLS comes first nothing was said.
    let delivery = called(&world, &running, &format!("https://{address}/")).await;
    assert_eq!(outcomes(&delivery), ["retry", "retry", "retry"]);
    running.stop().await;
}

#[tokio::test]
async fn slow_and_endless_bodies_change_nothing() {
    for reply in [
        Reply::Raw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nslow".to_owned()),
        Reply::Endless("HTTP/1.1 200 OK\r\n\r\n".to_owned()),
        Reply::Endless("HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n".to_owned()),
    ] {
        let mut server = first(reply.clone()).await;
        let world = World::new().await;
        let running = world.start(impatient()).await;
        let delivery = called(&world, &running, &server.url("/")).await;
        assert_eq!(outcomes(&delivery), ["delivered"], "{reply:?}");
        assert!(responses(&delivery)[0].len() <= 300);
        // Its connection is of no further use.
        called(&world, &running, &server.url("/")).await;
        assert_ne!(server.call().await.connection, server.call().await.connection);
        running.stop().await;
    }
    // A head without an end is no answer.
    let server = first(Reply::Endless("HTTP/1.1 200 OK\r\nx: ".to_owned())).await;
    let world = World::new().await;
    let running = world.start(impatient()).await;
    let delivery = called(&world, &running, &server.url("/")).await;
    assert_eq!(outcomes(&delivery), ["unknown", "delivered"]);
    running.stop().await;
}

/// What is logged while a test runs, which has to run on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_show_neither_secrets_nor_the_url_nor_what_is_said() {
    let world = World::new().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    let server = HookServer::start(|_| raw("400 Bad", "said by the receiver")).await;
    let running = world.start(configure()).await;
    called(&world, &running, &server.url("/hook?key=token-of-the-receiver")).await;
    called(&world, &running, "http://10.0.0.1/hook?key=token-of-the-receiver").await;
    running.stop().await;
    drop(guard);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("a webhook was not delivered"), "{text}");
    for kept in [
        "token-of-the-receiver",
        SECRET,
        "MfKQ9",
        "A title",
        "said by the receiver",
    ] {
        assert!(!text.contains(kept), "{kept}: {text}");
    }
}

#[tokio::test]
async fn answers_keep_neither_secrets_nor_the_url() {
    let server = HookServer::start(|call| {
        let path = call.line.split(' ').nth(1).unwrap().to_owned();
        let host = call.header("host").unwrap();
        raw("400 Bad", &format!("no http://{host}{path} here"))
    })
    .await;
    let world = World::new().await;
    let running = world.start(configure()).await;
    let url = server.url("/hook?key=token-of-the-receiver");
    let delivery = called(&world, &running, &url).await;
    for response in responses(&delivery) {
        assert!(response.starts_with("400 no "), "{response}");
        assert!(
            !response.contains("token-of-the-receiver") && !response.contains(SECRET),
            "{response}"
        );
    }
    running.stop().await;
}
