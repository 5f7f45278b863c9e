//! API keys in both databases.

use std::{collections::BTreeSet, time::Duration};

use common::{
    credential::KeyUse,
    ids::TenantId,
    token::{KeyId, NewKey, Role},
};
use dispatcher::model::{ApiKey, AuditFilter, KeyFilter, KeyRotated, KeyState, Micros, NewApiKey, Revised};

use super::{Fresh, fresh};
use crate::support::{by, tenant};

fn key(secret: &NewKey) -> ApiKey {
    ApiKey {
        id: secret.id,
        tenant: tenant(),
        name: "orders".to_owned(),
        scopes: BTreeSet::from(["publish".to_owned()]),
        role: Some(Role::Auditor),
        created_by: "op".to_owned(),
        created_at: Micros(Micros::now().0 / 1000 * 1000),
        expires_at: None,
        rotated_at: None,
        previous_until: None,
        revoked_at: None,
        last_used_at: None,
    }
}

fn new(secret: &NewKey) -> NewApiKey {
    NewApiKey {
        key: key(secret),
        hash: secret.hash,
        most: 3,
    }
}

async fn made(store: &Fresh) -> NewKey {
    let secret = NewKey::generate().unwrap();
    assert!(store.create_key(new(&secret), &by("op")).await.unwrap().made);
    secret
}

#[tokio::test]
async fn s4_10_a_key_is_made_replaced_and_taken_back_each_with_its_revision_and_on_record() {
    let store = fresh().await;
    let before = store.revisions().await.unwrap().of(Revised::Keys);
    let secret = NewKey::generate().unwrap();
    let first = key(&secret);
    let made = NewApiKey {
        key: first.clone(),
        ..new(&secret)
    };
    assert!(store.create_key(made, &by("op")).await.unwrap().made);
    assert_eq!(store.key(None, &secret.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.key(Some(&tenant()), &secret.id).await.unwrap(), Some(first));
    let stranger = TenantId::new("other").unwrap();
    assert_eq!(store.key(Some(&stranger), &secret.id).await.unwrap(), None);

    let next = NewKey::next(secret.id).unwrap();
    let until = Micros::now().plus(Duration::from_secs(60));
    for tenant in [Some(stranger.clone()), None] {
        let rotated = store
            .rotate_key(tenant.clone(), secret.id, next.hash, until, &by("op"))
            .await
            .unwrap();
        match tenant {
            Some(_) => assert_eq!(rotated, KeyRotated::None),
            None => assert!(matches!(rotated, KeyRotated::Done(key) if key.previous_until == Some(until))),
        }
    }
    let record = store.key_records(&[secret.id]).await.unwrap().remove(0);
    assert!(record.hash.is(&next.hash) && record.previous.unwrap().hash.is(&secret.hash));
    assert_eq!(
        record.all_scopes(),
        ["audit:read", "publish"].map(str::to_owned).into()
    );
    assert!(!record.revoked);

    assert_eq!(
        store
            .revoke_key(Some(stranger), secret.id, &by("op"))
            .await
            .unwrap(),
        None
    );
    let revoked = store
        .revoke_key(Some(tenant()), secret.id, &by("op"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(revoked.state(Micros::now()), KeyState::Revoked);
    let again = store
        .revoke_key(Some(tenant()), secret.id, &by("op"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        again.revoked_at.map(|at| at.0 / 1000),
        revoked.revoked_at.map(|at| at.0 / 1000)
    );
    let rotated = store
        .rotate_key(None, secret.id, next.hash, until, &by("op"))
        .await
        .unwrap();
    assert_eq!(rotated, KeyRotated::Ended(KeyState::Revoked));

    let (revision, changed) = store.changed_keys(before, 10).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert!(changed[0].revoked && changed[0].revision > before && changed[0].revision <= revision);
    assert!(store.changed_keys(revision, 10).await.unwrap().1.is_empty());

    let filter = AuditFilter {
        tenant: Some(tenant()),
        object_kind: Some("key".to_owned()),
        object_id: Some(secret.id.to_string()),
        ..AuditFilter::default()
    };
    let (entries, _) = store.audit(&filter, None, 10).await.unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_ref()).collect();
    assert_eq!(actions, ["key.revoke", "key.rotate", "key.create"]);
    let text = serde_json::to_string(&entries).unwrap();
    for hidden in [
        secret.text(),
        next.text(),
        &secret.hash.to_hex(),
        &next.hash.to_hex(),
    ] {
        assert!(!text.contains(hidden.rsplit('_').next().unwrap()), "{text}");
    }
    assert_eq!(entries[2].after.as_ref().unwrap()["role"], "auditor");
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_keys_and_those_that_ended_long_ago_are_forgotten() {
    let store = fresh().await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(made(&store).await.id);
    }
    let fourth = NewKey::generate().unwrap();
    assert!(!store.create_key(new(&fourth), &by("op")).await.unwrap().made);
    store.revoke_key(None, keys[0], &by("op")).await.unwrap();
    assert!(store.create_key(new(&fourth), &by("op")).await.unwrap().made);

    let old = NewKey::generate().unwrap();
    let mut ended = new(&old);
    ended.most = 10;
    ended.key.expires_at = Some(Micros::now().minus(Duration::from_hours(91 * 24)));
    assert!(store.create_key(ended, &by("op")).await.unwrap().made);
    let next = NewKey::generate().unwrap();
    let made = store
        .create_key(
            NewApiKey {
                most: 10,
                ..new(&next)
            },
            &by("op"),
        )
        .await
        .unwrap();
    assert_eq!(made.forgotten, [old.id]);
    assert_eq!(store.key(None, &old.id).await.unwrap(), None);
    assert!(
        store.key(None, &keys[0]).await.unwrap().is_some(),
        "it was taken back today"
    );

    let list = |state| KeyFilter {
        tenant: Some(tenant()),
        state,
    };
    let mut all: Vec<KeyId> = Vec::new();
    loop {
        let page = store.keys(&list(None), all.last(), 2).await.unwrap();
        all.extend(page.iter().map(|key| key.id));
        if page.len() < 2 {
            break;
        }
    }
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted());
    let revoked = store
        .keys(&list(Some(KeyState::Revoked)), None, 10)
        .await
        .unwrap();
    assert_eq!(revoked.iter().map(|key| key.id).collect::<Vec<_>>(), [keys[0]]);
    assert_eq!(
        store
            .keys(&list(Some(KeyState::Active)), None, 10)
            .await
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        store
            .keys(&list(Some(KeyState::Expired)), None, 10)
            .await
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn uses_are_written_at_most_once_a_minute() {
    let store = fresh().await;
    let (one, other) = (made(&store).await.id, made(&store).await.id);
    let now = Micros::now().seconds();
    let used = |id, at| KeyUse {
        tenant: tenant(),
        id,
        at,
    };
    let foreign = KeyUse {
        tenant: TenantId::new("other").unwrap(),
        ..used(other, now)
    };
    let uses = vec![used(one, now - 200), used(one, now - 120), foreign];
    store.note_key_uses(uses).await.unwrap();
    let at = async |id: &KeyId| {
        let key = store.key(None, id).await.unwrap().unwrap();
        key.last_used_at.map(Micros::seconds)
    };
    assert_eq!((at(&one).await, at(&other).await), (Some(now - 120), None));
    for (told, known) in [
        (now - 90, now - 120),
        (now - 300, now - 120),
        (now - 60, now - 60),
    ] {
        store.note_key_uses(vec![used(one, told)]).await.unwrap();
        assert_eq!(at(&one).await, Some(known), "{told}");
    }
    // Nobody's clock is ahead of the database's process.
    store
        .note_key_uses(vec![used(other, now + 10_000)])
        .await
        .unwrap();
    assert!(at(&other).await.unwrap() <= Micros::now().seconds());
}
