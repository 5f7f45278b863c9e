//! Several dispatchers on one PostgreSQL, with a pooler before it and without.

use std::collections::HashMap;

use dispatcher::model::{Channel, Lane, NewNotification, Outcome};

use super::in_lane;
use crate::support::{Database, World, quick};

/// In each, at once.
const EMAILS: usize = 60;
/// On the way from each dispatcher at once, of which it keeps some for the critical lane.
const ROOM: usize = 10;
/// Fewer than those.
const HELD: usize = 6;

fn emails() -> Vec<NewNotification> {
    (0..EMAILS).map(|_| in_lane(Lane::Medium)).collect()
}

async fn each_email_is_sent_once(database: Database) {
    let world = World::on(database, |_| {}).await;
    let other = world.beside().await;
    let (first, mut from_first) = world.start_outbox_beside(quick(), ROOM).await;
    let (second, mut from_second) = other.start_outbox_beside(quick(), ROOM).await;
    let (mut ids, more) = tokio::join!(first.accept(emails()), second.accept(emails()));
    ids.extend(more);
    // Neither leaves the work to the other.
    let (held, more) = tokio::join!(from_first.hold(HELD), from_second.hold(HELD));
    let mut seen = HashMap::new();
    for one in held.into_iter().chain(more) {
        *seen.entry(one.end(Outcome::Delivered).id).or_insert(0) += 1;
    }
    let rest = [from_first, from_second].map(|outbox| tokio::spawn(outbox.deliver_all()));
    for id in &ids {
        // What one stored, the other sees.
        other.delivered(*id, Channel::Email).await;
    }
    first.stop().await;
    second.stop().await;
    for rest in rest {
        for (id, times) in rest.await.unwrap() {
            *seen.entry(id).or_insert(0) += times;
        }
    }
    assert_eq!(seen.len(), 2 * EMAILS);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
}

#[tokio::test]
async fn two_dispatchers_send_each_email_once() {
    each_email_is_sent_once(Database::shared()).await;
}

#[tokio::test]
async fn behind_a_pooler_two_dispatchers_send_each_email_once() {
    each_email_is_sent_once(Database::pooled()).await;
}
