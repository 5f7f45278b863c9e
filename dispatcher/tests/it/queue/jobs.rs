//! Groups: fanned out by a job, once.

use std::time::Duration;

use common::target::Target;
use dispatcher::model::{Channel, Contact, DeliveryState, Micros};

use crate::support::{World, by, in_inbox, name, notification, quick, tenant, to_group};

#[tokio::test]
async fn a_group_is_fanned_out_over_the_contacts_roles() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 50).await;
    let contact = |role: &str, email: Option<&str>| Contact {
        email: email.map(str::to_owned),
        roles: Some(vec![name(role)]),
        ..Contact::default()
    };
    let contacts = vec![
        (name("anna"), contact("manager", Some("anna@example.com"))),
        (name("bert"), contact("clerk", Some("bert@example.com"))),
        (name("carl"), contact("manager", None)),
        (name("dora"), contact("manager", Some("no address"))),
        (name("emil"), contact("manager", Some("emil@example.com"))),
    ];
    world
        .store
        .put_contacts(&tenant(), contacts, &by("op"))
        .await
        .unwrap();
    let id = running
        .accept_one(to_group(notification("x"), Target::Role(name("manager"))))
        .await;
    let mut reached = Vec::new();
    for _ in 0..2 {
        let delivery = sent.deliver().await;
        assert_eq!(delivery.notification, id);
        reached.push(delivery.address.unwrap());
    }
    reached.sort();
    assert_eq!(reached, ["anna@example.com", "emil@example.com"]);
    let all = world.all_ended(id).await;
    let dead: Vec<_> = all
        .iter()
        .filter(|one| one.state == DeliveryState::Dead)
        .collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason.as_deref(), Some("recipient_invalid"));
    assert_eq!(all.len(), 3);
    running.stop().await;
}

#[tokio::test]
async fn at_an_exclusive_start_a_fan_out_goes_on_at_once() {
    let world = World::new().await;
    let contact = Contact {
        email: Some("anna@example.com".to_owned()),
        ..Contact::default()
    };
    world
        .store
        .put_contacts(&tenant(), vec![(name("anna"), contact)], &by("op"))
        .await
        .unwrap();
    let id = world
        .stored_one(to_group(notification("x"), Target::Tenant))
        .await;
    // A life before this one holds the fan-out for an hour more.
    let now = Micros::now();
    let until = now.plus(Duration::from_secs(3600));
    world.store.next_job("gone", now, until).await.unwrap().unwrap();
    let (running, mut sent) = world.start_outbox(quick(), 10).await;
    sent.deliver().await;
    world.delivered(id, Channel::Email).await;
    running.stop().await;
}

#[tokio::test]
async fn a_notification_is_open_while_its_group_is_being_fanned_out() {
    let world = World::new().await;
    let id = world
        .stored_one(to_group(in_inbox(notification("u1"), "u1"), Target::Tenant))
        .await;
    let is_open = async || {
        world
            .store
            .notification(&tenant(), id)
            .await
            .unwrap()
            .unwrap()
            .0
            .open
    };
    assert!(is_open().await);
    let now = Micros::now();
    let until = now.plus(Duration::from_secs(30));
    let job = world.store.next_job("w", now, until).await.unwrap().unwrap();
    assert!(is_open().await);
    world
        .store
        .advance_job(&job, Vec::new(), None, until)
        .await
        .unwrap();
    assert!(!is_open().await);
}
