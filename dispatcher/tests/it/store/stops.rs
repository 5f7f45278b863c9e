//! Large notifications that are taken back: marked at once, ended page by page, and nothing of them is sent.

use common::ids::NotificationId;
use dispatcher::{
    model::{Accepted, CancelFate, Channel, DeliveryState, Lane, NewDelivery, NewNotification},
    store::Store,
};

use super::{ask, email, fresh, note, operate, put, tenant};
use crate::support::by;

/// More than two pages.
const MANY: usize = 6000;

/// A notification with many mails, the last ones of which are to addresses without a user.
fn large(key: Option<&str>) -> NewNotification {
    let mut new = note("large", Vec::new());
    let now = new.created_at;
    let users = MANY - 10;
    new.deliveries
        .extend((0..users).map(|number| email(&format!("u{number}"), now)));
    new.deliveries.extend((users..MANY).map(|number| NewDelivery {
        user: None,
        ..email(&format!("a{number}"), now)
    }));
    new.content.collapse_key = key.map(str::to_owned);
    new
}

async fn depth(store: &Store) -> u64 {
    store
        .queue_depths()
        .await
        .unwrap()
        .iter()
        .map(|lane| lane.depth)
        .sum()
}

/// How many of a notification's mails are in each state.
async fn states(store: &Store, id: NotificationId) -> Vec<(DeliveryState, Option<String>, u64)> {
    let progress = store.progress(id).await.unwrap();
    let mut states: Vec<_> = progress
        .counts
        .into_iter()
        .map(|(channel, state, reason, number)| {
            assert_eq!(channel, Channel::Email);
            (state, reason, number)
        })
        .collect();
    states.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
    states
}

/// What the queue's upkeep does. How many pages that were.
async fn sweep(store: &Store) -> usize {
    let mut pages = 0;
    for (id, reason) in store.open_stops().await.unwrap() {
        let mut next = Some(String::new());
        while let Some(place) = next {
            next = store.stop_page(id, &reason, place).await.unwrap();
            pages += 1;
        }
    }
    pages
}

fn cancelled(reason: &str, number: usize) -> (DeliveryState, Option<String>, u64) {
    (DeliveryState::Cancelled, Some(reason.to_owned()), number as u64)
}

#[tokio::test]
async fn cancelling_thousands_says_exactly_what_was_stopped() {
    let store = fresh().await;
    let id = put(&store, large(None)).await;
    let mut claimed = store.claim(ask(Lane::Medium, 3)).await.unwrap();
    let (way, gone) = (claimed.remove(0), claimed.remove(0));
    operate::begin(&store, &gone).await;
    operate::end(&store, &gone, DeliveryState::Delivered, "").await;
    let answer = store.cancel(&tenant(), id, &by("op")).await.unwrap().unwrap();
    let numbers = (answer.stopped, answer.on_the_way, answer.ended, answer.delivered);
    assert_eq!(numbers, (MANY as u64 - 3, 2, 1, 1));
    assert_eq!(answer.cancelled, answer.stopped);
    let of = |fate| answer.deliveries.iter().filter(|(_, one)| *one == fate).count();
    assert_eq!(
        of(CancelFate::OnTheWay) + of(CancelFate::Ended) + of(CancelFate::Stopped),
        2000
    );
    assert!(of(CancelFate::OnTheWay) <= 2 && of(CancelFate::Ended) <= 1);
    assert_eq!(depth(&store).await, 0);
    assert!(store.open_stops().await.unwrap().is_empty());
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    // What was on its way is not tried again.
    operate::begin(&store, &way).await;
    operate::end(&store, &way, DeliveryState::Pending, "retry").await;
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    assert_eq!(
        store
            .cancel(&tenant(), id, &by("op"))
            .await
            .unwrap()
            .unwrap()
            .stopped,
        0
    );
}

#[tokio::test]
async fn what_a_withdrawal_leaves_is_claimed_as_cancelled_and_ended_by_pages() {
    let store = fresh().await;
    let id = put(&store, large(None)).await;
    assert!(store.withdraw(&tenant(), id, &by("op")).await.unwrap());
    assert_eq!(depth(&store).await, MANY as u64 - 2000);
    // Nobody comes to end the rest: who claims it knows that it must not be sent, also what it gives back.
    let claimed = store.claim(ask(Lane::Medium, 100)).await.unwrap();
    assert_eq!(claimed.len(), 100);
    assert!(claimed.iter().all(|one| one.cancelled));
    let back = claimed.iter().map(|one| (one.id, one.token)).collect();
    store.release(back).await.unwrap();
    assert_eq!(depth(&store).await, MANY as u64 - 2100);
    assert_eq!(sweep(&store).await, 2);
    assert_eq!(depth(&store).await, 0);
    assert_eq!(sweep(&store).await, 0);
    let total: u64 = states(&store, id)
        .await
        .iter()
        .map(|(state, _, number)| {
            assert_eq!(*state, DeliveryState::Cancelled);
            number
        })
        .sum();
    assert_eq!(total, MANY as u64);
}

#[tokio::test]
async fn a_newer_one_replaces_thousands() {
    let store = fresh().await;
    let old = put(&store, large(Some("k"))).await;
    let mut new = note("new", Vec::new());
    new.content.collapse_key = Some("k".to_owned());
    new.deliveries.push(email("u", new.created_at));
    let newer = new.id;
    assert_eq!(store.accept(vec![new]).await.unwrap(), [Accepted::New]);
    assert!(
        store
            .notification(&tenant(), old)
            .await
            .unwrap()
            .unwrap()
            .0
            .withdrawn
    );
    sweep(&store).await;
    assert_eq!(states(&store, old).await, [cancelled("collapsed", MANY)]);
    let claimed = store.claim(ask(Lane::Medium, 100)).await.unwrap();
    let claimed: Vec<_> = claimed
        .iter()
        .map(|one| (one.notification, one.cancelled))
        .collect();
    assert_eq!(claimed, [(newer, false)]);
}

/// Claims, and pages of two processes, while a large one is cancelled: nothing is left, and what the cancel does not know of
/// is with a worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_cancel_that_races_with_claims_and_pages_loses_nothing() {
    let store = fresh().await;
    let id = put(&store, large(None)).await;
    let place = Some(String::new());
    let (handle, beside) = (store.store.clone(), store.store.clone());
    let claims = tokio::spawn(async move {
        let mut sent = 0;
        loop {
            let claimed = handle.claim(ask(Lane::Medium, 50)).await.unwrap();
            if claimed.is_empty() {
                return sent;
            }
            for one in claimed {
                let state = if one.cancelled {
                    DeliveryState::Cancelled
                } else {
                    sent += 1;
                    DeliveryState::Delivered
                };
                let reason = if one.cancelled { "cancelled" } else { "" };
                operate::end(&handle, &one, state, reason).await;
            }
        }
    });
    let answer = store.cancel(&tenant(), id, &by("op")).await.unwrap().unwrap();
    let mut next = place;
    while let Some(place) = next {
        next = beside.stop_page(id, "cancelled", place).await.unwrap();
    }
    let sent: u64 = claims.await.unwrap();
    assert_eq!(depth(&store).await, 0);
    let states = states(&store, id).await;
    let stopped: u64 = states
        .iter()
        .filter(|one| one.0 == DeliveryState::Cancelled)
        .map(|one| one.2)
        .sum();
    assert_eq!(stopped + sent, MANY as u64, "{states:?}");
    // What a worker had at that moment is not counted, and 50 at most.
    assert!(
        answer.stopped <= stopped && stopped - answer.stopped <= 50,
        "{} of {stopped}",
        answer.stopped
    );
}
