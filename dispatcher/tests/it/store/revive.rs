use std::time::Duration;

use common::ids::{DeliveryId, TenantId};
use dispatcher::{
    model::{DeliveryState, Lane, Micros, Settlement},
    store::{Revival, Revived, Store},
};

use super::{ask, fresh, mailed, put, tenant};

/// Claims the only delivery that is due, and ends it.
async fn end(store: &Store, state: DeliveryState) -> (DeliveryId, i64) {
    let claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let settlement = Settlement {
        delivery: claimed[0].id,
        token: claimed[0].token,
        state,
        due_at: None,
        reason: Some("rejected".into()),
        outcome: None,
        response: None,
    };
    assert_eq!(store.settle(vec![settlement]).await.unwrap(), [true]);
    (claimed[0].id, claimed[0].token)
}

async fn revive(store: &Store, tenant: &TenantId, id: DeliveryId) -> Vec<Revived> {
    let revival = Revival {
        deliveries: vec![id],
        states: vec![DeliveryState::Dead, DeliveryState::Expired],
        due_at: Micros::now(),
        attempts: 2,
    };
    store.revive(tenant, revival).await.unwrap()
}

#[tokio::test]
async fn what_is_dead_goes_on_with_its_id_and_a_greater_token() {
    let store = fresh().await;
    let notification = put(&store, mailed("u")).await;
    let (id, token) = end(&store, DeliveryState::Dead).await;
    let other = TenantId::new("other").unwrap();
    assert!(revive(&store, &other, id).await.is_empty());
    let revived = revive(&store, &tenant(), id).await;
    assert_eq!(revived.len(), 1);
    assert_eq!(
        (revived[0].delivery, revived[0].notification, revived[0].lane),
        (id, notification, Lane::Medium)
    );
    // It is on its way, and not twice.
    assert!(revive(&store, &tenant(), id).await.is_empty());
    let claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].id, id);
    assert!(claimed[0].token > token);
    assert_eq!(claimed[0].max_attempts, 2);
    assert!(revive(&store, &tenant(), id).await.is_empty());
    let (_, shown) = store
        .notification(&tenant(), notification)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].state, DeliveryState::Running);
    assert_eq!(shown[0].reason, None);
}

#[tokio::test]
async fn what_was_delivered_or_withdrawn_stays() {
    let store = fresh().await;
    put(&store, mailed("u")).await;
    let (delivered, _) = end(&store, DeliveryState::Delivered).await;
    assert!(revive(&store, &tenant(), delivered).await.is_empty());
    let withdrawn = put(&store, mailed("v")).await;
    let (dead, _) = end(&store, DeliveryState::Dead).await;
    assert!(store.withdraw(&tenant(), withdrawn).await.unwrap());
    assert!(revive(&store, &tenant(), dead).await.is_empty());
    assert_eq!(store.next_due().await.unwrap(), None);
}

/// Many at once bring each back once; none is lost between the two tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_revive_the_same_once() {
    let store = fresh().await;
    put(&store, mailed("u")).await;
    for round in 1..=5_u64 {
        let (id, token) = end(&store, DeliveryState::Dead).await;
        assert_eq!(u64::try_from(token), Ok(round));
        let tries = (0..16).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { revive(&store, &tenant(), id).await.len() })
        });
        let mut taken = 0;
        for one in tries.collect::<Vec<_>>() {
            taken += tokio::time::timeout(Duration::from_secs(30), one)
                .await
                .unwrap()
                .unwrap();
        }
        assert_eq!(taken, 1);
    }
}
