//! A transaction that has its positions and commits late: readers skip nothing, and who comes behind waits only where it has
//! to.

use super::*;
use crate::support::{eventually, soon};

/// The key of the lock that keeps the transaction open.
const LOCK: u32 = 7;

/// Ids of what the feed shows as new, in order.
fn shown(changes: &[dispatcher::model::Change]) -> Vec<NotificationId> {
    changes
        .iter()
        .filter_map(|change| match change {
            dispatcher::model::Change::Upsert(item) => Some(item.id),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_commit_is_skipped_by_no_reader() {
    let database = Database::shared();
    let config = database.config();
    let (first, second) = (
        Store::open(&config).await.unwrap(),
        Store::open(&config).await.unwrap(),
    );
    let me = known(&second, "u", &["r"]).await;
    let start = present(&second, &me).await;
    // Rows of the role wait inside their transaction, after the counter gave their position.
    let mut holder = database.administer();
    let key = role_key("r");
    holder
        .query(&format!(
            "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
               IF NEW.key = '{}' THEN PERFORM pg_advisory_xact_lock_shared({LOCK}); END IF; RETURN NEW; END $$; \
             CREATE TRIGGER wait_here BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION wait_here(); \
             SELECT pg_advisory_lock({LOCK})",
            key.as_str()
        ))
        .unwrap();
    let late = to(key.clone());
    let behind = to(key);
    let (late_id, behind_id) = (late.id, behind.id);
    let putting = tokio::spawn({
        let first = first.clone();
        async move { first.accept(vec![late]).await.unwrap() }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("it waits with its position", async || {
        (holder.value(waiting).unwrap().as_deref() == Some("1")).then_some(())
    })
    .await;

    // Another key's goes past it, and the reader's cursor with it.
    let other = soon("another key waits for nobody", put(&second, to(user_key("u")))).await;
    let part = changes(&second, &me, Some(&start), 100).await;
    assert_eq!(shown(&part.changes), [other]);
    // The same key's waits for it: else it would take a later position and be seen first.
    let following = tokio::spawn({
        let second = second.clone();
        async move { second.accept(vec![behind]).await.unwrap() }
    });
    eventually("the next one of the key waits", async || {
        (holder.value(waiting).unwrap().as_deref() == Some("2")).then_some(())
    })
    .await;
    let none = changes(&second, &me, Some(&part.cursor), 100).await;
    assert!(none.changes.is_empty(), "{none:?}");

    holder
        .query(&format!("SELECT pg_advisory_unlock({LOCK})"))
        .unwrap();
    soon("the late one", putting).await.unwrap();
    soon("the one behind", following).await.unwrap();
    let rest = changes(&second, &me, Some(&none.cursor), 100).await;
    assert_eq!(shown(&rest.changes), [late_id, behind_id]);
    let nothing = changes(&second, &me, Some(&rest.cursor), 100).await;
    assert!(nothing.changes.is_empty(), "{nothing:?}");
    assert_eq!(listed(&second, &me).await.len(), 3);
    first.close().await;
    second.close().await;
}
