//! Sessions that are closed.

use common::receipts::Receipt;
use serde_json::json;
use tokio::task::JoinSet;

use super::{done, of, order};
use crate::support::{Client, Handshake, TestHub};

#[tokio::test]
async fn disconnected_sessions_are_told_why_and_whether_to_come_back() {
    let hub = TestHub::start().await;
    for (body, code, reason) in [
        (json!({}), 4003, "disconnected"),
        (
            json!({"reconnect":false,"code":4100}),
            4100,
            "disconnected; reconnect=no",
        ),
        (json!({"reason":"bye","code":4999}), 4999, "bye"),
        (
            json!({"retry_after_ms":0,"reason":"moved"}),
            4003,
            "moved; retry_after_ms=0",
        ),
    ] {
        let client = hub.user("ann").await;
        let other = hub.user("bob").await;
        let mut body = body;
        body["to"] = json!({"user":"ann"});
        assert_eq!(done(&hub, "disconnect", &body).await, 1, "{body}");
        assert_eq!(client.closed().await, (Some(code), reason.to_owned()), "{body}");
        // Nobody else is.
        other.close().await;
    }
    let client = hub.user("ann").await;
    assert_eq!(
        done(&hub, "disconnect", &json!({"to":{"user":"ann"},"reconnect":true})).await,
        1
    );
    let (_, reason) = client.closed().await;
    let ms: u32 = reason
        .strip_prefix("disconnected; retry_after_ms=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1000..=2000).contains(&ms), "{reason}");
    assert!(hub.metric(r#"hub_sessions_closed_total{reason="disconnected"}"#) >= 5.0);
}

#[tokio::test]
async fn a_disconnect_can_be_spread_over_time() {
    let hub = TestHub::start().await;
    let mut clients = JoinSet::new();
    for number in 0..30 {
        clients.spawn(hub.user(&format!("u{number}")).await.closed());
    }
    let began = tokio::time::Instant::now();
    let body = json!({"to":{"tenant":true},"spread_ms":3000});
    assert_eq!(done(&hub, "disconnect", &body).await, 30);
    assert!(began.elapsed().as_secs() < 2, "the answer does not wait for it");
    while let Some(closed) = clients.join_next().await {
        assert_eq!(closed.unwrap().0, Some(4003));
    }
    assert!(began.elapsed().as_millis() >= 1500, "all were told at once");
}

/// Sessions that are closed while messages go to others: nothing of theirs is lost, none that comes back is closed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_disconnect_holds_nobody_up() {
    const MANY: usize = 5000;
    const MESSAGES: u64 = 300;
    // Both ends of every socket are in this process.
    rlimit::increase_nofile_limit(4 * MANY as u64).unwrap();
    let hub = TestHub::with(|setup| setup.config.workers = 1).await;
    let crowd = of("t1", "crowd", "crowd", "1");
    let mut sockets = Vec::with_capacity(MANY);
    for number in 0..MANY {
        let mut handshake = Handshake::v1(&crowd);
        // Ports of one address would not do together with those of other tests.
        handshake.source = [127, 0, 1, (number % 200) as u8 + 1];
        sockets.push(Client::open(hub.public, &handshake).await);
    }
    assert_eq!(
        done(&hub, "sessions/count", &json!({"to":{"role":"crowd"}})).await,
        MANY as u64
    );
    let mut quiet = hub.user("quiet").await;
    let reading = tokio::spawn(async move {
        crate::order::take_in_order(&mut quiet, 0, MESSAGES).await;
        quiet
    });
    let body = json!({"to":{"role":"crowd"},"retry_after_ms":0});
    let ordering = order(&hub, "disconnect", &body);
    let publishing = async {
        for _ in 0..MESSAGES {
            hub.publish(&json!({"to":{"user":"quiet"},"data":1})).await;
        }
    };
    let (answer, ()) = tokio::join!(ordering, publishing);
    assert_eq!(answer.body["sessions"], MANY, "{answer:?}");
    let quiet = reading.await.unwrap();
    // Who comes back while the others are told stays.
    let back = hub.connect(&crowd).await;
    for socket in sockets {
        let (code, reason) = socket.closed().await;
        assert_eq!(
            (code, reason.as_str()),
            (Some(4003), "disconnected; retry_after_ms=0")
        );
    }
    let left = json!({"to":{"tenant":true}});
    assert_eq!(done(&hub, "sessions/count", &left).await, 2);
    quiet.close().await;
    back.close().await;
}

/// More orders than may be under way at once: each is answered, and what remains of it keeps nobody out.
#[tokio::test]
async fn spread_orders_hold_no_place() {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let user = format!("u{number}");
        clients.push(hub.user(&user).await);
        let body = json!({"to":{"user":user},"spread_ms":600_000,"code":4100});
        assert_eq!(done(&hub, "disconnect", &body).await, 1);
    }
    let all = json!({"to":{"tenant":true},"spread_ms":600_000,"code":4101});
    for _ in 0..20 {
        assert_eq!(done(&hub, "disconnect", &all).await, 20);
    }
    assert_eq!(
        done(&hub, "sessions/count", &json!({"to":{"tenant":true}})).await,
        20
    );
    for client in &mut clients {
        assert!(client.until_pong().await.is_empty(), "its time has not come");
    }
    // A sooner order counts.
    let now = json!({"to":{"tenant":true},"spread_ms":1000,"code":4102});
    assert_eq!(done(&hub, "disconnect", &now).await, 20);
    for client in clients {
        assert_eq!(client.closed().await, (Some(4102), "disconnected".to_owned()));
    }
}

#[tokio::test]
async fn s4_10_what_operators_do_to_sessions_goes_on_record_before_it_is_done() {
    let hub = TestHub::start().await;
    let body = json!({ "to": { "user": "nobody" }, "reason": "bye", "code": 4999 });
    assert_eq!(done(&hub, "disconnect", &body).await, 0);
    let Receipt::Audit { entry } = hub.receipt().await else {
        panic!("the first receipt is the entry");
    };
    assert_eq!(
        (&*entry.action, entry.origin.credential_id.as_str()),
        ("session.disconnect", "operator")
    );
    assert_eq!(entry.tenant.as_ref(), Some(&entry.origin.tenant));
    let after = entry.after.unwrap();
    assert_eq!(
        (&after["to"]["user"], &after["how"]["code"]),
        (&json!("nobody"), &json!(4999))
    );
    hub.close_receipts().await;
    let refused = order(&hub, "disconnect", &body).await;
    assert_eq!(refused.status, 503, "nothing is done without its record");
}
