//! A key that many have: what its readers do never touches its counter.

use std::time::Duration;

use super::*;

/// On PostgreSQL, whichever database the others run on, as SQLite has one writer anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keys_counter_is_written_by_what_arrives_and_not_by_who_reads() {
    let database = Database::shared();
    let store = Store::open(&database.config()).await.unwrap();
    let hot = role_key("staff");
    let mut superuser = database.administer();
    superuser
        .query(
            "CREATE TABLE written (key TEXT); \
             CREATE FUNCTION note_key() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ \
               BEGIN INSERT INTO written VALUES (NEW.key); RETURN NULL; END $$; \
             CREATE TRIGGER note_key AFTER INSERT OR UPDATE ON counters FOR EACH ROW EXECUTE FUNCTION note_key()",
        )
        .unwrap();
    let mut written = |key: &TopicKey| -> u32 {
        let sql = format!("SELECT count(*) FROM written WHERE key = '{}'", key.as_str());
        superuser.value(&sql).unwrap().unwrap().parse().unwrap()
    };
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(put(&store, to(hot.clone())).await);
    }
    // A thousand in one call are one commit.
    store
        .accept((0..1000).map(|_| to(hot.clone())).collect())
        .await
        .unwrap();
    assert_eq!(written(&hot), 4);

    let mut reading = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (store, ids) = (store.clone(), ids.clone());
        reading.spawn(async move {
            let me = known(&store, &format!("u{number}"), &["staff"]).await;
            let until = Micros::now().plus(Duration::from_hours(1));
            for (id, what) in ids.iter().cycle().zip([
                Mark::Delivered,
                Mark::Seen,
                Mark::Read,
                Mark::Archived,
                Mark::Unarchived,
                Mark::Snoozed(until),
                Mark::Unread,
                Mark::Woken(until),
                Mark::Deleted,
            ]) {
                mark(&store, &me, *id, what).await;
            }
            store.mark_all_read(&me, None).await.unwrap();
            assert_eq!(store.unread_count(&me).await.unwrap(), 0);
        });
    }
    while let Some(done) = reading.join_next().await {
        done.unwrap();
    }
    assert_eq!(written(&hot), 4, "readers write nothing of the key's");
    assert!(written(&user_key("u7")) > 0, "but of their own");
}
