use std::{collections::BTreeSet, time::Duration};

use common::target::{Audience, Target};
use dispatcher::{
    model::{Channel, Contact, GroupJob, Lane, Micros},
    store::Store,
};

use super::{email, fresh, name, note, put, reader, tenant};
use crate::support::by;

fn grouped(target: Target) -> dispatcher::model::NewNotification {
    let mut new = note("group", Vec::new());
    new.job = Some(GroupJob {
        audience: Audience::from(target),
        channels: vec![Channel::Email],
    });
    new
}

async fn contact(store: &Store, user: &str, roles: Option<&[&str]>) {
    let roles = roles.map(|roles| roles.iter().map(|role| name(role)).collect());
    let contact = Contact {
        email: Some(format!("{user}@example.org")),
        roles,
        ..Contact::default()
    };
    store
        .put_contact(&tenant(), &name(user), &contact, &by("op"))
        .await
        .unwrap();
}

/// Walks a job to its end in pages of two.
async fn walk(store: &Store) -> BTreeSet<String> {
    let now = Micros::now();
    let until = now.plus(Duration::from_secs(30));
    let mut claim = store.next_job("w", now, until).await.unwrap().unwrap();
    let mut found = BTreeSet::new();
    loop {
        let page = store.job_page(&claim, 2).await.unwrap();
        let deliveries = page
            .recipients
            .iter()
            .map(|(_, user, _)| email(user.as_str(), now))
            .collect();
        found.extend(
            page.recipients
                .iter()
                .map(|(_, user, _)| user.as_str().to_owned()),
        );
        assert!(
            store
                .advance_job(&claim, deliveries, page.next.clone(), until)
                .await
                .unwrap()
        );
        if page.next.is_none() {
            return found;
        }
        claim.cursor = page.next;
    }
}

#[tokio::test]
async fn a_group_is_walked_by_contacts_and_memberships() {
    let store = fresh().await;
    contact(&store, "a", Some(&["r"])).await;
    contact(&store, "b", Some(&[])).await;
    contact(&store, "c", None).await;
    contact(&store, "d", None).await;
    contact(&store, "e", Some(&["s"])).await;
    store.touch_reader(&reader("c", &["r"])).await.unwrap();
    store.touch_reader(&reader("b", &["r"])).await.unwrap();
    // The newest token of `d` no longer carries the role.
    store.touch_reader(&reader("d", &["r"])).await.unwrap();
    store.touch_reader(&reader("d", &[])).await.unwrap();
    let id = put(&store, grouped(Target::Role(name("r")))).await;
    assert_eq!(
        walk(&store).await,
        BTreeSet::from(["a".to_owned(), "c".to_owned()])
    );
    let (_, deliveries) = store.notification(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(deliveries.len(), 2);
    put(&store, grouped(Target::Tenant)).await;
    assert_eq!(walk(&store).await.len(), 5);
    let now = Micros::now();
    assert!(store.next_job("w", now, now).await.unwrap().is_none());
}

#[tokio::test]
async fn a_job_goes_on_after_a_crash_and_repeats_nothing() {
    let store = fresh().await;
    for user in ["a", "b", "c"] {
        contact(&store, user, None).await;
    }
    let id = put(&store, grouped(Target::Tenant)).await;
    let now = Micros::now();
    let until = now.plus(Duration::from_secs(30));
    let first = store.next_job("w1", now, until).await.unwrap().unwrap();
    assert!(store.next_job("w2", now, until).await.unwrap().is_none());
    let page = store.job_page(&first, 2).await.unwrap();
    assert!(
        store
            .advance_job(&first, vec![email("a", now), email("b", now)], page.next, until)
            .await
            .unwrap()
    );
    // The lease runs out; another goes on where the first was, and the first can do nothing more.
    let later = until.plus(Duration::from_secs(1));
    let second = store
        .next_job("w2", later, later.plus(Duration::from_secs(30)))
        .await
        .unwrap()
        .unwrap();
    assert!(second.token > first.token);
    assert!(
        !store
            .advance_job(&first, vec![email("z", now)], None, later)
            .await
            .unwrap()
    );
    let page = store.job_page(&second, 2).await.unwrap();
    assert_eq!(page.recipients.len(), 1);
    // The same recipient once more is left out.
    assert!(
        store
            .advance_job(&second, vec![email("b", now), email("c", now)], page.next, later)
            .await
            .unwrap()
    );
    let (_, deliveries) = store.notification(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(deliveries.len(), 3);
}

#[tokio::test]
async fn a_withdrawn_group_is_not_walked() {
    let store = fresh().await;
    let id = put(&store, grouped(Target::Tenant)).await;
    store.withdraw(&tenant(), id, &by("op")).await.unwrap();
    let now = Micros::now();
    assert!(store.next_job("w", now, now).await.unwrap().is_none());
}

#[tokio::test]
async fn a_fan_out_gives_way_to_one_that_is_more_important() {
    let store = fresh().await;
    for user in ["a", "b", "c"] {
        contact(&store, user, None).await;
    }
    let with = |lane| {
        let mut new = grouped(Target::Tenant);
        new.lane = lane;
        new
    };
    let low = put(&store, with(Lane::Low)).await;
    let until = Micros::now().plus(Duration::from_secs(30));
    let claimed = async || {
        let next = store.next_job("w", Micros::now(), until).await.unwrap();
        next.expect("there is a job")
    };
    let first = claimed().await;
    assert_eq!(first.notification, low);
    // One of each comes while a page is at work.
    let other = put(&store, with(Lane::Low)).await;
    let critical = put(&store, with(Lane::Critical)).await;
    let page = store.job_page(&first, 1).await.unwrap();
    let cursor = page.next.clone();
    assert!(
        store
            .advance_job(&first, vec![email("a", Micros::now())], page.next, Micros::now())
            .await
            .unwrap()
    );
    let mut turns = Vec::new();
    for _ in 0..3 {
        let job = claimed().await;
        assert_eq!(job.cursor.is_some(), job.notification == low);
        if job.notification == low {
            assert_eq!(job.cursor, cursor, "it goes on where it was");
        }
        turns.push(job.notification);
    }
    assert_eq!(turns, [critical, other, low]);
}
