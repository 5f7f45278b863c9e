//! Hubs over a real Redis: what they do when it loses what it had acknowledged, is away, or comes back.

use std::time::Duration;

use common::{
    bus::RedisBus,
    config::Span,
    redis::{RedisConfig, RedisKind},
};
use rig::redis::{Connection, Options, Restart, Server};
use serde_json::{Value, json};

use crate::support::{Answer, Client, Handshake, TestHub, eventually, publisher, token};

/// A hub with a bus of its own over the server, as in a process of its own.
async fn hub(server: &Server, prefix: &str, head_check: Duration) -> TestHub {
    let mut config = RedisConfig::for_test(RedisKind::Servers, &[server.url()], prefix);
    config.timeout = Span(Duration::from_millis(500));
    let bus = RedisBus::for_test(&config);
    let hub = TestHub::with(|setup| {
        setup.bus = Some(bus);
        setup.config.head_check = Span(head_check);
    })
    .await;
    eventually("the hub is ready", async || hub.hub.ready().then_some(())).await;
    hub
}

fn redis(server: &Server) -> Connection {
    server.connect(Duration::from_secs(5)).unwrap()
}

/// What Redis has of the topics of a name: keys and their dumps.
fn dump(server: &Server, name: &str) -> Vec<(String, Vec<u8>)> {
    let mut connection = redis(server);
    let keys = connection.call(&["KEYS", &format!("*:t1:t:{name}")]).unwrap();
    let keys: Vec<String> = keys.as_list().iter().map(|key| key.as_str().to_owned()).collect();
    keys.into_iter()
        .map(|key| {
            let dump = connection.call(&["DUMP", &key]).unwrap();
            (key, dump.as_bytes().unwrap().to_vec())
        })
        .collect()
}

/// Puts it back: as a replica would have it that became primary before it had the rest.
fn restore(server: &Server, dump: &[(String, Vec<u8>)]) {
    let mut connection = redis(server);
    for (key, dump) in dump {
        let words: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), b"0", dump, b"REPLACE"];
        assert_eq!(connection.call(&words).unwrap().as_str(), "OK");
    }
}

async fn say(hub: &TestHub, topic: &str, number: u32) {
    hub.publish(&json!({"to":{"topic":topic},"data":number})).await;
}

async fn subscribed(hub: &TestHub, user: &str, topic: &str) -> Client {
    let mut client = hub.user(user).await;
    client.send(&json!({"type":"subscribe","topic":topic})).await;
    client.expect("subscribed").await;
    client
}

#[tokio::test]
async fn new_messages_are_no_repeats_where_a_fail_over_gives_offsets_again() {
    let server = Server::start(&Options::default()).unwrap();
    let hubs = [
        hub(&server, "again", Duration::from_secs(30)).await,
        hub(&server, "again", Duration::from_secs(30)).await,
    ];
    let topic = "public.again";
    let mut clients = [
        subscribed(&hubs[0], "a", topic).await,
        subscribed(&hubs[1], "b", topic).await,
    ];
    for number in 1..=5 {
        say(&hubs[0], topic, number).await;
    }
    let had = dump(&server, topic);
    assert_eq!(had.len(), 2, "meta and history");
    for number in 6..=8 {
        say(&hubs[1], topic, number).await;
    }
    let mut last = Value::Null;
    for client in &mut clients {
        for number in 1..=8 {
            let frame = client.expect("message").await;
            assert_eq!(frame["data"], number);
            last = frame["position"].clone();
        }
    }
    // The acknowledged 6 to 8 are lost with the primary; 6 is given again.
    restore(&server, &had);
    say(&hubs[0], topic, 100).await;
    for client in &mut clients {
        // The new message is told, or what stands for it; and nothing twice.
        let told = client.json().await;
        assert_eq!(told["type"], "resync", "{told}");
        assert_eq!(told["topics"], json!([format!("topic:{topic}")]));
    }
    // One epoch for all, from here on in order.
    for number in 101..=103 {
        say(&hubs[1], topic, number).await;
    }
    let mut epochs = Vec::new();
    for client in &mut clients {
        for number in 101..=103 {
            let frame = client.expect("message").await;
            assert_eq!(frame["data"], number);
            epochs.push(
                frame["position"]
                    .as_str()
                    .unwrap()
                    .split(':')
                    .next()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "{epochs:?}");
    assert!(!last.as_str().unwrap().starts_with(&epochs[0]));
    // Who comes back with a position of what was lost is told.
    let mut client = hubs[1].user("c").await;
    let positions = json!({format!("topic:{topic}"): last});
    client.send(&json!({"type":"resume","positions":positions})).await;
    let mut frames = Vec::new();
    while frames.last() != Some(&json!("recovered")) {
        frames.push(client.json().await["type"].clone());
    }
    assert!(frames.contains(&json!("resync")), "{frames:?}");
}

#[tokio::test]
async fn an_end_that_was_lost_in_silence_is_found_by_the_next_head_check() {
    let server = Server::start(&Options::default()).unwrap();
    let hub = hub(&server, "silent", Duration::from_secs(1)).await;
    let topic = "public.silent";
    let mut client = subscribed(&hub, "a", topic).await;
    say(&hub, topic, 1).await;
    let had = dump(&server, topic);
    say(&hub, topic, 2).await;
    for number in 1..=2 {
        assert_eq!(client.expect("message").await["data"], number);
    }
    restore(&server, &had);
    let told = client.expect("resync").await;
    assert_eq!(told["topics"], json!([format!("topic:{topic}")]));
}

#[tokio::test]
async fn while_redis_is_away_sockets_stay_and_nothing_is_dropped_in_silence() {
    let server = Server::start(&Options::default()).unwrap();
    let hub = hub(&server, "away", Duration::from_secs(30)).await;
    let topic = "public.away";
    let mut client = subscribed(&hub, "a", topic).await;
    say(&hub, topic, 1).await;
    assert_eq!(client.expect("message").await["data"], 1);
    server.kill().unwrap();
    eventually("the hub is not ready", async || (!hub.hub.ready()).then_some(())).await;
    assert_eq!(hub.hub.unready(), ["bus"]);
    let body = json!({"to":{"topic":topic},"data":2});
    let refused: Answer = hub.post("/api/v1/publish", &publisher(), &body).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    // A handshake is refused before the upgrade, and says when to come back.
    let refused = Client::attempt(hub.public, &Handshake::v1(&token("b", |_| ())))
        .await
        .answer;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    // The socket lives.
    client.send(&json!({"type":"ping"})).await;
    client.expect("pong").await;
    server.restart(Restart::Empty).unwrap();
    eventually("the hub is ready", async || hub.hub.ready().then_some(())).await;
    // All that Redis had is gone, which is told.
    let mut told: Vec<String> = Vec::new();
    while !told.contains(&format!("topic:{topic}")) {
        let frame = client.expect("resync").await;
        told.extend(serde_json::from_value::<Vec<String>>(frame["topics"].clone()).unwrap());
    }
    say(&hub, topic, 3).await;
    assert_eq!(client.expect("message").await["data"], 3);
    drop(hub.user("b").await);
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing_that_history_has() {
    let server = Server::start(&Options::default()).unwrap();
    let hub = hub(&server, "cut", Duration::from_secs(30)).await;
    let topics: Vec<String> = (0..8).map(|number| format!("public.{number}")).collect();
    let mut client = hub.user("a").await;
    for topic in &topics {
        client.send(&json!({"type":"subscribe","topic":topic})).await;
        client.expect("subscribed").await;
    }
    let mut killer = redis(&server);
    for number in 0..50_u32 {
        if number % 10 == 5 {
            killer.call(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
        }
        for topic in &topics {
            say(&hub, topic, number).await;
        }
    }
    let mut next = vec![0; topics.len()];
    while next.iter().any(|next| *next < 50) {
        let frame = client.expect("message").await;
        let name = frame["topic"].as_str().unwrap().trim_start_matches("topic:");
        let place = topics.iter().position(|topic| topic == name).unwrap();
        assert_eq!(frame["data"], next[place], "in order, once");
        next[place] += 1;
    }
}

/// Servers are independent: one that is away for long keeps nobody waiting who is heard over another.
#[tokio::test]
async fn what_was_missed_at_one_server_is_healed_at_once_while_another_is_away() {
    let servers = [(); 2].map(|()| Server::start(&Options::default()).unwrap());
    let urls = servers.each_ref().map(Server::url);
    let mut config = RedisConfig::for_test(RedisKind::Servers, &urls, "independent");
    config.timeout = Span(Duration::from_millis(500));
    let bus = RedisBus::for_test(&config);
    let hub = TestHub::with(|setup| {
        setup.bus = Some(bus);
        // No comparison but those after a loss.
        setup.config.head_check = Span(Duration::from_secs(3600));
    })
    .await;
    eventually("the hub is ready", async || hub.hub.ready().then_some(())).await;
    // Topics at both servers; the sessions' own are there, too.
    let mut client = hub.user("a").await;
    let mut topic = String::new();
    for number in 0..8 {
        let name = format!("public.i{number}");
        client.send(&json!({"type":"subscribe","topic":name})).await;
        client.expect("subscribed").await;
        say(&hub, &name, 0).await;
        client.expect("message").await;
        if !dump(&servers[0], &name).is_empty() {
            topic = name;
        }
    }
    servers[1].kill().unwrap();
    eventually("the hub is not ready", async || (!hub.hub.ready()).then_some(())).await;
    let mut killer = redis(&servers[0]);
    for number in 1..=5 {
        killer.call(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
        say(&hub, &topic, number).await;
        assert_eq!(client.expect("message").await["data"], number);
    }
}
