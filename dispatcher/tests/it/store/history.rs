//! What operators look at.

use std::time::Duration;

use common::{
    ids::{NotificationId, TenantId},
    target::Target,
};
use dispatcher::{
    model::{
        Channel, DeliveryState, IdempotencyKey, Kind, Lane, Micros, NewNotification, SentFilter, Settlement,
    },
    store::Store,
};

use super::{ask, email, fresh, mailed, note, plain, put, tenant, user_key};
use crate::support::{by, name, to_group};

async fn ids(store: &Store, filter: &SentFilter) -> Vec<NotificationId> {
    let page = store.sent(&tenant(), filter, None, 100).await.unwrap();
    page.notifications.iter().map(|(one, _)| one.id).collect()
}

fn made(title: &str, change: impl FnOnce(&mut NewNotification)) -> NewNotification {
    let mut new = note(title, vec![plain(user_key("u"))]);
    change(&mut new);
    new
}

#[tokio::test]
async fn filters_narrow_each_other() {
    let store = fresh().await;
    let a = put(
        &store,
        made("alpha", |new| {
            new.content.kind = Kind::Alert;
            new.content.source = Some("shop \"1\"".to_owned());
            new.deliveries.push(email("u1", Micros::now()));
        }),
    )
    .await;
    let b = put(
        &store,
        made("beta", |new| {
            new.sender = "other".to_owned();
            new.content.category = Some("c".to_owned());
            new.content.data = Some(serde_json::json!({ "source": "shop \"1\"" }));
        }),
    )
    .await;
    let mut foreign = made("gamma", |_| {});
    foreign.tenant = TenantId::new("t2").unwrap();
    put(&store, foreign).await;
    let all = SentFilter::default();
    assert_eq!(
        ids(&store, &all).await,
        [b, a],
        "the newest first, and of this tenant"
    );
    let text = |text: &str| SentFilter {
        text: Some(text.to_owned()),
        ..SentFilter::default()
    };
    for (filter, found) in [
        (
            SentFilter {
                sender: Some("other".to_owned()),
                ..all.clone()
            },
            vec![b],
        ),
        (
            SentFilter {
                kind: Some(Kind::Alert),
                ..all.clone()
            },
            vec![a],
        ),
        (
            SentFilter {
                category: Some("c".to_owned()),
                ..all.clone()
            },
            vec![b],
        ),
        // What stands in `data` is no source.
        (
            SentFilter {
                source: Some("shop \"1\"".to_owned()),
                ..all.clone()
            },
            vec![a],
        ),
        (
            SentFilter {
                channel: Some(Channel::Email),
                ..all.clone()
            },
            vec![a],
        ),
        (
            SentFilter {
                user: Some(name("u1")),
                ..all.clone()
            },
            vec![a],
        ),
        (
            SentFilter {
                user: Some(name("u1")),
                channel: Some(Channel::Sms),
                ..all.clone()
            },
            vec![],
        ),
        (
            SentFilter {
                since: Some(Micros::now().plus(Duration::from_secs(60))),
                ..all.clone()
            },
            vec![],
        ),
        (
            SentFilter {
                until: Some(Micros::now().plus(Duration::from_secs(60))),
                ..all.clone()
            },
            vec![b, a],
        ),
        (
            SentFilter {
                until: Some(Micros::now().minus(Duration::from_secs(600))),
                ..all.clone()
            },
            vec![],
        ),
        (text("beta"), vec![b]),
        (text("alph"), vec![a]),
        // A field's name is no text.
        (text("title"), vec![]),
        (text("文"), vec![b, a]),
    ] {
        assert_eq!(ids(&store, &filter).await, found, "{filter:?}");
    }
}

#[tokio::test]
async fn a_status_is_what_the_deliveries_amount_to() {
    let store = fresh().await;
    let ended = async |state: DeliveryState| {
        let id = put(&store, mailed("u")).await;
        let claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap().remove(0);
        let end = Settlement {
            delivery: claimed.id,
            token: claimed.token,
            state,
            due_at: None,
            reason: None,
            outcome: None,
            response: None,
        };
        assert_eq!(store.settle(vec![end]).await.unwrap(), [true]);
        id
    };
    let sent = ended(DeliveryState::Delivered).await;
    let failed = ended(DeliveryState::Dead).await;
    let expired = ended(DeliveryState::Expired).await;
    let skipped = ended(DeliveryState::Skipped).await;
    let pending = put(&store, mailed("u")).await;
    let group = put(&store, to_group(note("g", Vec::new()), Target::Tenant)).await;
    let mut later = mailed("u");
    later.visible_at = later.created_at.plus(Duration::from_secs(60));
    later.deliveries[0].due_at = later.visible_at;
    let scheduled = put(&store, later).await;
    let cancelled = put(&store, mailed("u")).await;
    assert!(store.withdraw(&tenant(), cancelled, &by("op")).await.unwrap());
    let nothing = put(&store, note("n", Vec::new())).await;
    for (status, found) in [
        ("sent", vec![nothing, sent]),
        ("failed", vec![expired, failed]),
        ("skipped", vec![skipped]),
        ("pending", vec![group, pending]),
        ("scheduled", vec![scheduled]),
        ("cancelled", vec![cancelled]),
    ] {
        let filter = SentFilter {
            status: Some(status),
            ..SentFilter::default()
        };
        let page = store.sent(&tenant(), &filter, None, 100).await.unwrap();
        let ids: Vec<_> = page.notifications.iter().map(|(one, _)| one.id).collect();
        assert_eq!(ids, found, "{status}");
        assert!(page.notifications.iter().all(|(_, said)| said == status));
    }
}

#[tokio::test]
async fn pages_show_each_once_whatever_is_filtered() {
    let store = fresh().await;
    let all: Vec<NewNotification> = (0..1300)
        .map(|number| {
            made("n", |new| {
                if number % 7 == 0 {
                    new.content.category = Some("rare".to_owned());
                }
                if number % 2 == 0 {
                    new.tenant = TenantId::new("t2").unwrap();
                }
            })
        })
        .collect();
    let mut wanted: Vec<NotificationId> = all
        .iter()
        .filter(|new| new.tenant == tenant() && new.content.category.is_some())
        .map(|new| new.id)
        .collect();
    wanted.sort_unstable();
    wanted.reverse();
    store.accept(all).await.unwrap();
    let filter = SentFilter {
        category: Some("rare".to_owned()),
        ..SentFilter::default()
    };
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.sent(&tenant(), &filter, after, 20).await.unwrap();
        assert!(page.notifications.len() <= 20);
        seen.extend(page.notifications.iter().map(|(one, _)| one.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn progress_and_sums_count_deliveries() {
    let store = fresh().await;
    let since = Micros::now().minus(Duration::from_secs(60));
    let mut new = note("n", Vec::new());
    for user in ["a", "b", "c"] {
        new.deliveries.push(email(user, Micros::now()));
    }
    new.deliveries[2].state = DeliveryState::Dead;
    new.deliveries[2].reason = Some("no_address".into());
    let id = put(&store, new).await;
    let progress = store.progress(id).await.unwrap();
    let mut counts = progress.counts;
    counts.sort_by_key(|row| row.3);
    assert_eq!(
        counts,
        [
            (
                Channel::Email,
                DeliveryState::Dead,
                Some("no_address".to_owned()),
                1
            ),
            (Channel::Email, DeliveryState::Pending, None, 2),
        ]
    );
    assert_eq!(progress.failures.len(), 1);
    assert_eq!(progress.failures[0].user, Some(name("c")));
    assert_eq!(progress.fan_out, None);
    let group = put(&store, to_group(note("g", Vec::new()), Target::Tenant)).await;
    assert_eq!(store.progress(group).await.unwrap().fan_out, Some(false));

    let until = Micros::now().plus(Duration::from_secs(60));
    let sums = store.sums(&tenant(), since, until).await.unwrap();
    assert_eq!((sums.notifications, sums.complete), (2, true));
    let mut deliveries = sums.deliveries;
    deliveries.sort_by_key(|row| row.2);
    assert_eq!(
        deliveries,
        [
            (Channel::Email, DeliveryState::Dead, 1),
            (Channel::Email, DeliveryState::Pending, 2)
        ]
    );
    assert!(sums.since.unwrap() >= since);
    let none = store.sums(&tenant(), until, until).await.unwrap();
    assert_eq!((none.notifications, none.since), (0, None));
}

#[tokio::test]
async fn what_waits_is_counted_by_tenant() {
    let store = fresh().await;
    for (tenant, number) in [("t1", 2), ("t2", 3)] {
        for _ in 0..number {
            let mut new = mailed("u");
            new.tenant = TenantId::new(tenant).unwrap();
            put(&store, new).await;
        }
    }
    store.claim(ask(Lane::Medium, 1)).await.unwrap();
    let depths = store.tenant_depths().await.unwrap();
    assert_eq!(depths.values().sum::<u64>(), 4);
    assert_eq!(depths[&tenant()] + depths[&TenantId::new("t2").unwrap()], 4);
}

#[tokio::test]
async fn a_kept_answer_can_be_amended() {
    let store = fresh().await;
    let key = |response: &str| IdempotencyKey {
        credential: "c".to_owned(),
        route: "notifications/bulk".into(),
        key: "k".to_owned(),
        request_hash: vec![1],
        status: 200,
        response: response.to_owned(),
    };
    let mut new = mailed("u");
    new.idempotency.push(key("foretold"));
    put(&store, new).await;
    store.amend_answer(&tenant(), key("true")).await.unwrap();
    let answered = store.answered(&tenant(), &[key("")]).await.unwrap();
    let Some(dispatcher::model::Accepted::Repeat { response, .. }) = answered else {
        panic!("{answered:?}")
    };
    assert_eq!(response, "true");
}
