//! Out of the spool: in order, once, by one drainer.

use common::ids::NotificationId;
use futures_util::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_several_nodes_spool_and_all_is_stored_once_in_order() {
    let server = durable();
    let shared = Shared::on(&server);
    let nodes = join_all(["a", "b", "c"].map(|name| shared.node(name))).await;
    let all: Vec<Vec<NewNotification>> = (0..12).map(|user| rows(&format!("u{user}"), 50)).collect();
    let world = World::new().await;
    // Some while it is drained.
    let _drains: Vec<_> = nodes.iter().map(|node| drain(node, &world.store)).collect();
    join_all(all.iter().enumerate().map(async |(number, of_user)| {
        for (turn, new) in of_user.iter().enumerate() {
            let node = &nodes[(number + turn) % nodes.len()];
            assert_eq!(node.take(vec![new.clone()]).await.unwrap(), [Accepted::Spooled]);
        }
    }))
    .await;
    for (number, of_user) in all.iter().enumerate() {
        stored_in_order(&world.store, &format!("u{number}"), of_user).await;
    }
    eventually("it is counted", async || {
        (shared.metrics.drained.get() == 600).then_some(())
    })
    .await;
    assert_eq!(shared.metrics.spooled.get(), 600);
    assert_eq!(shared.metrics.created.get(), 600);
    eventually("nothing is left", async || {
        (number(&server, &["XLEN", &shared.key("entries")]) == 0).then_some(())
    })
    .await;
    assert_eq!(
        number(
            &server,
            &["EXISTS", &shared.key("state"), &shared.key("outcomes")]
        ),
        0
    );
}

#[tokio::test]
async fn a_full_database_is_waited_for() {
    let server = durable();
    let shared = Shared::on(&server);
    let spool = shared.node("a").await;
    let folder = tempfile::tempdir().unwrap();
    let config = dispatcher::store::StoreConfig::new(folder.path().join("full.db"));
    let store = Store::open(&config).await.unwrap();
    store.limit_size(Some(64 * 1024)).await.unwrap();
    let _drain = drain(&spool, &store);
    let all = rows("u1", 300);
    take_each(&spool, &all).await;
    eventually("it is full", async || {
        (shared.metrics.drain_errors.get() >= 3).then_some(())
    })
    .await;
    assert!(spool.away().is_down());
    store.limit_size(None).await.unwrap();
    stored_in_order(&store, "u1", &all).await;
    eventually("it is back", async || (!spool.away().is_down()).then_some(())).await;
}

#[tokio::test]
async fn an_unclear_commit_is_settled_by_its_id() {
    let server = durable();
    let spool = Shared::on(&server).node("a").await;
    let world = World::new().await;
    let all: Vec<_> = rows("u1", 3)
        .into_iter()
        .chain([keyed(row("u1"), "c", "k", "body")])
        .chain(rows("u1", 2))
        .collect();
    // The second, and the one with a key, are committed; nobody was told.
    for committed in [&all[1], &all[3]] {
        world.store.accept(vec![committed.clone()]).await.unwrap();
    }
    take_each(&spool, &all).await;
    let _drain = drain(&spool, &world.store);
    eventually("all is stored", async || {
        (stored(&world.store, "u1").await.len() == 6).then_some(())
    })
    .await;
    let order: Vec<NotificationId> = [1, 3, 0, 2, 4, 5].map(|at| all[at].id).into();
    assert_eq!(stored(&world.store, "u1").await, order);
}

#[tokio::test]
async fn accepted_is_accepted_though_the_key_turns_out_to_be_taken() {
    let server = durable();
    let spool = Shared::on(&server).node("a").await;
    let world = World::new().await;
    let before = keyed(row("u1"), "c", "k", "body");
    world.store.accept(vec![before.clone()]).await.unwrap();
    let (repeat, other) = (
        keyed(row("u1"), "c", "k", "body"),
        keyed(row("u1"), "c", "l", "body"),
    );
    let mut mismatch = keyed(row("u1"), "d", "k", "body");
    world
        .store
        .accept(vec![keyed(row("u2"), "d", "k", "another")])
        .await
        .unwrap();
    mismatch.content.title = "m".to_owned();
    for new in [&repeat, &mismatch, &other] {
        take_each(&spool, std::slice::from_ref(new)).await;
    }
    let _drain = drain(&spool, &world.store);
    eventually("the last one is stored", async || {
        stored(&world.store, "u1").await.contains(&other.id).then_some(())
    })
    .await;
    eventually("the mismatch is stored", async || {
        stored(&world.store, "u1")
            .await
            .contains(&mismatch.id)
            .then_some(())
    })
    .await;
    // The repeat's request was carried out before.
    assert_eq!(stored(&world.store, "u1").await.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_holds_nobody_up() {
    let server = durable();
    let shared = Shared::on(&server);
    let spool = shared.node("a").await;
    let all = rows("u1", 4);
    take_each(&spool, &all[..2]).await;
    for fields in [["v", "1", "n", "{}"], ["v", "9", "n", "x"]] {
        let entries = shared.key("entries");
        let mut words = vec!["XADD", entries.as_str(), "*"];
        words.extend(fields);
        server.command(&words).unwrap();
    }
    take_each(&spool, &all[2..]).await;
    let world = World::new().await;
    let _drain = drain(&spool, &world.store);
    stored_in_order(&world.store, "u1", &all).await;
    assert_eq!(number(&server, &["XLEN", &shared.key("aside")]), 2);
}

#[tokio::test]
async fn who_lost_the_lease_takes_nothing_out() {
    let server = durable();
    let shared = Shared::on(&server);
    let spool = shared.node("a").await;
    let all = rows("u1", 5);
    take_each(&spool, &all).await;
    // Another one is the drainer; it died a moment ago.
    server
        .command(&["SET", &shared.key("drainer"), "77", "PX", "1500"])
        .unwrap();
    server.command(&["SET", &shared.key("fence"), "77"]).unwrap();
    let world = World::new().await;
    let _drain = drain(&spool, &world.store);
    stored_in_order(&world.store, "u1", &all).await;
    assert_eq!(number(&server, &["GET", &shared.key("fence")]), 78);
}

#[tokio::test]
async fn while_redis_restarts_draining_waits() {
    let server = durable();
    let mut shared = Shared::on(&server);
    shared.redis.timeout = Span(Duration::from_millis(500));
    let spool = shared.node("a").await;
    let all = rows("u1", 100);
    take_each(&spool, &all).await;
    server.kill().unwrap();
    let world = World::new().await;
    let _drain = drain(&spool, &world.store);
    eventually("redis is away", async || spool.unusable()).await;
    server.restart(Restart::WithData).unwrap();
    stored_in_order(&world.store, "u1", &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_too_there_comes_an_end() {
    let server = durable();
    let shared = Shared::on(&server);
    let nodes = join_all(["a", "b"].map(|name| shared.node(name))).await;
    let world = World::new().await;
    take_each(&nodes[0], &rows("u0", 50)).await;
    // Everybody who comes goes behind those, at once and all the time, until there is nothing to go behind.
    let behind = join_all((1..=64).map(async |user| {
        let (node, user) = (&nodes[user % 2], format!("u{user}"));
        let mut all = Vec::new();
        loop {
            let new = row(&user);
            match node.behind(vec![new.clone()]).await.unwrap() {
                Some(answers) => assert_eq!(answers, [Accepted::Spooled]),
                None => return (user, all),
            }
            all.push(new);
        }
    }));
    let drains = async {
        // Those have queued up behind the first ones.
        eventually("all have come", async || {
            (shared.metrics.spooled.get() >= 50 + 4 * 64).then_some(())
        })
        .await;
        nodes
            .iter()
            .map(|node| drain(node, &world.store))
            .collect::<Vec<_>>()
    };
    let (logs, _drains) = crate::support::soon("it ends", async { tokio::join!(behind, drains) }).await;
    for (user, all) in logs {
        stored_in_order(&world.store, &user, &all).await;
    }
}
