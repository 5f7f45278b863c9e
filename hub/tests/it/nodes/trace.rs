//! Live traces over several nodes.

use std::time::Duration;

use common::config::Span;
use serde_json::{Value, json};

use super::{Island, bus, cluster, cluster_with, quick, sees};
use crate::{
    support::{TestHub, eventually, token},
    trace::Lines,
};

fn manager(user: &str) -> String {
    token(user, |new| new.roles = vec!["manager".to_owned()])
}

/// Publishes once, and gives what became of it where, up to as many sessions.
async fn outcomes(from: &TestHub, to: &Value, lines: &mut Lines, count: usize) -> Vec<String> {
    let sent = from.publish(&json!({"to":to,"data":"once"})).await;
    let id = sent["id"].as_str().unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let line = lines.next().await;
        if line["id"] == id && matches!(line["event"].as_str(), Some("sent" | "filtered")) {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            found.push(format!(
                "{} {} {} {}",
                text("event"),
                text("user"),
                text("reason"),
                text("node")
            ));
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_topic_shows_to_whom_it_went_on_every_node() {
    let hubs = cluster(3).await;
    let mut clients = Vec::new();
    for (at, user) in [(0, "ann"), (1, "bob"), (1, "cid"), (2, "dan")] {
        let mut client = hubs[at].connect(&manager(user)).await;
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
        clients.push(client);
    }
    let mut lines = Lines::begin(hubs[0].internal, "topic=public.a").await;
    let to = json!({"topic":"public.a","except":{"user":"cid"}});
    for hub in &hubs {
        hub.metric_reaches("hub_traces", 1.0).await;
    }
    let node = |at: usize| hubs[at].hub.node();
    let mut expected = [
        format!("sent ann  {}", node(0)),
        format!("sent bob  {}", node(1)),
        format!("filtered cid except {}", node(1)),
        format!("sent dan  {}", node(2)),
    ];
    expected.sort_unstable();
    assert_eq!(outcomes(&hubs[0], &to, &mut lines, 4).await, expected);
    // Published by another node, it is shown all the same, and as published once.
    assert_eq!(outcomes(&hubs[2], &to, &mut lines, 4).await, expected);
    for (client, messages) in clients.iter_mut().zip([true, true, false, true]) {
        assert_eq!(!client.until_pong().await.is_empty(), messages);
    }
}

#[tokio::test]
async fn a_user_is_followed_wherever_it_is() {
    let hubs = cluster(2).await;
    let mut lines = Lines::begin(hubs[0].internal, "user=ann").await;
    let role = json!({"role":"manager"});
    hubs[1].metric_reaches("hub_traces", 1.0).await;
    let ann = hubs[1].connect(&manager("ann")).await;
    let connected = lines.until_event("connected").await.pop().unwrap();
    assert_eq!(connected["session"], ann.session());
    assert_eq!(connected["node"], hubs[1].hub.node().as_str());
    let expected = [format!("sent ann  {}", hubs[1].hub.node())];
    assert_eq!(outcomes(&hubs[0], &role, &mut lines, 1).await, expected);
    assert_eq!(
        outcomes(&hubs[1], &json!({"user":"ann"}), &mut lines, 1).await,
        expected
    );
    let session = ann.session().to_owned();
    ann.close().await;
    let closed = lines.until_event("closed").await.pop().unwrap();
    assert_eq!(
        (&closed["session"], &closed["node"]),
        (&json!(session), &json!(hubs[1].hub.node().as_str()))
    );
}

/// A trace is over on every node when its reader goes, when its time is over, and when its node dies.
#[tokio::test]
async fn traces_end_everywhere() {
    let bus = bus();
    let hubs = cluster_with(1, &bus, |setup| {
        quick(setup);
        setup.config.traces = 1;
    })
    .await;
    let hub = &hubs[0];
    let mut ann = hub.connect(&manager("ann")).await;
    let to = json!({"role":"manager"});
    let helps = async |helped: bool| {
        eventually("the other trace begins, or ends", async || {
            (hub.metric("hub_traces") == f64::from(u8::from(helped))).then_some(())
        })
        .await;
    };
    for how in ["reader", "time", "stop", "death"] {
        let island = Island::start(&bus, quick).await;
        sees(hub, 2).await;
        let seconds = if how == "time" { "&seconds=2" } else { "" };
        let mut lines = Lines::begin(island.hub.internal, &format!("user=ann{seconds}")).await;
        helps(true).await;
        hub.publish(&json!({"to":to,"data":1})).await;
        let sent = lines.until_event("sent").await.pop().unwrap();
        assert_eq!(sent["node"], hub.hub.node().as_str(), "{how}");
        match how {
            "reader" => drop(lines),
            "time" => assert_eq!(lines.until_event("end").await.pop().unwrap()["reason"], "time"),
            "stop" => {
                assert!(island.hub.hub.drain(Duration::from_secs(10), false).await);
                assert_eq!(
                    lines.until_event("end").await.pop().unwrap()["reason"],
                    "stopping"
                );
            }
            _ => {}
        }
        if how == "death" {
            island.kill();
            helps(false).await;
        } else {
            helps(false).await;
            island.kill();
        }
        sees(hub, 1).await;
    }
    // Those of others take no place of its own.
    let _lines = Lines::begin(hub.internal, "user=ann").await;
    ann.until_pong().await;
}

#[tokio::test]
async fn nodes_that_come_later_take_part() {
    let bus = bus();
    let far_apart = |setup: &mut crate::support::Setup| {
        setup.config.announce = Span(Duration::from_secs(60));
    };
    let hubs = cluster_with(1, &bus, far_apart).await;
    let mut lines = Lines::begin(hubs[0].internal, "topic=public.a").await;
    let later = cluster_with_one_more(&bus, far_apart).await;
    let mut ann = later.user("ann").await;
    ann.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    ann.expect("subscribed").await;
    later.metric_reaches("hub_traces", 1.0).await;
    let expected = [format!("sent ann  {}", later.hub.node())];
    let to = json!({"topic":"public.a"});
    assert_eq!(outcomes(&hubs[0], &to, &mut lines, 1).await, expected);
}

async fn cluster_with_one_more(
    bus: &common::bus::Bus,
    change: impl FnOnce(&mut crate::support::Setup),
) -> TestHub {
    let hub = TestHub::with(|setup| {
        setup.bus = Some(bus.clone());
        change(setup);
    })
    .await;
    sees(&hub, 2).await;
    hub
}
