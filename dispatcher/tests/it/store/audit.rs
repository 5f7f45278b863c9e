//! The audit log in both databases: written with the change, read by filter, and never changed.

use std::time::Duration;

use common::ids::TenantId;
use dispatcher::model::{AuditFilter, Channel, Micros, Pause, Revised};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use super::{Fresh, fresh, fresh_with};
use crate::support::{by, tenant};

fn pause(channel: Option<Channel>) -> Pause {
    Pause {
        tenant: Some(tenant()),
        channel,
        reason: Some("provider is down".to_owned()),
        paused_by: "op".to_owned(),
        paused_at: Micros::now(),
        ends_at: None,
    }
}

fn of_tenant() -> AuditFilter {
    AuditFilter {
        tenant: Some(tenant()),
        ..AuditFilter::default()
    }
}

/// Runs a statement past the store, as somebody with a client of the database would.
async fn past_the_store(store: &Fresh, statement: &str) -> Result<u64, sqlx::Error> {
    let statement = AssertSqlSafe(statement.to_owned());
    match &store.config.place {
        dispatcher::store::Place::File(path) => {
            let url = format!("sqlite://{}", path.display());
            let mut conn = SqliteConnection::connect(&url).await?;
            let done = sqlx::raw_sql(statement).execute(&mut conn).await;
            done.map(|done| done.rows_affected())
        }
        dispatcher::store::Place::Server(server) => {
            use secrecy::ExposeSecret;
            let mut conn = PgConnection::connect(server.url.expose_secret()).await?;
            let done = sqlx::raw_sql(statement).execute(&mut conn).await;
            done.map(|done| done.rows_affected())
        }
    }
}

#[tokio::test]
async fn s4_10_a_change_is_on_record_with_who_and_what() {
    let store = fresh().await;
    let mut origin = by("op");
    origin.address = Some("192.0.2.7".parse().unwrap());
    origin.request = Some("r-1".to_owned());
    let before = store.revisions().await.unwrap().of(Revised::Pauses);
    store.pause(pause(Some(Channel::Email)), &origin).await.unwrap();
    assert!(
        store
            .resume(Some(tenant()), Some(Channel::Email), &by("other"))
            .await
            .unwrap()
    );
    assert!(
        !store
            .resume(Some(tenant()), Some(Channel::Email), &by("other"))
            .await
            .unwrap()
    );
    assert_eq!(store.revisions().await.unwrap().of(Revised::Pauses), before + 2);

    let (entries, next) = store.audit(&of_tenant(), None, 10).await.unwrap();
    assert_eq!(next, None);
    let actions: Vec<&str> = entries.iter().map(|entry| &*entry.action).collect();
    assert_eq!(
        actions,
        ["queue.resume", "queue.pause"],
        "what changed nothing is no change"
    );
    let paused = &entries[1];
    assert_eq!(paused.origin, origin);
    assert_eq!(
        (&*paused.object_kind, paused.object_id.as_str()),
        ("channel", "email")
    );
    assert_eq!(paused.before, None);
    assert_eq!(paused.after.as_ref().unwrap()["reason"], "provider is down");
    assert_eq!(entries[0].before, paused.after);

    let (first, next) = store.audit(&of_tenant(), None, 1).await.unwrap();
    let (second, end) = store.audit(&of_tenant(), next, 1).await.unwrap();
    assert_eq!([first, second].concat(), entries);
    assert_eq!(end, None);
    let filters = [
        (
            AuditFilter {
                action: Some("queue.pause".to_owned()),
                ..of_tenant()
            },
            1,
        ),
        (
            AuditFilter {
                action: Some("queue".to_owned()),
                ..of_tenant()
            },
            2,
        ),
        (
            AuditFilter {
                action: Some("que".to_owned()),
                ..of_tenant()
            },
            0,
        ),
        (
            AuditFilter {
                who: Some("op".to_owned()),
                ..of_tenant()
            },
            1,
        ),
        (
            AuditFilter {
                object_kind: Some("channel".to_owned()),
                object_id: Some("email".to_owned()),
                ..of_tenant()
            },
            2,
        ),
        (
            AuditFilter {
                object_kind: Some("channel".to_owned()),
                object_id: Some("sms".to_owned()),
                ..of_tenant()
            },
            0,
        ),
        (
            AuditFilter {
                from: Some(Micros::now().plus(Duration::from_secs(60))),
                ..of_tenant()
            },
            0,
        ),
        (
            AuditFilter {
                to: Some(Micros(1)),
                ..of_tenant()
            },
            0,
        ),
        (
            AuditFilter {
                tenant: Some(TenantId::new("t2").unwrap()),
                ..AuditFilter::default()
            },
            0,
        ),
        (AuditFilter::default(), 2),
    ];
    for (filter, expected) in filters {
        let (found, _) = store.audit(&filter, None, 10).await.unwrap();
        assert_eq!(found.len(), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn s4_10_the_log_takes_no_change_and_no_deletion() {
    let store = fresh().await;
    store.pause(pause(None), &by("op")).await.unwrap();
    let (written, _) = store.audit(&of_tenant(), None, 10).await.unwrap();
    // A repeat of an entry that is there, as the stream of receipts may bring one.
    store.append_audit(written.clone()).await.unwrap();
    for statement in ["UPDATE audit SET username = 'nobody'", "DELETE FROM audit"] {
        let error = past_the_store(&store, statement).await.unwrap_err();
        assert!(error.to_string().contains("audit log"), "{error}");
    }
    if matches!(&store.config.place, dispatcher::store::Place::Server(_)) {
        let error = past_the_store(&store, "TRUNCATE audit").await.unwrap_err();
        assert!(error.to_string().contains("audit log"), "{error}");
    }
    assert_eq!(store.audit(&of_tenant(), None, 10).await.unwrap().0, written);
}

#[tokio::test]
async fn s4_10_entries_are_forgotten_at_their_time_and_not_before() {
    let store = fresh_with(|config| config.audit_retention = Duration::from_secs(3600)).await;
    store.pause(pause(None), &by("op")).await.unwrap();
    let mut old = by("op").did("queue.pause", "channel", "sms");
    old.at_us = Micros::now().minus(Duration::from_secs(3700)).0;
    store.append_audit(vec![old]).await.unwrap();
    assert_eq!(store.audit(&of_tenant(), None, 10).await.unwrap().0.len(), 2);
    assert_eq!(store.forget(100).await.unwrap(), 1);
    assert_eq!(store.forget(100).await.unwrap(), 0);
    let (left, _) = store.audit(&of_tenant(), None, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].object_id, "*");
}
