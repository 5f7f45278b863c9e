//! What PostgreSQL may answer besides success: what can be done again is done again, all else is said in bounded time and
//! changes nothing.

use std::time::{Duration, Instant};

use dispatcher::store::{Place, Server, StoreError};
use rig::{
    link::Link,
    postgres::{self, Connection},
};

use super::*;
use crate::support::{eventually, soon};

/// A store on a real PostgreSQL, and a superuser beside it.
struct Faulty {
    store: Store,
    superuser: Connection,
    _database: Database,
}

impl Faulty {
    async fn with(change: impl FnOnce(&mut Server)) -> Self {
        let database = Database::shared();
        let mut config = database.config();
        if let Place::Server(server) = &mut config.place {
            change(server);
        }
        Self {
            store: Store::open(&config).await.unwrap(),
            superuser: database.administer(),
            _database: database,
        }
    }

    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Inserts into this table do this first.
    fn inject(&mut self, table: &str, statement: &str) {
        let sql = format!(
            "CREATE SEQUENCE IF NOT EXISTS injected; \
             CREATE OR REPLACE FUNCTION inject() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ \
               BEGIN {statement}; RETURN NULL; END $$; \
             CREATE TRIGGER inject BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION inject()"
        );
        self.superuser.query(&sql).unwrap();
    }

    fn heal(&mut self, table: &str) {
        self.superuser
            .query(&format!("DROP TRIGGER inject ON {table}"))
            .unwrap();
    }
}

/// Fails as often as said with this SQLSTATE: a sequence counts through rollbacks.
fn failing(code: &str, times: u32) -> String {
    format!(
        "IF nextval('injected') <= {times} THEN RAISE EXCEPTION 'injected' USING ERRCODE = '{code}'; END IF"
    )
}

#[tokio::test]
async fn serialisation_failures_deadlocks_and_locks_are_tried_again() {
    for code in ["40001", "40P01", "55P03"] {
        let mut faulty = Faulty::new().await;
        let me = reader("u", &[]);
        faulty.inject("notifications", &failing(code, 2));
        let id = put(&faulty.store, to(user_key("u"))).await;
        assert_eq!(listed(&faulty.store, &me).await, [id], "{code}");
        // A group of many fails as one, and each of them is there in the end.
        faulty.superuser.query("ALTER SEQUENCE injected RESTART").unwrap();
        let many = (0..20).map(|_| {
            let store = faulty.store.clone();
            tokio::spawn(async move { put(&store, to(user_key("u"))).await })
        });
        for one in many.collect::<Vec<_>>() {
            soon("the put", one).await.unwrap();
        }
        assert_eq!(listed(&faulty.store, &me).await.len(), 21, "{code}");
        assert_eq!(faulty.store.unread_count(&me).await.unwrap(), 21, "{code}");
    }
}

#[tokio::test]
async fn a_settlement_meets_a_serialisation_failure_and_is_stored() {
    let mut faulty = Faulty::new().await;
    let id = put(&faulty.store, mailed("u")).await;
    let claimed = faulty.store.claim(ask(Lane::Medium, 1)).await.unwrap().remove(0);
    faulty.inject("delivery_history", &failing("40001", 2));
    let settled = dispatcher::model::Settlement {
        delivery: claimed.id,
        token: claimed.token,
        state: DeliveryState::Delivered,
        due_at: None,
        reason: None,
        outcome: None,
        response: None,
    };
    assert_eq!(faulty.store.settle(vec![settled]).await.unwrap(), [true]);
    let (_, deliveries) = faulty.store.notification(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(deliveries[0].state, DeliveryState::Delivered);
}

/// On several threads: what was read has to end its transaction while this one waits for the table's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_the_new_and_keeps_the_old() {
    let mut faulty = Faulty::new().await;
    let me = reader("u", &[]);
    let old = put(&faulty.store, to(user_key("u"))).await;
    faulty.inject("notifications", "RAISE EXCEPTION 'full' USING ERRCODE = '53100'");
    let refused = faulty.store.accept(vec![to(user_key("u"))]).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert_eq!(listed(&faulty.store, &me).await, [old]);
    faulty.heal("notifications");
    let new = put(&faulty.store, to(user_key("u"))).await;
    assert_eq!(listed(&faulty.store, &me).await, [new, old]);
}

#[tokio::test]
async fn a_slow_statement_is_given_up_in_time() {
    let limit = Duration::from_millis(300);
    let mut faulty = Faulty::with(|server| server.statement_timeout = limit).await;
    faulty.inject("notifications", "PERFORM pg_sleep(60)");
    let begin = Instant::now();
    let refused = faulty.store.accept(vec![to(user_key("u"))]).await;
    let took = begin.elapsed();
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(took >= limit && took < Duration::from_secs(10), "{took:?}");
    faulty.heal("notifications");
    put(&faulty.store, to(user_key("u"))).await;
    assert_eq!(listed(&faulty.store, &reader("u", &[])).await.len(), 1);
}

#[tokio::test]
async fn a_lock_that_somebody_keeps_is_not_waited_for_for_ever() {
    let limit = Duration::from_millis(50);
    let mut faulty = Faulty::with(|server| server.lock_timeout = limit).await;
    faulty
        .superuser
        .query("BEGIN")
        .and_then(|_| faulty.superuser.query("LOCK TABLE notifications"))
        .unwrap();
    let refused = soon("an answer", faulty.store.accept(vec![to(user_key("u"))])).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    faulty.superuser.query("ROLLBACK").unwrap();
    put(&faulty.store, to(user_key("u"))).await;
    assert_eq!(listed(&faulty.store, &reader("u", &[])).await.len(), 1);
}

#[tokio::test]
async fn without_connections_the_new_is_refused_and_comes_through_when_there_are_some() {
    let mut faulty = Faulty::new().await;
    let old = put(&faulty.store, to(user_key("u"))).await;
    faulty
        .superuser
        .query(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()); END $$; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .unwrap();
    // Each writer notices for itself.
    for _ in 0..4 {
        let refused = soon("an answer", faulty.store.accept(vec![to(user_key("u"))])).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable { .. })),
            "{refused:?}"
        );
    }
    faulty
        .superuser
        .query(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT -1', current_database()); END $$",
        )
        .unwrap();
    let new = put(&faulty.store, to(user_key("u"))).await;
    assert_eq!(listed(&faulty.store, &reader("u", &[])).await, [new, old]);
}

#[tokio::test]
async fn connections_that_ended_meanwhile_are_in_nobodys_way() {
    let mut faulty = Faulty::new().await;
    let me = reader("u", &[]);
    let mut stored = 0;
    for _ in 0..3 {
        // All of them are made and used.
        let many = (0..8).map(|_| {
            let store = faulty.store.clone();
            tokio::spawn(async move { put(&store, to(user_key("u"))).await })
        });
        for one in many.collect::<Vec<_>>() {
            soon("the put", one).await.unwrap();
            stored += 1;
        }
        faulty.store.claim(ask(Lane::Medium, 1)).await.unwrap();
        assert_eq!(listed(&faulty.store, &me).await.len(), stored);
        faulty
            .superuser
            .query(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .unwrap();
    }
    faulty.store.claim(ask(Lane::Medium, 1)).await.unwrap();
    assert_eq!(listed(&faulty.store, &me).await.len(), stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_fail_over_the_promoted_replica_goes_on_where_the_primary_was() {
    let (primary, replica, url) = tokio::task::spawn_blocking(|| {
        let options = postgres::Options::fast().setting("wal_level", "replica");
        let primary = postgres::Server::start(&options).unwrap();
        let url = primary.create_database("carillon").unwrap();
        let replica = postgres::Server::replica(&primary).unwrap();
        (primary, replica, url)
    })
    .await
    .unwrap();
    let link = Link::to(primary.address()).unwrap();
    let url = url.replace(&primary.address().to_string(), &link.address().to_string());
    let store = Store::open(&StoreConfig::server(url)).await.unwrap();
    let me = reader("u", &[]);
    let cursor = present(&store, &me).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(put(&store, to(user_key("u"))).await);
    }
    let (primary, replica) = tokio::task::spawn_blocking(move || {
        replica.catch_up(&primary).unwrap();
        primary.kill().unwrap();
        (primary, replica)
    })
    .await
    .unwrap();
    let refused = soon("an answer", store.accept(vec![to(user_key("u"))])).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    let replica = tokio::task::spawn_blocking(move || {
        replica.promote().unwrap();
        replica
    })
    .await
    .unwrap();
    link.turn_to(replica.address());
    ids.push(
        eventually("the promoted one takes it", async || {
            let new = to(user_key("u"));
            let id = new.id;
            store.accept(vec![new]).await.ok().map(|_| id)
        })
        .await,
    );
    let feed = changes(&store, &me, Some(&cursor), 100).await.changes;
    assert_eq!(feed.len(), 21, "{feed:?}");
    ids.reverse();
    assert_eq!(listed(&store, &me).await, ids);
    store.close().await;
    drop(primary);
}

#[tokio::test]
async fn a_store_that_is_gone_leaves_no_connection() {
    let Faulty {
        store,
        mut superuser,
        _database,
    } = Faulty::new().await;
    let mut connections = || {
        let count = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        superuser.value(count).unwrap().unwrap()
    };
    put(&store, to(user_key("u"))).await;
    // The one that listens for hints is made in the background.
    eventually("there are the writers' and more", async || {
        (connections().parse::<u32>().unwrap() > 5).then_some(())
    })
    .await;
    store.close().await;
    drop(store);
    eventually("all are gone", async || (connections() == "0").then_some(())).await;
}
