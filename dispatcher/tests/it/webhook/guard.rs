//! Which receivers are never called.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dispatcher::{
    channels::{Channels, Resolver},
    config::DispatcherConfig,
    model::DeliveryState,
};

use super::{called, outcomes, responses};
use crate::support::{
    Running, World,
    hooks::{HookServer, configure},
};

/// Settings that call only the public internet.
fn guarded() -> DispatcherConfig {
    let mut config = configure();
    config.webhook.allow_private.clear();
    config
}

/// A dispatcher for which names stand for what `resolve` says.
async fn start(
    world: &World,
    config: DispatcherConfig,
    resolve: impl Fn(&str) -> std::io::Result<Vec<IpAddr>> + Send + Sync + 'static,
) -> Running {
    let resolver = Resolver::scripted(resolve);
    let channels = Channels::resolving(&config, resolver, &world.metrics).unwrap();
    world.start_with(config, channels, true).await
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn private_receivers_are_not_called_however_they_are_written() {
    let mut server = HookServer::friendly().await;
    let port = server.address.port();
    let world = World::new().await;
    let running = world.start(guarded()).await;
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
    ] {
        let delivery = called(&world, &running, &format!("http://{host}:{port}/")).await;
        assert_eq!(delivery.state, DeliveryState::Dead, "{host}");
        assert_eq!(
            delivery.reason.as_deref(),
            Some("rejected"),
            "{host}: {:?}",
            responses(&delivery)
        );
        assert!(
            responses(&delivery)[0].contains("webhook.allow_private"),
            "{host}"
        );
    }
    for url in [
        format!("http://user@127.0.0.1:{port}/"),
        format!("http://example.com@127.0.0.1:{port}/"),
        "nonsense".to_owned(),
    ] {
        let delivery = called(&world, &running, &url).await;
        assert_eq!(delivery.reason.as_deref(), Some("recipient_invalid"), "{url}");
    }
    running.stop().await;
    assert_eq!(server.further_calls(), 0);
}

#[tokio::test]
async fn a_name_is_judged_by_the_address_that_is_connected() {
    let mut server = HookServer::friendly().await;
    let url = format!("http://rebound.example:{}/", server.address.port());
    let world = World::new().await;
    // Permitted at first, ours the next time: each connection asks once and goes to what it was told, where nobody is,
    // and the second one is refused.
    let lookups = Arc::new(AtomicUsize::new(0));
    let mut config = guarded();
    config.webhook.allow_private = vec!["127.0.0.3".parse().unwrap()];
    let counted = Arc::clone(&lookups);
    let running = start(&world, config, move |_| {
        Ok(addresses(match counted.fetch_add(1, Ordering::SeqCst) {
            0 => &["127.0.0.3"],
            _ => &["127.0.0.1"],
        }))
    })
    .await;
    let delivery = called(&world, &running, &url).await;
    assert_eq!(outcomes(&delivery), ["retry", "rejected"]);
    assert_eq!(lookups.load(Ordering::SeqCst), 2);
    running.stop().await;
    assert_eq!(server.further_calls(), 0);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_may_be_are_connected() {
    let mut server = HookServer::friendly().await;
    let port = server.address.port();
    let world = World::new().await;
    // 127.0.0.2 is not exempt, and the server is not there; the first that may be is not answering, the second is.
    let mut config = guarded();
    config.webhook.allow_private = vec!["127.0.0.1".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    let running = start(&world, config, |_| {
        Ok(addresses(&["127.0.0.2", "127.0.0.3", "127.0.0.1"]))
    })
    .await;
    let delivery = called(&world, &running, &format!("http://many.example:{port}/")).await;
    assert_eq!(delivery.state, DeliveryState::Delivered);
    server.call().await;
    running.stop().await;
}

#[tokio::test]
async fn names_that_stand_for_nothing_are_tried_again() {
    let mut server = HookServer::friendly().await;
    let url = format!("http://late.example:{}/", server.address.port());
    let world = World::new().await;
    let lookups = AtomicUsize::new(0);
    let running = start(&world, configure(), move |_| {
        match lookups.fetch_add(1, Ordering::SeqCst) {
            0 => Err(std::io::Error::other("no such name")),
            1 => Ok(Vec::new()),
            _ => Ok(addresses(&["127.0.0.1"])),
        }
    })
    .await;
    let delivery = called(&world, &running, &url).await;
    assert_eq!(outcomes(&delivery), ["retry", "retry", "delivered"]);
    server.call().await;
    running.stop().await;
}

#[tokio::test]
async fn only_listed_hosts_ports_and_schemes_are_called() {
    let mut server = HookServer::friendly().await;
    let port = server.address.port();
    let world = World::new().await;
    let mut config = configure();
    config.webhook.hosts = vec!["*.example.com".parse().unwrap()];
    let running = start(&world, config.clone(), |_| Ok(addresses(&["127.0.0.1"]))).await;
    let listed = called(&world, &running, &format!("http://hooks.example.com:{port}/")).await;
    assert_eq!(listed.state, DeliveryState::Delivered);
    server.call().await;
    let other = called(&world, &running, &format!("http://hooks.example.org:{port}/")).await;
    assert_eq!(other.reason.as_deref(), Some("rejected"));
    running.stop().await;

    config.webhook.ports = vec![443];
    let running = start(&world, config.clone(), |_| Ok(addresses(&["127.0.0.1"]))).await;
    let other = called(&world, &running, &format!("http://hooks.example.com:{port}/")).await;
    assert_eq!(responses(&other), ["the port is not allowed (webhook.ports)"]);
    running.stop().await;

    config.webhook.ports.clear();
    config.webhook.allow_http = false;
    let running = start(&world, config, |_| Ok(addresses(&["127.0.0.1"]))).await;
    let other = called(&world, &running, &format!("http://hooks.example.com:{port}/")).await;
    assert_eq!(responses(&other), ["http is not allowed (webhook.allow_http)"]);
    running.stop().await;
    assert_eq!(server.further_calls(), 0);
}
