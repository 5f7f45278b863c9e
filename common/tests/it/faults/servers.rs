//! One server: full, away, paused, without its scripts.

use rig::redis::Restart;

use super::*;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_refuses_publishes_and_changes_nothing() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    node.message().await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let refused = publish(&bus, &key("a"), 2).await.unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    assert!(bus.ready(), "what is there can be heard");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(
        publish(&bus, &key("a"), 3)
            .await
            .unwrap()
            .position
            .unwrap()
            .offset,
        2
    );
    assert_eq!(node.message().await.position.unwrap().offset, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_were_flushed_are_loaded_again() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    publish_surely(&bus, &key("a"), 2).await;
    assert_eq!(
        bus.heads(&[key("a")]).await[0].expect("the bus is there").offset,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_is_found_again_and_data_that_is_gone_is_a_new_epoch() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    let before = publish(&bus, &key("a"), 1).await.unwrap().position.unwrap();
    server.kill().unwrap();
    until("it is not ready", LONG, || !bus.ready()).await;
    let refused = publish(&bus, &key("a"), 2).await.unwrap_err();
    let BusError::Unavailable { retry_after, .. } = refused;
    assert!(!retry_after.is_zero());
    server.restart(Restart::Empty).unwrap();
    node.until_unsure().await;
    until("it is ready", LONG, || bus.ready()).await;
    let after = publish(&bus, &key("a"), 3).await.unwrap().position.unwrap();
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_paused_answers_nobody_and_nothing_waits_without_end() {
    let (server, mut config) = one_server(&Options::default()).await;
    config.timeout.0 = Duration::from_millis(500);
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    server.pause().unwrap();
    let refused = timeout(Duration::from_secs(5), publish(&bus, &key("a"), 1)).await;
    assert!(refused.expect("it is answered").is_err());
    until("it is not ready", LONG, || !bus.ready()).await;
    server.resume().unwrap();
    until("it is ready", LONG, || bus.ready()).await;
    // The key says whether the first was carried out after all.
    let published = publish_surely(&bus, &key("a"), 1).await;
    assert_eq!(published.position.unwrap().offset, 1);
    assert_eq!(node.message().await.position.unwrap().offset, 1);
}
