//! How often, and how many at once.

use std::time::Duration;

use dispatcher::model::{Channel, DeliveryState, Micros};

use super::called;
use crate::support::{
    World, by_webhook, eventually,
    hooks::{HookServer, Reply, configure},
    notification,
};

#[tokio::test]
async fn a_url_is_called_so_often_in_a_minute_and_the_others_wait_untried() {
    let mut server = HookServer::friendly().await;
    let world = World::new().await;
    let mut config = configure();
    config.webhook.per_minute = 3;
    let running = world.start(config).await;
    let url = server.url("/hook");
    let ids = running
        .accept((0..5).map(|_| by_webhook(notification("u1"), &url)).collect())
        .await;
    let mut waiting = Vec::new();
    for id in ids {
        let settled = world
            .delivery(id, Channel::Webhook, |one| {
                one.state.is_terminal() || one.reason.as_deref() == Some("throttled")
            })
            .await;
        if settled.state == DeliveryState::Pending {
            assert!(settled.attempts.is_empty(), "{settled:?}");
            waiting.push(settled.due_at);
        }
    }
    waiting.sort_unstable();
    assert_eq!(waiting.len(), 2);
    assert!(waiting[0] > Micros::now().plus(Duration::from_secs(30)));
    assert!(waiting[1] >= waiting[0].plus(Duration::from_secs(20)));
    assert_eq!(server.further_calls(), 3);
    let throttled = world
        .metrics
        .throttled
        .get_or_create(&Channel::Webhook.into())
        .get();
    assert_eq!(throttled, 2);
    // Each URL has a limit of its own.
    let other = called(&world, &running, &server.url("/other")).await;
    assert_eq!(other.state, DeliveryState::Delivered);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_have_its_turn_in_time_expires() {
    let server = HookServer::friendly().await;
    let world = World::new().await;
    let mut config = configure();
    config.webhook.per_minute = 1;
    let running = world.start(config).await;
    let url = server.url("/hook");
    called(&world, &running, &url).await;
    let mut late = by_webhook(notification("u1"), &url);
    late.expires_at = Some(Micros::now().plus(Duration::from_secs(20)));
    let id = running.accept_one(late).await;
    let delivery = world.ended(id, Channel::Webhook).await;
    assert_eq!(delivery.state, DeliveryState::Expired);
    assert!(delivery.attempts.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn so_many_calls_are_made_at_once_and_mail_does_not_wait_for_them() {
    let mut server = HookServer::start(|_| Reply::Hang).await;
    let mut mails = crate::support::smtp::SmtpServer::friendly().await;
    let world = World::new().await;
    let mut config = mails.configure(configure());
    config.webhook.concurrency = 2;
    config.queue.stop_within = common::config::Span(Duration::from_millis(50));
    let running = world.start(config).await;
    let url = server.url("/hook");
    running
        .accept((0..6).map(|_| by_webhook(notification("u1"), &url)).collect())
        .await;
    let (first, second) = (server.call().await, server.call().await);
    assert_ne!(first.connection, second.connection);
    running
        .accept_one(crate::support::email("user@example.com"))
        .await;
    mails.mail().await;
    let sent = world.metrics.sent.get_or_create(&Channel::Email.into());
    eventually("the mail is counted", async || (sent.get() == 1).then_some(())).await;
    assert_eq!(server.further_calls(), 0);
    drop(running);
}
