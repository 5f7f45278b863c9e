use std::{collections::HashSet, time::Duration};

use common::ids::DeliveryId;
use dispatcher::{
    model::{Channel, Claimed, DeliveryState, Lane, Micros, Settlement},
    store::{AttemptStart, OnUnknown, Rescued, Store},
};

use super::{aged, ask, email, fresh, mailed, note, put, tenant};
use crate::support::by;

fn start(claimed: &Claimed) -> AttemptStart {
    AttemptStart {
        delivery: claimed.id,
        token: claimed.token,
        number: claimed.attempts + 1,
        started_at: Micros::now(),
        provider: Some("smtp".to_owned()),
    }
}

/// Begins an attempt, which its token has to allow.
pub(super) async fn begin(store: &Store, claimed: &Claimed) {
    let begun = store.begin_attempts(vec![start(claimed)]).await.unwrap();
    assert_eq!(begun, [true]);
}

/// Whether the store took the settlement.
pub(super) async fn settle(store: &Store, claimed: &Claimed, state: DeliveryState) -> bool {
    let taken = store.settle(vec![settled(claimed, state)]).await.unwrap();
    assert_eq!(taken.len(), 1);
    taken[0]
}

fn settled(claimed: &Claimed, state: DeliveryState) -> Settlement {
    Settlement {
        delivery: claimed.id,
        token: claimed.token,
        state,
        due_at: (state == DeliveryState::Pending).then(Micros::now),
        reason: None,
        outcome: Some(if state == DeliveryState::Delivered {
            "delivered"
        } else {
            "retry"
        }),
        response: Some("250 ok".to_owned()),
    }
}

pub(super) async fn one(store: &Store) -> Claimed {
    let mut claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

/// As if the lease had run out.
pub(super) async fn rescue(store: &Store, on_unknown: fn(Channel) -> OnUnknown) -> Rescued {
    store
        .rescue(Micros::now().plus(Duration::from_secs(31)), 100, on_unknown)
        .await
        .unwrap()
}

/// One delivery was given back, with so many attempts of unknown end.
fn released(unknown: u64) -> Rescued {
    Rescued {
        released: 1,
        unknown,
        jobs: 0,
    }
}

pub(super) fn resend(_: Channel) -> OnUnknown {
    OnUnknown::Resend
}

pub(super) fn hold(_: Channel) -> OnUnknown {
    OnUnknown::Hold
}

pub(super) async fn shown(store: &Store, claimed: &Claimed) -> dispatcher::model::Delivery {
    let (_, mut deliveries) = store
        .notification(&tenant(), claimed.notification)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(deliveries.len(), 1);
    deliveries.remove(0)
}

#[tokio::test]
async fn a_delivery_goes_its_way() {
    let store = fresh().await;
    put(&store, mailed("u")).await;
    let claimed = one(&store).await;
    assert_eq!((claimed.token, claimed.attempts, claimed.max_attempts), (1, 0, 3));
    assert_eq!(claimed.address.as_deref(), Some("u@example.org"));
    assert_eq!(claimed.content.title, "mail");
    begin(&store, &claimed).await;
    // The attempt is on record before its end is known.
    assert_eq!(shown(&store, &claimed).await.attempts.len(), 1);
    assert!(settle(&store, &claimed, DeliveryState::Pending).await);
    let again = one(&store).await;
    assert_eq!((again.token, again.attempts), (2, 1));
    begin(&store, &again).await;
    assert!(settle(&store, &again, DeliveryState::Delivered).await);
    let shown = shown(&store, &again).await;
    assert_eq!(shown.state, DeliveryState::Delivered);
    let outcomes: Vec<_> = shown
        .attempts
        .iter()
        .map(|attempt| attempt.outcome.as_deref().unwrap())
        .collect();
    assert_eq!(outcomes, ["retry", "delivered"]);
    assert!(shown.attempts.iter().all(|attempt| attempt.finished_at.is_some()));
    let stats = store.stats(&tenant()).await.unwrap();
    assert_eq!((stats.created, stats.sent, stats.failed), (1, 1, 0));
    assert_eq!(store.next_due().await.unwrap(), None);
}

#[tokio::test]
async fn an_attempt_begins_with_its_claim_where_it_can_be_tried() {
    let store = fresh().await;
    let now = Micros::now();
    put(&store, mailed("ready")).await;
    let mut expired = aged(mailed("expired"), Duration::from_secs(9));
    expired.expires_at = Some(now.minus(Duration::from_secs(1)));
    put(&store, expired).await;
    let mut spent = mailed("spent");
    spent.deliveries[0].max_attempts = 0;
    put(&store, spent).await;

    let mut request = ask(Lane::Medium, 10);
    request.begin = true;
    let claimed = store.claim(request.clone()).await.unwrap();
    let begun = |user: &str| {
        let one = claimed
            .iter()
            .find(|one| one.user == Some(super::name(user)))
            .unwrap();
        (one.begun, one.clone())
    };
    let (is_begun, ready) = begun("ready");
    assert!(is_begun);
    for user in ["expired", "spent"] {
        let (is_begun, other) = begun(user);
        assert!(!is_begun, "{user}");
        assert!(shown(&store, &other).await.attempts.is_empty(), "{user}");
    }
    let attempts = shown(&store, &ready).await.attempts;
    assert_eq!(attempts.len(), 1);
    assert!(attempts[0].finished_at.is_none());

    // Given back it counts no attempt, and the next claim begins the next one.
    store.release(vec![(ready.id, ready.token)]).await.unwrap();
    request.now = Micros::now();
    let again = store.claim(request).await.unwrap().remove(0);
    assert_eq!(
        (again.id, again.begun, again.attempts, again.max_attempts),
        (ready.id, true, 1, 4)
    );
    assert!(settle(&store, &again, DeliveryState::Delivered).await);
    let attempts = shown(&store, &again).await.attempts;
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.outcome.as_deref())
        .collect();
    assert_eq!(outcomes, [Some("interrupted"), Some("delivered")]);
}

#[tokio::test]
async fn claims_follow_lane_channel_and_due_time() {
    let store = fresh().await;
    let now = Micros::now();
    let mut wanted = Vec::new();
    for (seconds, lane) in [
        (3, Lane::Low),
        (1, Lane::Low),
        (2, Lane::Low),
        (1, Lane::Critical),
    ] {
        let mut new = note("mail", Vec::new());
        new.lane = lane;
        new.deliveries
            .push(email("u", now.minus(Duration::from_secs(seconds))));
        wanted.push(new.deliveries[0].id);
        put(&store, new).await;
    }
    let mut future = note("mail", Vec::new());
    future.lane = Lane::Low;
    future
        .deliveries
        .push(email("u", now.plus(Duration::from_secs(60))));
    put(&store, future).await;
    let depths = store.queue_depths().await.unwrap();
    assert_eq!(
        depths.iter().map(|depth| depth.depth).collect::<Vec<_>>(),
        [1, 0, 0, 4]
    );
    assert_eq!(depths[3].oldest_due, Some(now.minus(Duration::from_secs(3))));
    assert_eq!(
        store.next_due().await.unwrap(),
        Some(now.minus(Duration::from_secs(3)))
    );
    let mut other = ask(Lane::Low, 10);
    other.channels = vec![Channel::Sms];
    assert!(store.claim(other).await.unwrap().is_empty());
    let ids = |claimed: Vec<Claimed>| claimed.iter().map(|one| one.id).collect::<Vec<DeliveryId>>();
    assert_eq!(
        ids(store.claim(ask(Lane::Low, 2)).await.unwrap()),
        [wanted[0], wanted[2]]
    );
    assert_eq!(ids(store.claim(ask(Lane::Low, 10)).await.unwrap()), [wanted[1]]);
    assert!(store.claim(ask(Lane::High, 10)).await.unwrap().is_empty());
    assert_eq!(
        ids(store.claim(ask(Lane::Critical, 10)).await.unwrap()),
        [wanted[3]]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_workers_never_claim_the_same() {
    let fresh = fresh().await;
    fresh
        .accept((0..300).map(|number| mailed(&format!("u{number}"))).collect())
        .await
        .unwrap();
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let store = fresh.store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claimed = store.claim(ask(Lane::Medium, 7)).await.unwrap();
                    if claimed.is_empty() {
                        return mine;
                    }
                    mine.extend(claimed.into_iter().map(|one| one.id));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    assert_eq!(all.len(), 300);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 300);
}

#[tokio::test]
async fn a_stale_token_writes_nothing() {
    let store = fresh().await;
    put(&store, mailed("u")).await;
    let stale = one(&store).await;
    assert_eq!(rescue(&store, resend).await, released(0));
    let current = one(&store).await;
    assert!(current.token > stale.token);
    assert_eq!(
        store
            .begin_attempts(vec![start(&stale), start(&current)])
            .await
            .unwrap(),
        [false, true]
    );
    let until = Micros::now().plus(Duration::from_secs(60));
    let leases = vec![(stale.id, stale.token), (current.id, current.token)];
    assert_eq!(store.extend(leases, until).await.unwrap(), [false, true]);
    store.release(vec![(stale.id, stale.token)]).await.unwrap();
    let both = vec![
        settled(&stale, DeliveryState::Dead),
        settled(&current, DeliveryState::Delivered),
    ];
    assert_eq!(store.settle(both).await.unwrap(), [false, true]);
    let shown = shown(&store, &current).await;
    assert_eq!(shown.state, DeliveryState::Delivered);
    assert_eq!(shown.attempts[0].outcome.as_deref(), Some("delivered"));
    // What is settled is settled.
    assert!(!settle(&store, &current, DeliveryState::Dead).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rescue_and_settle_exclude_each_other() {
    let fresh = fresh().await;
    for _ in 0..40 {
        let id = put(&fresh, mailed("u")).await;
        let claimed = one(&fresh).await;
        begin(&fresh, &claimed).await;
        let (rescuer, settler) = (fresh.store.clone(), fresh.store.clone());
        let settlement = settled(&claimed, DeliveryState::Delivered);
        let rescued = tokio::spawn(async move { rescue(&rescuer, hold).await });
        let settled = tokio::spawn(async move { settler.settle(vec![settlement]).await.unwrap() });
        let (rescued, settled) = (rescued.await.unwrap(), settled.await.unwrap());
        let shown = fresh
            .notification(&tenant(), id)
            .await
            .unwrap()
            .unwrap()
            .1
            .remove(0);
        match (rescued.released, settled[0]) {
            (0, true) => assert_eq!(shown.state, DeliveryState::Delivered),
            (1, false) => assert_eq!(shown.state, DeliveryState::Dead),
            both => panic!("{both:?}"),
        }
    }
}

#[tokio::test]
async fn a_rescue_finds_the_open_attempt_unknown() {
    let store = fresh().await;
    put(&store, mailed("u")).await;
    let claimed = one(&store).await;
    begin(&store, &claimed).await;
    assert_eq!(
        store.rescue(Micros::now(), 100, resend).await.unwrap(),
        Rescued::default()
    );
    assert_eq!(rescue(&store, resend).await, released(1));
    let again = one(&store).await;
    assert_eq!(again.attempts, 1);
    let first = shown(&store, &again).await.attempts.remove(0);
    assert_eq!(
        (first.outcome.as_deref(), first.finished_at),
        (Some("unknown"), None)
    );
    begin(&store, &again).await;
    assert_eq!(rescue(&store, hold).await, released(1));
    let held = shown(&store, &again).await;
    assert_eq!(
        (held.state, held.reason.as_deref()),
        (DeliveryState::Dead, Some("unknown"))
    );
    assert_eq!(store.stats(&tenant()).await.unwrap().failed, 1);
}

#[tokio::test]
async fn attempts_of_unknown_end_are_exhausted_too() {
    let store = fresh().await;
    put(&store, mailed("u")).await;
    for _ in 0..3 {
        let claimed = one(&store).await;
        begin(&store, &claimed).await;
        rescue(&store, resend).await;
    }
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_orderly_stop_consumes_no_attempt() {
    let store = fresh().await;
    put(&store, mailed("u")).await;
    let claimed = one(&store).await;
    begin(&store, &claimed).await;
    store.release(vec![(claimed.id, claimed.token)]).await.unwrap();
    let again = one(&store).await;
    assert_eq!((again.attempts, again.max_attempts), (1, 4));
    assert_eq!(
        shown(&store, &again).await.attempts[0].outcome.as_deref(),
        Some("interrupted")
    );
}

#[tokio::test]
async fn the_acceptor_holds_its_realtime_delivery() {
    let store = fresh().await;
    let mut new = mailed("u");
    new.deliveries[0].channel = Channel::Realtime;
    new.deliveries[0].state = DeliveryState::Running;
    new.deliveries[0].lease_until = Some(Micros::now().plus(Duration::from_secs(30)));
    let delivery = new.deliveries[0].id;
    put(&store, new).await;
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    let end = Settlement {
        delivery,
        token: 1,
        state: DeliveryState::Delivered,
        due_at: None,
        reason: None,
        outcome: None,
        response: None,
    };
    assert_eq!(store.settle(vec![end.clone(), end]).await.unwrap(), [true, false]);
}

#[tokio::test]
async fn what_was_withdrawn_is_not_sent_again() {
    let store = fresh().await;
    let running = put(&store, mailed("u")).await;
    let claimed = one(&store).await;
    let pending = put(&store, mailed("v")).await;
    assert!(store.withdraw(&tenant(), running, &by("op")).await.unwrap());
    assert!(store.withdraw(&tenant(), pending, &by("op")).await.unwrap());
    assert!(!store.withdraw(&tenant(), pending, &by("op")).await.unwrap());
    assert!(settle(&store, &claimed, DeliveryState::Pending).await);
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    for id in [running, pending] {
        let (notification, deliveries) = store.notification(&tenant(), id).await.unwrap().unwrap();
        assert!(notification.withdrawn);
        assert_eq!(deliveries[0].state, DeliveryState::Cancelled);
    }
}

#[tokio::test]
async fn a_frames_unknown_ends_are_bounded_by_its_age_alone() {
    let store = fresh().await;
    let mut new = mailed("u");
    new.deliveries[0].channel = Channel::Realtime;
    new.deliveries[0].max_attempts = 1;
    put(&store, new).await;
    for attempts in 0..3 {
        let claimed = one(&store).await;
        assert_eq!(claimed.attempts, attempts);
        begin(&store, &claimed).await;
        rescue(&store, resend).await;
    }
}
