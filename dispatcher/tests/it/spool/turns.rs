//! Nothing overtakes what is spooled, on no node.

use dispatcher::spool::{SpoolError, Turn};
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn s1_9_who_answered_is_overtaken_on_no_node() {
    let server = durable();
    let shared = Shared::on(&server);
    let (one, other) = (shared.node("a").await, shared.node("b").await);
    let world = World::new().await;
    for _ in 0..5 {
        eventually("both store directly", async || {
            (one.turn().await == Turn::Direct && other.turn().await == Turn::Direct).then_some(())
        })
        .await;
        take_each(&one, &[row("u1")]).await;
        assert_eq!(other.turn().await, Turn::Behind);
        assert_eq!(one.turn().await, Turn::Behind);
        let behind = other.behind(vec![row("u1")]).await.unwrap();
        assert_eq!(behind, Some(vec![Accepted::Spooled]));
        let drain = drain(&other, &world.store);
        eventually("it is drained", async || {
            (!one.is_open() && !other.is_open()).then_some(())
        })
        .await;
        drop(drain);
    }
    assert_eq!(stored(&world.store, "u1").await.len(), 10);
}

#[tokio::test]
async fn behind_nothing_one_stores_directly() {
    let server = durable();
    let shared = Shared::on(&server);
    let spool = shared.node("a").await;
    assert_eq!(spool.behind(vec![row("u1")]).await, Ok(None));
    assert_eq!(spool.turn().await, Turn::Direct);
    assert_eq!(number(&server, &["EXISTS", &shared.key("entries")]), 0);
}

#[tokio::test]
async fn a_node_that_died_holds_nobody_up_for_long() {
    let server = durable();
    let shared = Shared::on(&server);
    let dead = shared.node("dead").await;
    let spool = shared.node("a").await;
    assert_eq!(dead.turn().await, Turn::Direct);
    drop(dead);
    let begin = Instant::now();
    take_each(&spool, &[row("u1")]).await;
    let first = begin.elapsed();
    assert!(first < Duration::from_secs(3), "{first:?}");
    let begin = Instant::now();
    take_each(&spool, &rows("u1", 10)).await;
    assert!(
        begin.elapsed() < first + Duration::from_secs(1),
        "only the first one waits"
    );
}

#[tokio::test]
async fn without_redis_a_node_stores_unless_it_knows_that_something_waits() {
    let server = durable();
    let mut shared = Shared::on(&server);
    shared.redis.timeout = Span(Duration::from_millis(300));
    let spool = shared.node("a").await;
    server.pause().unwrap();
    eventually("redis is away", async || spool.unusable()).await;
    assert_eq!(spool.turn().await, Turn::Direct);
    assert!(matches!(
        spool.take(vec![row("u1")]).await,
        Err(SpoolError::Away { .. })
    ));
    server.resume().unwrap();
    eventually("redis is back", async || spool.unusable().is_none().then_some(())).await;
    take_each(&spool, &[row("u1")]).await;
    server.pause().unwrap();
    eventually("redis is away", async || spool.unusable()).await;
    assert_eq!(spool.turn().await, Turn::Refused);
    server.resume().unwrap();
    eventually("redis is back", async || {
        (spool.turn().await == Turn::Behind).then_some(())
    })
    .await;
}
