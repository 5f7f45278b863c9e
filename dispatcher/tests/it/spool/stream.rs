//! Into the spool: durable or refused, bounded, and each request once.

use rig::redis::ClusterOptions;

use dispatcher::spool::SpoolError;

use super::*;

fn repeat_of(new: &NewNotification) -> Accepted {
    Accepted::Repeat {
        status: 202,
        response: new.idempotency[0].response.clone(),
    }
}

#[tokio::test]
async fn s1_9_a_redis_that_forgets_takes_nothing_and_says_why() {
    for (lines, word) in [
        (&[][..], "appendonly no"),
        (
            &["appendonly yes", "appendfsync everysec"][..],
            "appendfsync everysec",
        ),
        (
            &[
                "appendonly yes",
                "appendfsync always",
                "maxmemory 100mb",
                "maxmemory-policy allkeys-lru",
            ][..],
            "allkeys-lru",
        ),
    ] {
        let options = lines
            .iter()
            .fold(Options::default(), |options, line| options.line(*line));
        let server = Server::start(&options).unwrap();
        let shared = Shared::on(&server);
        let spool = shared.node_as_it_is("a").await;
        eventually("the reason is known", async || {
            spool.unusable().filter(|reason| reason.contains(word))
        })
        .await;
        let error = spool.take(vec![row("u1")]).await.unwrap_err();
        assert!(
            matches!(&error, SpoolError::Away { reason } if reason.contains(word)),
            "{error}"
        );
        assert_eq!(number(&server, &["EXISTS", &shared.key("entries")]), 0);
    }
}

#[tokio::test]
async fn replicas_are_a_promise_too() {
    let primary = Server::start(&Options::default()).unwrap();
    let mut shared = Shared::on(&primary);
    shared.redis.wait_replicas = Some(1);
    let alone = shared.node_as_it_is("a").await;
    eventually("the reason is known", async || {
        alone
            .unusable()
            .filter(|reason| reason.contains("0 of 1 replicas"))
    })
    .await;
    assert!(alone.take(vec![row("u1")]).await.is_err());

    let replica = Options {
        replica_of: Some(primary.address()),
        ..Options::default()
    };
    let replica = Server::start(&replica).unwrap();
    let spool = shared.node("b").await;
    take_each(&spool, &rows("u1", 3)).await;
    assert_eq!(number(&replica, &["XLEN", &shared.key("entries")]), 3);
}

#[tokio::test]
async fn what_was_taken_outlives_redis() {
    let server = durable();
    let shared = Shared::on(&server);
    let spool = shared.node("a").await;
    let all = rows("u1", 20);
    take_each(&spool, &all).await;
    server.kill().unwrap();
    server.restart(Restart::WithData).unwrap();
    let world = World::new().await;
    let _drain = drain(&shared.node("b").await, &world.store);
    stored_in_order(&world.store, "u1", &all).await;
}

#[tokio::test]
async fn it_holds_so_much_and_then_is_full() {
    let server = durable();
    let mut shared = Shared::on(&server);
    shared.config.max_notifications = 10;
    let spool = shared.node("a").await;
    let all = rows("u1", 10);
    take_each(&spool, &all[..8]).await;
    assert_eq!(spool.take(rows("u1", 3)).await, Err(SpoolError::Full));
    assert_eq!(spool.take(all[8..].to_vec()).await.unwrap().len(), 2);
    assert_eq!(spool.take(vec![row("u1")]).await, Err(SpoolError::Full));

    let world = World::new().await;
    let drain = drain(&spool, &world.store);
    stored_in_order(&world.store, "u1", &all).await;
    eventually("there is room", async || spool.take(vec![row("u2")]).await.ok()).await;
    drop(drain);

    shared.config.max_bytes = Bytes(2000);
    let small = shared.node("b").await;
    let mut large = row("u3");
    large.content.content = "x".repeat(2000);
    assert_eq!(small.take(vec![large]).await, Err(SpoolError::Full));
}

#[tokio::test]
async fn an_idempotency_key_is_judged_as_it_is_taken() {
    let server = durable();
    let shared = Shared::on(&server);
    let (one, other) = (shared.node("a").await, shared.node("b").await);
    let first = keyed(row("u1"), "c", "k", "body");
    take_each(&one, std::slice::from_ref(&first)).await;
    let again = |body: &str, credential: &str| keyed(row("u1"), credential, "k", body);
    assert_eq!(
        other.take(vec![again("body", "c")]).await.unwrap(),
        [repeat_of(&first)]
    );
    assert_eq!(
        other.take(vec![again("other", "c")]).await.unwrap(),
        [Accepted::Mismatch]
    );
    let of_another = again("other", "d");
    take_each(&other, std::slice::from_ref(&of_another)).await;

    let world = World::new().await;
    let _drain = drain(&one, &world.store);
    stored_in_order(&world.store, "u1", &[first.clone(), of_another]).await;
    // The database judges from now on, and it was told what the spool had answered.
    let answers = world
        .store
        .accept(vec![again("body", "c"), again("other", "c")])
        .await
        .unwrap();
    assert_eq!(answers, [repeat_of(&first), Accepted::Mismatch]);
}

#[tokio::test]
async fn notifications_of_one_request_share_its_key_and_others_do_not() {
    let server = durable();
    let spool = Shared::on(&server).node("a").await;
    let own: Vec<_> = (0..3).map(|_| keyed(row("u1"), "c", "k", "body")).collect();
    assert_eq!(spool.take(own.clone()).await.unwrap(), vec![Accepted::Spooled; 3]);
    assert_eq!(
        spool.take(own.clone()).await.unwrap(),
        vec![repeat_of(&own[0]); 3]
    );

    let business: Vec<_> = ["x", "y", "x"]
        .map(|key| keyed(row("u1"), "", key, "same"))
        .into();
    assert_eq!(
        spool.take(business.clone()).await.unwrap(),
        [Accepted::Spooled, Accepted::Spooled, repeat_of(&business[0])]
    );
    let world = World::new().await;
    let _drain = drain(&spool, &world.store);
    let all: Vec<_> = own.iter().chain(&business[..2]).cloned().collect();
    stored_in_order(&world.store, "u1", &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_it_in_one_slot() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    let shared = Shared::on_cluster(&cluster);
    let (one, other) = (shared.node("a").await, shared.node("b").await);
    let all: Vec<_> = (0..20)
        .map(|number| keyed(row("u1"), "c", &format!("k{number}"), "body"))
        .collect();
    take_each(&one, &all[..10]).await;
    take_each(&other, &all[10..]).await;
    assert_eq!(
        one.take(vec![all[3].clone()]).await.unwrap(),
        [repeat_of(&all[3])]
    );
    let world = World::new().await;
    let _drains = (drain(&one, &world.store), drain(&other, &world.store));
    stored_in_order(&world.store, "u1", &all).await;
}
