//! The stream of receipts, over real Redis servers.

mod ends;
mod failover;
mod faults;
mod stream;

use common::receipts::conformance;
use rig::redis::{Cluster, ClusterOptions, Options, Sentinel, SentinelOptions, Server};

use self::ends::Ends;

async fn keeps_its_promises(ends: impl Fn() -> Ends) {
    conformance::run(async || {
        let ends = ends();
        (ends.sink(), ends.stream("d1"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_over_one_server() {
    let server = Server::start(&Options::default()).unwrap();
    keeps_its_promises(|| Ends::on(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_over_sentinel() {
    let sentinel = Sentinel::start_with(&SentinelOptions::default()).unwrap();
    keeps_its_promises(|| Ends::on_sentinel(&sentinel)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_over_a_cluster() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    keeps_its_promises(|| Ends::on_cluster(&cluster)).await;
}
