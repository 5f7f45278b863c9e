//! What a reviewer found: each of these was wrong once.

use common::policy::{HistoryBounds, HistoryPolicy, Rule, SlowPolicy};

use super::*;
use crate::support::until;

/// The id by which Redis knows the subscribing connection.
fn listener_of(server: &Server) -> String {
    let list = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
    let list = list.as_str().to_owned();
    list.split(' ').next().unwrap_or_default().to_owned()
}

/// Seconds since Redis got anything from the subscribing connection.
fn idle_of(server: &Server) -> u64 {
    let list = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
    let idle = list
        .as_str()
        .split(' ')
        .find_map(|field| field.strip_prefix("idle="));
    idle.unwrap().parse().unwrap()
}

/// A topic whose head cannot be read.
async fn poisoned(bus: &Bus, server: &Server, name: &str) -> TopicKey {
    let key = key(name);
    publish(bus, &key, 1).await.unwrap();
    let found = server.command(&["KEYS", &format!("*:m:*{name}")]).unwrap();
    let meta = found.as_list()[0].as_str().to_owned();
    server.command(&["SET", &meta, "no hash"]).unwrap();
    key
}

/// Another worker of the node has the topic already when it is joined with others.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_fails_takes_nothing_away_that_was_there_before() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    let bad = poisoned(&bus, &server, "bad").await;
    node.subscriptions
        .subscribe(&[key("a"), bad])
        .await
        .expect_err("the head of one cannot be read");
    assert_eq!(publish(&bus, &key("a"), 1).await.unwrap().nodes, 1);
    assert_eq!(node.message().await.key, key("a"));
}

/// Silence before the question is no silence of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_connection_has_the_whole_time_out_to_confirm() {
    let (server, mut config) = one_server(&Options::default()).await;
    config.timeout.0 = Duration::from_millis(600);
    config.probe_after.0 = Duration::from_secs(3);
    let bus = bus(&config).await;
    let node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    let before = listener_of(&server);
    // Quiet for longer than the time-out, which is nothing special: Redis counts whole seconds.
    until("the listener was quiet for a second", LONG, || {
        idle_of(&server) >= 1
    })
    .await;
    server.command(&["CLIENT", "PAUSE", "400", "ALL"]).unwrap();
    node.subscribe(&[key("b")]).await;
    assert_eq!(listener_of(&server), before, "it was not made anew");
}

/// Redis answers late: the topic was given up and is wanted again when the first confirmation comes.
#[tokio::test(flavor = "multi_thread")]
async fn confirmations_are_counted_when_a_topic_is_left_and_wanted_again_before_the_first() {
    let (server, mut config) = one_server(&Options::default()).await;
    config.timeout.0 = Duration::from_millis(300);
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    let before = listener_of(&server);
    server.command(&["CLIENT", "PAUSE", "450", "ALL"]).unwrap();
    node.subscriptions.subscribe(&[key("b")]).await.unwrap_err();
    node.subscribe(&[key("b")]).await;
    assert_eq!(listener_of(&server), before, "it was not made anew meanwhile");
    // Nothing is open any more, so nothing can be late, however often the connection is looked at: each second.
    until("it was looked at", LONG, || idle_of(&server) >= 3).await;
    assert_eq!(listener_of(&server), before, "all confirmations were counted");
    publish(&bus, &key("b"), 1).await.unwrap();
    assert_eq!(node.message().await.key, key("b"));
}

/// A topic's policy changes with a restart, or differs while nodes are updated one by one.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_value_topic_may_become_one_with_a_window() {
    let (_server, config) = one_server(&Options::default()).await;
    let policies = Policies::new(vec![Rule {
        pattern: "topic:*".to_owned(),
        tenant: None,
        history: HistoryPolicy::LastValue,
        bounds: HistoryBounds::default(),
        slow: SlowPolicy::default(),
        presence: false,
    }]);
    let before = connect(&config, BusLimits::default(), policies).await;
    let mut value = publication(&key("a"), 1);
    value.header.conflate = Some("EURUSD".to_owned());
    before.publish(value).await.unwrap();
    let after = bus(&config).await;
    let large = Publication {
        payload: Bytes::from(format!("{{\"x\":\"{}\"}}", "x".repeat(2000))),
        ..publication(&key("a"), 2)
    };
    let first = after.publish(large.clone()).await.expect("it is published");
    let again = after.publish(large).await.unwrap();
    assert!(again.repeated, "its key is known");
    assert_eq!(first.position, again.position);
}

/// A primary that is none any more says so, and WAIT is not for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_called_perhaps_done() {
    let (server, mut config) = one_server(&Options::default()).await;
    config.wait_replicas = Some(1);
    let bus = bus(&config).await;
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let refused = publish(&bus, &key("a"), 1).await.unwrap_err();
    assert!(!refused.to_string().contains("lost or stay"), "{refused}");
}

/// Each server has credentials of its own.
#[tokio::test(flavor = "multi_thread")]
async fn every_url_is_used_with_its_own_password() {
    let secrets = ["first", "second"];
    let servers = secrets.map(|_| Server::start(&Options::default()).unwrap());
    let urls: Vec<String> = servers
        .iter()
        .zip(secrets)
        .map(|(server, secret)| {
            server.command(&["CONFIG", "SET", "requirepass", secret]).unwrap();
            format!("redis://:{secret}@{}", server.address())
        })
        .collect();
    // Ready means that both are connected.
    bus(&config(RedisKind::Servers, &urls)).await;
}

/// A flush whose copies do not come in time costs its publishes, not the connection.
#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_late_do_not_cost_the_connection() {
    let (_server, mut config) = one_server(&Options::default()).await;
    config.timeout.0 = Duration::from_millis(400);
    // There is none, so that each flush waits as long as it may.
    config.wait_replicas = Some(1);
    let bus = bus(&config).await;
    let publishing: Vec<_> = (0..1600)
        .map(|number| {
            let bus = bus.clone();
            tokio::spawn(async move { publish(&bus, &key(&format!("q{number}")), number).await })
        })
        .collect();
    for one in publishing {
        let refused = one.await.unwrap().unwrap_err().to_string();
        // Of those that waited behind others some have had no time left.
        let known = ["too few replicas", "did not answer in time"];
        assert!(known.iter().any(|reason| refused.contains(reason)), "{refused}");
    }
}

/// History was evicted, its meta was not.
#[tokio::test(flavor = "multi_thread")]
async fn history_that_begins_anew_has_an_end() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    let found = server.command(&["KEYS", "*:h:*"]).unwrap();
    let history = found.as_list()[0].as_str().to_owned();
    server.command(&["DEL", &history]).unwrap();
    publish(&bus, &key("a"), 2).await.unwrap();
    let left = server.command(&["PTTL", &history]).unwrap().as_integer();
    assert!(left > Some(0), "it stays for ever: {left:?}");
}

/// What was published now can be read now, whatever the clock of its publisher says.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_clock_is_slow_has_a_history() {
    let (_server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut late = publication(&key("a"), 1);
    late.header.at -= 15 * 60 * 1000;
    bus.publish(late).await.unwrap();
    assert_eq!(bus.history(&key("a"), 0, 10).await.unwrap().messages.len(), 1);
}

/// Values of a last-value topic have grown old, and there are more than one read brings.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_grew_old_are_missing_also_where_history_is_read_in_parts() {
    let (_server, config) = one_server(&Options::default()).await;
    let policies = Policies::new(vec![Rule {
        pattern: "topic:*".to_owned(),
        tenant: None,
        history: HistoryPolicy::LastValue,
        bounds: HistoryBounds {
            age: Some(Duration::from_secs(1)),
            ..HistoryBounds::default()
        },
        slow: SlowPolicy::default(),
        presence: false,
    }]);
    let bus = connect(&config, BusLimits::default(), policies).await;
    let value = |number: usize| {
        let mut value = publication(&key("a"), number);
        value.header.conflate = Some(number.to_string());
        value
    };
    for result in bus.publish_many((0..6).map(value).collect()).await {
        result.unwrap();
    }
    eventually("they have grown old", LONG, async || {
        let history = bus.history(&key("a"), 0, 100).await.unwrap();
        history.messages.is_empty().then_some(())
    })
    .await;
    for result in bus.publish_many((6..12).map(value).collect()).await {
        result.unwrap();
    }
    for limit in [100, 4] {
        let history = bus.history(&key("a"), 0, limit).await.unwrap();
        assert_eq!(history.superseded_after, Some(6), "read by {limit}");
    }
}
