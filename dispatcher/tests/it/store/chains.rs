//! Chains: what moves them, and what follows in the same transaction.

use std::time::Duration;

use dispatcher::{
    model::{
        Chain, ChainState, Channel, Claimed, Delivery, DeliveryState, Lane, Micros, NewNotification,
        Settlement, StepState,
    },
    store::{Mark, Store},
};

use super::{ask, fresh, known, mark, plain, put, reader};
use crate::support::{by, escalating, failing_over, notification, tenant, user_key};

async fn shown(store: &Store, id: common::ids::NotificationId) -> (Chain, Vec<Delivery>) {
    let (mut found, deliveries) = store
        .notification(&tenant(), id)
        .await
        .unwrap()
        .expect("it is stored");
    (found.chains.remove(0), deliveries)
}

async fn claimed(store: &Store) -> Claimed {
    let mut found = store.claim(ask(Lane::Medium, 10)).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

async fn settle(store: &Store, claimed: &Claimed, state: DeliveryState, reason: &'static str) -> bool {
    let settlement = Settlement {
        delivery: claimed.id,
        token: claimed.token,
        state,
        due_at: (state == DeliveryState::Pending).then(Micros::now),
        reason: Some(reason.into()),
        outcome: None,
        response: None,
    };
    store.settle(vec![settlement]).await.unwrap()[0]
}

fn failover() -> NewNotification {
    failing_over(notification("u"), "u")
}

fn escalation(after: Duration) -> NewNotification {
    let mut new = escalating(notification("u"), "u", after);
    new.inbox.push(plain(user_key("u")));
    new
}

#[tokio::test]
async fn the_end_of_a_step_brings_the_next_one() {
    let store = fresh().await;
    let id = put(&store, failover()).await;
    let email = claimed(&store).await;
    assert_eq!(email.channel, Channel::Email);
    // A worker that lost its lease moves nothing.
    let stale = Claimed {
        token: email.token - 1,
        ..email.clone()
    };
    assert!(!settle(&store, &stale, DeliveryState::Dead, "rejected").await);
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    assert!(settle(&store, &email, DeliveryState::Dead, "rejected").await);
    let (chain, deliveries) = shown(&store, id).await;
    assert!(chain.is_open() && deliveries.len() == 2, "{deliveries:?}");
    let told = store.failed_over(10).await.unwrap();
    assert_eq!((told.len(), told[0].notification), (1, id));
    store.told(vec![told[0].chain.clone()]).await.unwrap();
    assert!(store.failed_over(10).await.unwrap().is_empty());
    let webhook = claimed(&store).await;
    assert_eq!(webhook.channel, Channel::Webhook);
    assert!(settle(&store, &webhook, DeliveryState::Delivered, "ok").await);
    let (chain, _) = shown(&store, id).await;
    assert_eq!(chain.state, ChainState::Done);
    assert!(store.failed_over(10).await.unwrap().is_empty());
    let stats = store.stats(&tenant()).await.unwrap();
    assert_eq!((stats.sent, stats.failed), (1, 1));
}

#[tokio::test]
async fn a_step_begins_in_its_time_and_once() {
    let store = fresh().await;
    let new = escalation(Duration::from_secs(60));
    let due = new.visible_at.plus(Duration::from_secs(60));
    let id = put(&store, new).await;
    assert_eq!(store.next_step().await.unwrap(), Some(due));
    assert_eq!(store.start_steps(Micros(due.0 - 1), 10).await.unwrap(), 0);
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    assert_eq!(store.start_steps(due, 10).await.unwrap(), 1);
    assert_eq!(store.start_steps(due, 10).await.unwrap(), 0);
    assert_eq!(store.next_step().await.unwrap(), None);
    let email = claimed(&store).await;
    assert_eq!(shown(&store, id).await.0.steps[0].state, StepState::Started);
    settle(&store, &email, DeliveryState::Delivered, "ok").await;
    assert_eq!(shown(&store, id).await.0.state, ChainState::Exhausted);
}

#[tokio::test]
async fn a_receipt_cancels_what_waits_and_leaves_what_is_on_the_way() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    let pending = put(&store, escalation(Duration::from_secs(60))).await;
    mark(&store, &me, pending, Mark::Read).await;
    let (chain, deliveries) = shown(&store, pending).await;
    assert_eq!(
        (chain.state, chain.steps[0].state),
        (ChainState::Done, StepState::Cancelled)
    );
    assert!(deliveries.is_empty());

    let waiting = put(&store, escalation(Duration::ZERO)).await;
    store.start_steps(Micros::now(), 10).await.unwrap();
    mark(&store, &me, waiting, Mark::Acknowledged).await;
    let (chain, deliveries) = shown(&store, waiting).await;
    assert_eq!(
        (chain.state, chain.steps[0].state),
        (ChainState::Done, StepState::Cancelled)
    );
    assert_eq!(deliveries[0].state, DeliveryState::Cancelled);
    assert_eq!(deliveries[0].reason.as_deref(), Some("acknowledged"));
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());

    let sent = put(&store, escalation(Duration::ZERO)).await;
    store.start_steps(Micros::now(), 10).await.unwrap();
    let email = claimed(&store).await;
    mark(&store, &me, sent, Mark::Read).await;
    assert!(shown(&store, sent).await.0.is_open(), "it is on the way");
    // It failed, and is not tried again.
    assert!(settle(&store, &email, DeliveryState::Pending, "retry").await);
    let (chain, deliveries) = shown(&store, sent).await;
    assert_eq!(
        (chain.state, deliveries[0].state),
        (ChainState::Done, DeliveryState::Cancelled)
    );
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_read_all_ends_what_it_covers() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    let first = put(&store, escalation(Duration::from_secs(60))).await;
    let cursor = super::present(&store, &me).await;
    let second = put(&store, escalation(Duration::from_secs(60))).await;
    store.mark_all_read(&me, Some(&cursor)).await.unwrap();
    assert_eq!(shown(&store, first).await.0.state, ChainState::Done);
    assert!(shown(&store, second).await.0.is_open());
    store.mark_all_read(&reader("someone", &[]), None).await.unwrap();
    assert!(shown(&store, second).await.0.is_open());
    store.mark_all_read(&me, None).await.unwrap();
    assert_eq!(shown(&store, second).await.0.state, ChainState::Done);
}

#[tokio::test]
async fn what_was_taken_back_goes_no_further() {
    let store = fresh().await;
    let waiting = put(&store, failover()).await;
    assert!(store.withdraw(&tenant(), waiting, &by("op")).await.unwrap());
    let (chain, _) = shown(&store, waiting).await;
    assert_eq!(
        (chain.state, chain.steps[0].state),
        (ChainState::Cancelled, StepState::Cancelled)
    );
    let sent = put(&store, failover()).await;
    let email = claimed(&store).await;
    store.withdraw(&tenant(), sent, &by("op")).await.unwrap();
    settle(&store, &email, DeliveryState::Dead, "rejected").await;
    let (chain, deliveries) = shown(&store, sent).await;
    assert_eq!(chain.state, ChainState::Cancelled);
    assert_eq!(deliveries.len(), 1, "nothing follows");
    let later = put(&store, escalation(Duration::ZERO)).await;
    store.withdraw(&tenant(), later, &by("op")).await.unwrap();
    assert_eq!(store.start_steps(Micros::now(), 10).await.unwrap(), 0);
}

#[tokio::test]
async fn leases_that_are_given_back_or_run_out_keep_the_chain() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    let id = put(&store, failover()).await;
    let email = claimed(&store).await;
    store.release(vec![(email.id, email.token)]).await.unwrap();
    assert!(shown(&store, id).await.0.is_open());
    let email = claimed(&store).await;
    let far = Micros::now().plus(Duration::from_secs(3600));
    store
        .rescue(far, 10, |_| dispatcher::store::OnUnknown::Resend)
        .await
        .unwrap();
    assert!(shown(&store, id).await.0.is_open());
    let again = claimed(&store).await;
    assert!(again.token > email.token);
    // Read while a worker holds it, which then stops.
    mark(&store, &me, id, Mark::Read).await;
    store.release(vec![(again.id, again.token)]).await.unwrap();
    let (chain, deliveries) = shown(&store, id).await;
    assert_eq!(
        (chain.state, deliveries[0].state),
        (ChainState::Done, DeliveryState::Cancelled)
    );
}

#[tokio::test]
async fn what_ended_before_it_was_stored_moves_the_chain() {
    let store = fresh().await;
    // As of a notification that waited elsewhere while its first step ended.
    let mut new = failover();
    new.deliveries[0].state = DeliveryState::Dead;
    new.deliveries[0].reason = Some("rejected".into());
    let id = put(&store, new).await;
    assert_eq!(shown(&store, id).await.0.steps[0].state, StepState::Failed);
    assert_eq!(claimed(&store).await.channel, Channel::Webhook);
}

#[tokio::test]
async fn a_frame_is_settled_by_its_receipt_wherever_it_is_held() {
    let store = fresh().await;
    let new = crate::support::by_realtime(notification("u"), Some("u"));
    let id = put(&store, new).await;
    let receipt = |user: &str, id| vec![(tenant(), crate::support::name(user), id)];
    assert_eq!(store.received(receipt("someone", id)).await.unwrap(), 0);
    assert_eq!(store.received(receipt("u", id)).await.unwrap(), 1);
    assert_eq!(store.received(receipt("u", id)).await.unwrap(), 0);
    let found = store.notification(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(found.1[0].state, DeliveryState::Delivered);
    assert_eq!(store.stats(&tenant()).await.unwrap().sent, 1);
}
