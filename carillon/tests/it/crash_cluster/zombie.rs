//! Of two dispatchers on PostgreSQL one stands still or dies in the middle of a call.

use std::time::{Duration, Instant};

use rig::{
    carillon::{Node, Service},
    postgres,
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::{PATIENCE, durable_redis, settings, sink::HookSink};
use crate::support::{
    client::Client,
    cluster::{Common, post, token},
    eventually,
};

/// A worker that is silent so long loses what it held.
const LEASE: Duration = Duration::from_secs(2);

/// Two dispatchers, of which the first has called the held sink.
struct Pair {
    hooks: HookSink,
    dispatchers: [Node; 2],
    token: String,
    id: String,
    _postgres: postgres::Server,
    _redis: rig::redis::Server,
}

impl Pair {
    async fn in_a_call() -> Self {
        let hooks = HookSink::held().await;
        let postgres = postgres::Server::start(&postgres::Options::fast()).unwrap();
        let redis = durable_redis();
        let url = postgres.create_database("carillon").unwrap();
        let common = Common::on(&redis).with(&settings(&url, "2s"));
        // Alone, so that it is the one that calls.
        let first = common.start(Service::Dispatcher);
        let token = token(&first, "sender", "notifications:write service");
        let body = json!({
            "to": {"user": "u1"}, "title": "t", "content": "number 1 complete",
            "channels": ["webhook"], "recipients": [hooks.url()],
        });
        let answer = post(first.address(), "/api/v1/notifications", &token, &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        hooks.reaches(1).await;
        let second = common.start(Service::Dispatcher);
        Self {
            hooks,
            dispatchers: [first, second],
            token,
            id,
            _postgres: postgres,
            _redis: redis,
        }
    }

    /// The one delivery, as a dispatcher shows it.
    async fn delivery(&self, by: usize) -> Value {
        let mut client = Client::connect(self.dispatchers[by].address()).await.unwrap();
        let path = format!("/api/v1/notifications/{}/status", self.id);
        let status = client.get(&path, Some(&self.token)).await.unwrap().json();
        status["deliveries"][0].clone()
    }

    /// The other one has delivered it, after an attempt of which nobody knows.
    async fn taken_over(&self) {
        eventually("the other one delivers it", PATIENCE, async || {
            (self.delivery(1).await["state"] == "delivered").then_some(())
        })
        .await;
        let delivery = self.delivery(1).await;
        let outcomes: Vec<_> = delivery["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| attempt["outcome"].clone())
            .collect();
        assert_eq!(outcomes, ["unknown", "delivered"], "{delivery}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatcher_that_stood_still_finishes_nothing_that_it_lost() {
    let pair = Pair::in_a_call().await;
    block_in_place(|| pair.dispatchers[0].pause()).unwrap();
    // The second call gets its answer; the first one's would be a failure, to be tried again.
    pair.hooks.reaches(2).await;
    pair.hooks.answer(1, 200);
    pair.taken_over().await;
    let before = pair.delivery(1).await;
    pair.hooks.answer(0, 500);
    block_in_place(|| pair.dispatchers[0].resume()).unwrap();
    eventually("it sees that its lease is lost", PATIENCE, async || {
        let mut client = Client::connect(pair.dispatchers[0].internal()).await.ok()?;
        let answer = client.get("/metrics", None).await.ok()?;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let line = text.lines().find(|line| line.contains("leases_lost_total "))?;
        line.split(' ')
            .nth(1)
            .is_some_and(|count| count != "0")
            .then_some(())
    })
    .await;
    assert_eq!(pair.delivery(0).await, before);
    assert_eq!(pair.hooks.calls()[&1].len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_dispatcher_held_goes_on_within_one_and_a_half_leases() {
    let pair = Pair::in_a_call().await;
    let killed = Instant::now();
    block_in_place(|| pair.dispatchers[0].kill()).unwrap();
    pair.hooks.reaches(2).await;
    let after = killed.elapsed();
    println!(
        "rescue after kill -9: {:.2} s of a lease of {} s",
        after.as_secs_f64(),
        LEASE.as_secs()
    );
    // And what a busy machine takes.
    assert!(after < LEASE * 3 / 2 + Duration::from_secs(1), "{after:?}");
    pair.hooks.answer(1, 200);
    pair.taken_over().await;
    assert_eq!(pair.hooks.calls()[&1].len(), 2);
}
