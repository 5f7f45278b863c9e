//! Dead letters: found, sent again, put away.

use std::time::Duration;

use common::ids::DeliveryId;
use dispatcher::{
    model::{
        Channel, Content, DeadFilter, DeliveryState, Lane, Micros, NewDelivery, NewNotification, Redrive,
        RedriveResult,
    },
    store::Store,
};

use super::{
    ask, email, fresh, mailed, note,
    operate::{begin, dead, end, other, state},
    put, tenant,
};
use crate::support::by;

async fn letters(store: &Store, filter: &DeadFilter) -> Vec<DeliveryId> {
    let (letters, next) = store.dead_letters(&tenant(), filter, None, 100).await.unwrap();
    assert_eq!(next, None);
    letters.into_iter().map(|letter| letter.id).collect()
}

fn again(deliveries: Vec<DeliveryId>) -> Redrive {
    Redrive {
        deliveries: deliveries.into_iter().map(|id| (id, 2)).collect(),
        ..Redrive::default()
    }
}

async fn redriven(store: &Store, redrive: Redrive) -> Vec<DeliveryId> {
    match store.redrive(&tenant(), redrive, &by("op")).await.unwrap() {
        RedriveResult::Redriven(all) => all.into_iter().map(|one| one.id).collect(),
        RedriveResult::AddressTaken => panic!("the address is taken"),
    }
}
#[tokio::test]
async fn dead_letters_are_found_by_what_they_are() {
    let store = fresh().await;
    let rejected = dead(&store, &["ann", "bob"], "rejected").await;
    let unknown = dead(&store, &["cid"], "unknown").await;
    // Of another tenant.
    let foreign = NewNotification {
        tenant: other(),
        ..mailed("ann")
    };
    put(&store, foreign).await;
    let claimed = store.claim(ask(Lane::Medium, 1)).await.unwrap().remove(0);
    end(&store, &claimed, DeliveryState::Dead, "rejected").await;

    let all = DeadFilter::default();
    assert_eq!(
        letters(&store, &all).await,
        [unknown[0].id, rejected[1].id, rejected[0].id],
        "the newest first"
    );
    let by = |filter: DeadFilter| {
        let store = &store;
        async move { letters(store, &filter).await }
    };
    let reason = DeadFilter {
        reason: Some("unknown".to_owned()),
        ..all.clone()
    };
    assert_eq!(by(reason).await, [unknown[0].id]);
    let user = DeadFilter {
        user: rejected[1].user.clone(),
        channel: Some(Channel::Email),
        ..all.clone()
    };
    assert_eq!(by(user).await, [rejected[1].id]);
    let channel = DeadFilter {
        channel: Some(Channel::Sms),
        ..all.clone()
    };
    assert!(by(channel).await.is_empty());
    let notification = DeadFilter {
        notification: Some(rejected[0].notification),
        ..all.clone()
    };
    assert_eq!(by(notification).await, [rejected[0].id]);
    let text = |text: &str| DeadFilter {
        text: Some(text.to_owned()),
        ..DeadFilter::default()
    };
    assert_eq!(by(text("BOB@")).await, [rejected[1].id]);
    assert_eq!(by(text("Mail")).await.len(), 3);
    assert!(by(text("nothing")).await.is_empty());
    let (first, _) = store
        .dead_letter(&tenant(), rejected[0].id)
        .await
        .unwrap()
        .unwrap();
    let time = |from, to| DeadFilter {
        from,
        to,
        ..DeadFilter::default()
    };
    assert_eq!(
        by(time(None, Some(Micros(first.died_at.0 + 1)))).await,
        [first.id]
    );
    assert_eq!(by(time(Some(Micros(first.died_at.0 + 1)), None)).await.len(), 2);

    // Page by page, each once.
    let mut place = None;
    let mut seen = Vec::new();
    loop {
        let (page, next) = store.dead_letters(&tenant(), &all, place, 2).await.unwrap();
        seen.extend(page.into_iter().map(|letter| letter.id));
        place = next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 3);
    let (letter, attempts) = store
        .dead_letter(&tenant(), unknown[0].id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((letter.attempts, attempts.len()), (1, 1));
    assert_eq!(letter.response.as_deref(), Some("550 no"));
    assert!(
        store
            .dead_letter(&other(), unknown[0].id)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_redrive_keeps_the_id_and_gives_new_attempts() {
    let store = fresh().await;
    let letter = dead(&store, &["ann"], "rejected").await.remove(0);
    assert_eq!(store.stats(&tenant()).await.unwrap().failed, 1);
    assert!(
        redriven(&store, again(vec![DeliveryId::generate()]))
            .await
            .is_empty()
    );
    let foreign = store
        .redrive(&other(), again(vec![letter.id]), &by("op"))
        .await
        .unwrap();
    assert_eq!(foreign, RedriveResult::Redriven(Vec::new()));
    // Of two at the same time one does it.
    let (a, b) = tokio::join!(
        redriven(&store, again(vec![letter.id])),
        redriven(&store, again(vec![letter.id]))
    );
    assert_eq!([a, b].concat(), [letter.id]);
    assert_eq!(store.stats(&tenant()).await.unwrap().failed, 0);
    assert!(letters(&store, &DeadFilter::default()).await.is_empty());

    let claimed = store.claim(ask(Lane::Medium, 1)).await.unwrap().remove(0);
    assert_eq!(claimed.id, letter.id);
    assert!(
        claimed.token > letter.token,
        "who held it before can finish nothing"
    );
    assert_eq!((claimed.attempts, claimed.max_attempts), (1, 3));
    begin(&store, &claimed).await;
    end(&store, &claimed, DeliveryState::Delivered, "").await;
    let stats = store.stats(&tenant()).await.unwrap();
    assert_eq!((stats.sent, stats.failed), (1, 0));
    assert_eq!(
        state(&store, letter.notification, letter.id).await,
        DeliveryState::Delivered
    );
}

#[tokio::test]
async fn a_redrive_may_go_elsewhere_and_say_something_else() {
    let store = fresh().await;
    let mut new = note("mail", Vec::new());
    let now = new.created_at;
    let wrong = email("ann", now);
    let mut right = wrong.clone();
    right.id = DeliveryId::generate();
    right.address = Some("right@example.org".to_owned());
    new.deliveries.extend([wrong.clone(), right]);
    let id = put(&store, new).await;
    for claimed in store.claim(ask(Lane::Medium, 2)).await.unwrap() {
        end(&store, &claimed, DeliveryState::Dead, "rejected").await;
    }
    let to = |address: &str| Redrive {
        address: Some(address.to_owned()),
        content: Some(Content {
            title: "corrected".to_owned(),
            ..Content::default()
        }),
        ..again(vec![wrong.id])
    };
    let taken = store
        .redrive(&tenant(), to("right@example.org"), &by("op"))
        .await
        .unwrap();
    assert_eq!(taken, RedriveResult::AddressTaken);
    assert_eq!(redriven(&store, to("new@example.org")).await, [wrong.id]);
    let claimed = store.claim(ask(Lane::Medium, 2)).await.unwrap().remove(0);
    assert_eq!(claimed.address.as_deref(), Some("new@example.org"));
    assert_eq!(claimed.content.title, "corrected");
    // The notification says what it said.
    let (notification, _) = store.notification(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(notification.content.title, "mail");
    end(&store, &claimed, DeliveryState::Dead, "rejected").await;
    let (letter, _) = store.dead_letter(&tenant(), wrong.id).await.unwrap().unwrap();
    assert_eq!(letter.content.title, "corrected");
}

#[tokio::test]
async fn what_will_not_be_sent_any_more_is_not_redriven() {
    let store = fresh().await;
    let cancelled = dead(&store, &["ann"], "rejected").await.remove(0);
    store
        .cancel(&tenant(), cancelled.notification, &by("op"))
        .await
        .unwrap();
    let mut expired = mailed("bob");
    expired.expires_at = Some(Micros::now());
    put(&store, expired).await;
    let claimed = store.claim(ask(Lane::Medium, 1)).await.unwrap().remove(0);
    end(&store, &claimed, DeliveryState::Dead, "rejected").await;
    let discarded = dead(&store, &["cid"], "rejected").await.remove(0);
    assert_eq!(
        store
            .discard(&tenant(), vec![discarded.id], &by("op"))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .discard(&tenant(), vec![discarded.id], &by("op"))
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store
            .discard(&other(), vec![claimed.id], &by("op"))
            .await
            .unwrap(),
        0
    );
    let all = vec![cancelled.id, claimed.id, discarded.id];
    assert!(redriven(&store, again(all)).await.is_empty());
    assert_eq!(
        state(&store, discarded.notification, discarded.id).await,
        DeliveryState::Dead
    );
    assert_eq!(letters(&store, &DeadFilter::default()).await.len(), 2);
    assert_eq!(store.stats(&tenant()).await.unwrap().failed, 3);
}

/// A row of the inbox that has no owner is dead from the beginning, and no worker would ever claim it.
#[tokio::test]
async fn a_row_of_the_inbox_is_not_redriven() {
    let store = fresh().await;
    let mut new = note("mail", Vec::new());
    let now = new.created_at;
    let in_app = NewDelivery {
        channel: Channel::InApp,
        user: None,
        address: None,
        state: DeliveryState::Dead,
        reason: Some("no_address".into()),
        ..email("ann", now)
    };
    new.deliveries.extend([in_app.clone(), email("ann", now)]);
    let id = put(&store, new).await;
    let mail = store.claim(ask(Lane::Medium, 10)).await.unwrap().remove(0);
    end(&store, &mail, DeliveryState::Dead, "rejected").await;
    assert_eq!(letters(&store, &DeadFilter::default()).await, [mail.id]);
    assert!(store.dead_letter(&tenant(), in_app.id).await.unwrap().is_none());
    let both = again(vec![in_app.id, mail.id]);
    assert_eq!(redriven(&store, both).await, [mail.id]);
    assert_eq!(state(&store, id, in_app.id).await, DeliveryState::Dead);
    assert_eq!(store.stats(&tenant()).await.unwrap().failed, 1);
}

/// Many at once bring each back once; none is lost between the two tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_redrive_the_same_once() {
    let store = fresh().await;
    let letter = dead(&store, &["ann"], "rejected").await.remove(0);
    let mut token = letter.token;
    for round in 1..=5 {
        let tries = (0..16).map(|_| {
            let store = store.clone();
            let redrive = again(vec![letter.id]);
            tokio::spawn(async move { redriven(&store, redrive).await.len() })
        });
        let mut taken = 0;
        for one in tries.collect::<Vec<_>>() {
            taken += tokio::time::timeout(Duration::from_secs(30), one)
                .await
                .unwrap()
                .unwrap();
        }
        assert_eq!(taken, 1, "round {round}");
        let claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap();
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].id, letter.id);
        assert!(claimed[0].token > token);
        token = claimed[0].token;
        end(&store, &claimed[0], DeliveryState::Dead, "rejected").await;
    }
}
