//! Rescue against complete, on two connections: whoever has the row first is the only one, in either order (River #1302).

use super::{
    queue::{begin, hold, one, rescue, settle, shown},
    *,
};
use crate::support::{eventually, soon};

/// The key of the lock that keeps a transaction open.
const LOCK: u32 = 7;

/// A delivery whose worker and whose rescuer are two processes; the one that ends its attempt so waits inside its transaction.
struct Race {
    worker: Store,
    rescuer: Store,
    claimed: dispatcher::model::Claimed,
    holder: rig::postgres::Connection,
    _database: Database,
}

impl Race {
    async fn held_at(outcome: &str) -> Self {
        let database = Database::shared();
        let config = database.config();
        let (worker, rescuer) = (
            Store::open(&config).await.unwrap(),
            Store::open(&config).await.unwrap(),
        );
        put(&worker, mailed("u")).await;
        let claimed = one(&worker).await;
        begin(&worker, &claimed).await;
        let mut holder = database.administer();
        holder
            .query(&format!(
                "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
                   IF NEW.outcome = '{outcome}' THEN PERFORM pg_advisory_xact_lock_shared({LOCK}); END IF; RETURN NEW; END $$; \
                 CREATE TRIGGER wait_here BEFORE UPDATE ON attempts FOR EACH ROW EXECUTE FUNCTION wait_here(); \
                 SELECT pg_advisory_lock({LOCK})"
            ))
            .unwrap();
        Self {
            worker,
            rescuer,
            claimed,
            holder,
            _database: database,
        }
    }

    /// Waits until so many transactions wait for a lock.
    async fn waiting(&mut self, number: &str) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("they wait", async || {
            (self.holder.value(sql).unwrap().as_deref() == Some(number)).then_some(())
        })
        .await;
    }

    fn go_on(&mut self) {
        let sql = format!("SELECT pg_advisory_unlock({LOCK})");
        self.holder.query(&sql).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_completes_first_is_not_rescued() {
    let mut race = Race::held_at("delivered").await;
    let completing = tokio::spawn({
        let (worker, claimed) = (race.worker.clone(), race.claimed.clone());
        async move { settle(&worker, &claimed, DeliveryState::Delivered).await }
    });
    race.waiting("1").await;
    // The lease has run out meanwhile; the rescue waits for nobody, and takes nothing that somebody has.
    let rescued = soon("the rescue", rescue(&race.rescuer, hold)).await;
    assert_eq!((rescued.released, rescued.unknown), (0, 0));
    race.go_on();
    assert!(soon("the completion", completing).await.unwrap());
    let rescued = rescue(&race.rescuer, hold).await;
    assert_eq!((rescued.released, rescued.unknown), (0, 0));
    let shown = shown(&race.rescuer, &race.claimed).await;
    assert_eq!(shown.state, DeliveryState::Delivered);
    assert_eq!(shown.attempts.len(), 1);
    assert_eq!(shown.attempts[0].outcome.as_deref(), Some("delivered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_rescued_first_completes_nothing() {
    let mut race = Race::held_at("unknown").await;
    let rescuing = tokio::spawn({
        let rescuer = race.rescuer.clone();
        async move { rescue(&rescuer, super::queue::resend).await }
    });
    race.waiting("1").await;
    let completing = tokio::spawn({
        let (worker, claimed) = (race.worker.clone(), race.claimed.clone());
        async move { settle(&worker, &claimed, DeliveryState::Delivered).await }
    });
    race.waiting("2").await;
    race.go_on();
    let rescued = soon("the rescue", rescuing).await.unwrap();
    assert_eq!((rescued.released, rescued.unknown), (1, 1));
    assert!(!soon("the completion", completing).await.unwrap());
    let shown = shown(&race.worker, &race.claimed).await;
    assert_eq!(shown.state, DeliveryState::Pending);
    assert_eq!(shown.attempts[0].outcome.as_deref(), Some("unknown"));
    // The next one's token is another; the late worker has no part in it.
    let next = one(&race.rescuer).await;
    assert!(next.token > race.claimed.token);
    assert!(!settle(&race.worker, &race.claimed, DeliveryState::Delivered).await);
    begin(&race.rescuer, &next).await;
    assert!(settle(&race.rescuer, &next, DeliveryState::Delivered).await);
}
