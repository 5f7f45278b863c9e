//! What operators do: each promise on every database.

use std::{collections::HashSet, sync::Arc, time::Duration};

use common::ids::{DeliveryId, NotificationId, TenantId};
use dispatcher::{
    model::{
        CancelFate, Channel, Claimed, DeliveryState, Lane, Micros, NewNotification, Pause, Pauses, Replaced,
        Settlement,
    },
    store::{AttemptStart, ClaimRequest, ClaimRules, OnUnknown, Store},
};

use super::{Fresh, ask, email, fresh, known, listed, mailed, note, plain, put, tenant, to, user_key};
use crate::support::{by, eventually};

pub(super) fn other() -> TenantId {
    TenantId::new("t2").unwrap()
}

/// `count` mails of a tenant, each its own notification.
async fn flood(store: &Store, tenant: &TenantId, count: usize) {
    let all = (0..count)
        .map(|n| NewNotification {
            tenant: tenant.clone(),
            ..mailed(&format!("u{n}"))
        })
        .collect();
    store.accept(all).await.unwrap();
}

fn with_rules(limit: u32, rules: ClaimRules) -> ClaimRequest {
    ClaimRequest {
        rules,
        ..ask(Lane::Medium, limit)
    }
}

fn of(claimed: &[Claimed], tenant: &TenantId) -> usize {
    claimed.iter().filter(|one| one.tenant == *tenant).count()
}

pub(super) async fn begin(store: &Store, claimed: &Claimed) {
    let start = AttemptStart {
        delivery: claimed.id,
        token: claimed.token,
        number: claimed.attempts + 1,
        started_at: Micros::now(),
        provider: None,
    };
    assert_eq!(store.begin_attempts(vec![start]).await.unwrap(), [true]);
}

pub(super) async fn end(store: &Store, claimed: &Claimed, state: DeliveryState, reason: &'static str) {
    let settlement = Settlement {
        delivery: claimed.id,
        token: claimed.token,
        state,
        due_at: (state == DeliveryState::Pending).then(Micros::now),
        reason: Some(reason.into()),
        outcome: Some("rejected"),
        response: Some("550 no".to_owned()),
    };
    assert_eq!(store.settle(vec![settlement]).await.unwrap(), [true]);
}

/// Mails of the users that were given up, one notification each.
pub(super) async fn dead(store: &Store, users: &[&str], reason: &'static str) -> Vec<Claimed> {
    let mut all = Vec::new();
    for user in users {
        put(store, mailed(user)).await;
        let claimed = store.claim(ask(Lane::Medium, 1)).await.unwrap().remove(0);
        begin(store, &claimed).await;
        end(store, &claimed, DeliveryState::Dead, reason).await;
        all.push(claimed);
    }
    all
}

#[tokio::test]
async fn a_tenants_flood_is_claimed_in_turn_with_others() {
    let store = fresh().await;
    flood(&store, &tenant(), 300).await;
    flood(&store, &other(), 5).await;
    let claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap();
    assert_eq!((of(&claimed, &tenant()), of(&claimed, &other())), (5, 5));
    // What one does not have, another gets in the same claim.
    let claimed = store.claim(ask(Lane::Medium, 50)).await.unwrap();
    assert_eq!(of(&claimed, &tenant()), 50);
    assert_eq!(claimed.iter().map(|one| one.id).collect::<HashSet<_>>().len(), 50);
}

#[tokio::test]
async fn single_claims_go_round_the_tenants() {
    let store = fresh().await;
    flood(&store, &tenant(), 20).await;
    flood(&store, &other(), 20).await;
    let mut after = None;
    let mut order = Vec::new();
    for _ in 0..4 {
        let rules = ClaimRules {
            after: after.clone(),
            ..ClaimRules::default()
        };
        let claimed = store.claim(with_rules(1, rules)).await.unwrap().remove(0);
        after = Some(claimed.tenant.clone());
        order.push(claimed.tenant);
    }
    assert_eq!(order, [tenant(), other(), tenant(), other()]);
}

#[tokio::test]
async fn caps_and_pauses_are_looked_at_before_claiming() {
    let store = fresh().await;
    flood(&store, &tenant(), 20).await;
    flood(&store, &other(), 20).await;
    let capped = ClaimRules {
        tenant_max: Some(4),
        held: [(tenant(), 3)].into(),
        ..ClaimRules::default()
    };
    let claimed = store.claim(with_rules(100, capped)).await.unwrap();
    assert_eq!((of(&claimed, &tenant()), of(&claimed, &other())), (1, 4));
    let pause = Pause {
        tenant: Some(tenant()),
        channel: Some(Channel::Email),
        reason: None,
        paused_by: "op".to_owned(),
        paused_at: Micros::now(),
        ends_at: None,
    };
    let paused = ClaimRules {
        pauses: Arc::new(Pauses(vec![pause])),
        ..ClaimRules::default()
    };
    let claimed = store.claim(with_rules(100, paused)).await.unwrap();
    assert_eq!((of(&claimed, &tenant()), of(&claimed, &other())), (0, 16));
    // Nothing of it was leased in vain.
    assert_eq!(store.claim(ask(Lane::Medium, 100)).await.unwrap().len(), 19);
}

#[tokio::test]
async fn pauses_are_kept_replaced_and_lifted_one_by_one() {
    let store = fresh().await;
    let pause = |tenant: Option<TenantId>, channel, reason: &str, ends_at| Pause {
        tenant,
        channel,
        reason: Some(reason.to_owned()),
        paused_by: "op".to_owned(),
        paused_at: Micros(5),
        ends_at,
    };
    let later = Micros::now().plus(Duration::from_secs(60));
    let whole = pause(Some(tenant()), None, "a", None);
    let channel = pause(None, Some(Channel::Sms), "b", Some(later));
    for one in [
        pause(Some(tenant()), None, "first", None),
        whole.clone(),
        channel.clone(),
    ] {
        store.pause(one, &by("op")).await.unwrap();
    }
    assert_eq!(
        store.pauses().await.unwrap(),
        Pauses(vec![channel.clone(), whole])
    );
    assert!(
        !store
            .resume(Some(tenant()), Some(Channel::Sms), &by("op"))
            .await
            .unwrap(),
        "not exactly this"
    );
    assert!(store.resume(Some(tenant()), None, &by("op")).await.unwrap());
    assert_eq!(store.pauses().await.unwrap(), Pauses(vec![channel]));
}

#[tokio::test]
async fn cancelling_says_what_was_stopped_and_what_had_gone() {
    let store = fresh().await;
    let mine = known(&store, "u", &[]).await;
    let mut new = note("mail", vec![plain(user_key("u"))]);
    let now = new.created_at;
    let deliveries = ["gone", "way", "stop"].map(|user| email(user, now));
    let ids = deliveries.clone().map(|one| one.id);
    new.deliveries.extend(deliveries);
    let id = put(&store, new).await;
    let mut claimed = store.claim(ask(Lane::Medium, 2)).await.unwrap();
    claimed.sort_by_key(|one| ids.iter().position(|id| *id == one.id));
    let (gone, way) = (claimed.remove(0), claimed.remove(0));
    begin(&store, &gone).await;
    end(&store, &gone, DeliveryState::Delivered, "").await;

    assert!(store.cancel(&other(), id, &by("op")).await.unwrap().is_none());
    let cancelled = store.cancel(&tenant(), id, &by("op")).await.unwrap().unwrap();
    assert_eq!((cancelled.stopped, cancelled.never_visible), (1, false));
    let fate = |id| cancelled.deliveries.iter().find(|(one, _)| one.id == id).unwrap();
    assert_eq!(fate(gone.id).1, CancelFate::Ended);
    assert_eq!(fate(way.id).1, CancelFate::OnTheWay);
    let stopped = ids.iter().find(|id| **id != gone.id && **id != way.id).unwrap();
    let (delivery, fate) = fate(*stopped);
    assert_eq!(
        (delivery.state, *fate),
        (DeliveryState::Cancelled, CancelFate::Stopped)
    );
    // What is on the way is not tried again.
    begin(&store, &way).await;
    end(&store, &way, DeliveryState::Pending, "retry").await;
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    assert_eq!(state(&store, id, way.id).await, DeliveryState::Cancelled);
    // The row in the inbox is visible and stays.
    assert_eq!(listed(&store, &mine).await, [id]);
    let again = store.cancel(&tenant(), id, &by("op")).await.unwrap().unwrap();
    assert_eq!(again.stopped, 0);
}

pub(super) async fn state(store: &Store, id: NotificationId, delivery: DeliveryId) -> DeliveryState {
    let (_, deliveries) = store.notification(&tenant(), id).await.unwrap().unwrap();
    deliveries
        .into_iter()
        .find(|one| one.id == delivery)
        .unwrap()
        .state
}

#[tokio::test]
async fn a_worker_that_gives_back_does_not_revive_what_was_cancelled() {
    let store = fresh().await;
    let id = put(&store, mailed("u")).await;
    let claimed = store.claim(ask(Lane::Medium, 1)).await.unwrap().remove(0);
    store.cancel(&tenant(), id, &by("op")).await.unwrap().unwrap();
    store.release(vec![(claimed.id, claimed.token)]).await.unwrap();
    assert_eq!(state(&store, id, claimed.id).await, DeliveryState::Cancelled);
    // Nor does a rescue.
    let id = put(&store, mailed("u")).await;
    let claimed = store.claim(ask(Lane::Medium, 1)).await.unwrap().remove(0);
    store.cancel(&tenant(), id, &by("op")).await.unwrap().unwrap();
    let late = Micros::now().plus(Duration::from_secs(60));
    store.rescue(late, 10, |_| OnUnknown::Resend).await.unwrap();
    assert_eq!(state(&store, id, claimed.id).await, DeliveryState::Cancelled);
}

#[tokio::test]
async fn a_scheduled_one_that_is_cancelled_is_never_seen() {
    let store = fresh().await;
    let mine = known(&store, "u", &[]).await;
    let mut new = to(user_key("u"));
    new.visible_at = new.created_at.plus(Duration::from_millis(1));
    let id = put(&store, new).await;
    let cancelled = store.cancel(&tenant(), id, &by("op")).await.unwrap().unwrap();
    assert!(cancelled.never_visible);
    let late = Micros::now().plus(Duration::from_secs(5));
    assert!(store.make_visible(late, 10).await.unwrap().is_empty());
    assert!(listed(&store, &mine).await.is_empty());
}

/// A claim and a cancel at the same time: what the cancel says was stopped is claimed by nobody, and the other way round.
#[tokio::test]
async fn a_cancel_that_races_with_claims_tells_the_truth() {
    let store = fresh().await;
    let mut stopped_some = false;
    for _ in 0..30 {
        let mut new = note("mail", Vec::new());
        let now = new.created_at;
        new.deliveries
            .extend((0..8).map(|n| email(&format!("u{n}"), now)));
        let id = put(&store, new).await;
        let (cancelled, a, b) = {
            let (tenant, op) = (tenant(), by("op"));
            tokio::join!(
                store.cancel(&tenant, id, &op),
                store.claim(ask(Lane::Medium, 3)),
                store.claim(ask(Lane::Medium, 3)),
            )
        };
        let cancelled = cancelled.unwrap().unwrap();
        let claimed: HashSet<_> = a
            .unwrap()
            .into_iter()
            .chain(b.unwrap())
            .map(|one| one.id)
            .collect();
        for (delivery, fate) in &cancelled.deliveries {
            let was_claimed = claimed.contains(&delivery.id);
            assert_eq!(
                *fate,
                if was_claimed {
                    CancelFate::OnTheWay
                } else {
                    CancelFate::Stopped
                },
                "{delivery:?}"
            );
        }
        stopped_some |= cancelled.stopped > 0;
        assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    }
    assert!(stopped_some);
}

fn scheduled(title: &str, by: Duration) -> NewNotification {
    let mut new = note(title, vec![plain(user_key("u"))]);
    new.visible_at = new.created_at.plus(by);
    new.deliveries.push(email("u", new.visible_at));
    new
}

#[tokio::test]
async fn a_scheduled_one_is_replaced_whole_or_not_at_all() {
    let store = fresh().await;
    let mine = known(&store, "u", &[]).await;
    let old = scheduled("old", Duration::from_secs(60));
    let id = put(&store, old.clone()).await;
    let mut new = scheduled("new", Duration::from_secs(3600));
    new.id = id;
    let foreign = store.replace(&other(), new.clone(), &by("op")).await.unwrap();
    assert_eq!(foreign, Replaced::Unknown);
    assert_eq!(
        store.replace(&tenant(), new.clone(), &by("op")).await.unwrap(),
        Replaced::Done
    );
    let (stored, deliveries) = store.notification(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(stored.content.title, "new");
    assert_eq!(
        (stored.created_at, stored.visible_at),
        (old.created_at, new.visible_at)
    );
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].id, new.deliveries[0].id);
    let stats = store.stats(&tenant()).await.unwrap();
    assert_eq!((stats.created, stats.failed), (1, 0));
    // Nothing of the old one comes at its time.
    assert!(store.make_visible(old.visible_at, 10).await.unwrap().is_empty());
    let moved = NewNotification {
        visible_at: Micros::now(),
        ..new
    };
    assert_eq!(
        store.replace(&tenant(), moved.clone(), &by("op")).await.unwrap(),
        Replaced::Done
    );
    assert_eq!(store.make_visible(Micros::now(), 10).await.unwrap(), [id]);
    assert_eq!(listed(&store, &mine).await, [id]);
    assert_eq!(
        store.replace(&tenant(), moved, &by("op")).await.unwrap(),
        Replaced::Due
    );
    let gone = put(&store, scheduled("gone", Duration::from_secs(60))).await;
    store.cancel(&tenant(), gone, &by("op")).await.unwrap().unwrap();
    let mut late = scheduled("late", Duration::from_secs(60));
    late.id = gone;
    assert_eq!(
        store.replace(&tenant(), late, &by("op")).await.unwrap(),
        Replaced::Cancelled
    );
}

/// Becoming visible and being replaced at the same time: one of them is first, and nothing is half done.
#[tokio::test]
async fn a_replacement_that_races_with_the_time_is_whole() {
    let store = fresh().await;
    let mine = known(&store, "u", &[]).await;
    for _ in 0..20 {
        let old = scheduled("old", Duration::from_secs(60));
        let id = put(&store, old.clone()).await;
        let mut new = scheduled("new", Duration::from_secs(3600));
        new.id = id;
        let (tenant, op) = (tenant(), by("op"));
        let (replaced, visible) = tokio::join!(
            store.replace(&tenant, new, &op),
            // A clock that is ahead.
            store.make_visible(old.visible_at, 10)
        );
        let (stored, deliveries) = store.notification(&tenant, id).await.unwrap().unwrap();
        assert_eq!(deliveries.len(), 1);
        let is_listed = listed(&store, &mine).await.contains(&id);
        match (replaced.unwrap(), visible.unwrap().as_slice()) {
            (Replaced::Done, []) => assert!(stored.content.title == "new" && !is_listed),
            (Replaced::Due, [_]) => assert!(stored.content.title == "old" && is_listed),
            other => panic!("{other:?}"),
        }
    }
}

/// A cancel or a withdrawal that waits for a change finds what it has made of the notification, and stops that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_that_races_with_a_change_stops_it() {
    let store = fresh().await;
    let tenant = tenant();
    for round in 0..60 {
        let id = put(&store, scheduled("old", Duration::from_secs(60))).await;
        let changes = ["new", "newer"].map(|title| NewNotification {
            id,
            ..scheduled(title, Duration::from_secs(3600))
        });
        let [a, b] = changes.map(|new| {
            let (store, tenant) = (store.clone(), tenant.clone());
            tokio::spawn(async move { store.replace(&tenant, new, &by("op")).await.unwrap() })
        });
        let stopping = {
            let (store, tenant) = (store.clone(), tenant.clone());
            tokio::spawn(async move {
                if round % 2 == 0 {
                    let cancelled = store.cancel(&tenant, id, &by("op")).await.unwrap();
                    assert!(cancelled.expect("it is there").never_visible);
                } else {
                    assert!(
                        store.withdraw(&tenant, id, &by("op")).await.unwrap(),
                        "it is there"
                    );
                }
            })
        };
        stopping.await.unwrap();
        for replaced in [a.await.unwrap(), b.await.unwrap()] {
            assert!(
                matches!(replaced, Replaced::Done | Replaced::Cancelled),
                "{replaced:?}"
            );
        }
        let (_, deliveries) = store.notification(&tenant, id).await.unwrap().unwrap();
        let states: Vec<_> = deliveries.iter().map(|one| one.state).collect();
        assert_eq!(states, [DeliveryState::Cancelled]);
    }
    let late = Micros::now().plus(Duration::from_secs(7200));
    assert!(store.make_visible(late, 100).await.unwrap().is_empty());
}

/// Of two changes at once both are done, and one of them is last.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_that_race_are_done_one_after_the_other() {
    let store = fresh().await;
    for _ in 0..30 {
        let id = put(&store, scheduled("old", Duration::from_secs(60))).await;
        let changes = ["a", "b", "c"].map(|title| NewNotification {
            id,
            ..scheduled(title, Duration::from_secs(3600))
        });
        let of: Vec<_> = changes
            .iter()
            .map(|one| (one.content.title.clone(), one.deliveries[0].id))
            .collect();
        for change in changes.map(|new| {
            let store = store.clone();
            tokio::spawn(async move { store.replace(&tenant(), new, &by("op")).await.unwrap() })
        }) {
            assert_eq!(change.await.unwrap(), Replaced::Done);
        }
        let (stored, deliveries) = store.notification(&tenant(), id).await.unwrap().unwrap();
        assert_eq!(deliveries.len(), 1);
        assert!(of.contains(&(stored.content.title, deliveries[0].id)));
    }
    assert_eq!(store.stats(&tenant()).await.unwrap().created, 30);
    let late = Micros::now().plus(Duration::from_secs(7200));
    assert_eq!(store.make_visible(late, 100).await.unwrap().len(), 30);
}

#[tokio::test]
async fn what_waits_is_found_in_every_lane_channel_and_tenant() {
    let store: Fresh = fresh().await;
    let base = Micros::now().plus(Duration::from_secs(100));
    let mut earliest = None;
    for (n, lane) in Lane::ALL.into_iter().enumerate() {
        for (m, id) in ["a", "b"].into_iter().enumerate() {
            let due = base.minus(Duration::from_secs((n * 2 + m) as u64));
            let mut new = note("mail", Vec::new());
            new.tenant = TenantId::new(id).unwrap();
            new.lane = lane;
            new.deliveries.push(email("u", due));
            put(&store, new).await;
            earliest = Some(due);
            // Where looks are slow, the store answers what it saw for a moment (`store/horizon.rs`).
            eventually("it is the next one that is due", async || {
                (store.next_due().await.unwrap() == earliest).then_some(())
            })
            .await;
        }
    }
    assert!(earliest.is_some());
}
