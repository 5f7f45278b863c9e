//! Email: what reaches the server, and what follows each of its answers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use dispatcher::{
    config::SmtpTls,
    model::{Channel, Delivery, DeliveryState},
};

use crate::support::{
    Running, World, by_email, email, in_inbox, notification, quick,
    sink::SmtpSink,
    smtp::{Answer, Event, Protected, SmtpServer},
};

fn outcomes(delivery: &Delivery) -> Vec<&str> {
    delivery
        .attempts
        .iter()
        .map(|attempt| attempt.outcome.as_deref().unwrap_or("open"))
        .collect()
}

/// Sends one email, and waits for its end.
async fn sent(world: &World, running: &Running, address: &str) -> Delivery {
    let id = running.accept_one(email(address)).await;
    world.ended(id, Channel::Email).await
}

#[tokio::test]
async fn a_mail_arrives_and_every_state_is_visible() {
    let mut server = SmtpServer::friendly().await;
    let world = World::new().await;
    let running = world.start(server.configure(quick())).await;
    let mut sent = by_email(in_inbox(notification("u1"), "u1"), "user@example.com");
    sent.content.title = "Grüße\r\nBcc: victim@example.com".to_owned();
    sent.content.content = ".a line that begins with a dot".to_owned();
    sent.content.html = Some("<b>bold</b>".to_owned());
    let (id, delivery_id) = (sent.id, sent.deliveries[1].id);
    running.accept_one(sent).await;

    let mail = server.mail().await;
    assert_eq!(mail.to, "user@example.com");
    assert_eq!(
        mail.header("Message-ID"),
        Some(format!("<{delivery_id}@carillon.example>").as_str())
    );
    assert_eq!(
        mail.header("X-Carillon-Notification"),
        Some(id.to_string().as_str())
    );
    assert_eq!(mail.header("Bcc"), None);
    assert!(
        mail.text.contains("\r\n.a line that begins with a dot"),
        "{}",
        mail.text
    );
    assert!(mail.text.contains("<b>bold</b>"));

    let delivery = world.delivered(id, Channel::Email).await;
    assert_eq!(outcomes(&delivery), ["delivered"]);
    assert_eq!(delivery.attempts[0].response.as_deref(), Some("2.0.0 queued"));
    assert!(delivery.attempts[0].finished_at >= Some(delivery.attempts[0].started_at));
    running.stop().await;
}

#[tokio::test]
async fn a_real_mail_server_takes_them_all() {
    let sink = SmtpSink::start().await;
    let world = World::new().await;
    let mut config = quick();
    config.smtp.host = Some(sink.address.ip().to_string());
    config.smtp.port = Some(sink.address.port());
    config.smtp.tls = SmtpTls::None;
    config.smtp.from = Some("noreply@carillon.example".to_owned());
    let running = world.start(config).await;
    let sent: Vec<_> = (0..200).map(|n| email(&format!("user{n}@example.com"))).collect();
    let ids: Vec<_> = sent.iter().map(|one| (one.id, one.deliveries[0].id)).collect();
    running.accept(sent).await;
    for (id, _) in &ids {
        world.delivered(*id, Channel::Email).await;
    }
    running.stop().await;

    let mails = sink.mails();
    assert_eq!(mails.len(), ids.len());
    for (_, delivery) in ids {
        let wanted = format!("Message-ID: <{delivery}@carillon.example>");
        assert_eq!(mails.iter().filter(|mail| mail.contains(&wanted)).count(), 1);
    }
}

#[tokio::test]
async fn connections_are_bounded_and_used_again() {
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (AtomicUsize::new(0), most.clone());
    let server = SmtpServer::start(move |event| {
        match event {
            Event::Mail => {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            }
            Event::Body(_) => {
                now.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Answer::Usual
    })
    .await;
    let world = World::new().await;
    let mut config = server.configure(quick());
    config.smtp.pool_size = 4;
    let running = world.start(config).await;
    let sent: Vec<_> = (0..100).map(|n| email(&format!("u{n}@example.com"))).collect();
    let ids = running.accept(sent).await;
    for id in ids {
        world.ended(id, Channel::Email).await;
    }
    assert!(server.connections() <= 4, "{}", server.connections());
    assert!(most.load(Ordering::SeqCst) <= 4);
    running.stop().await;
}

#[tokio::test]
async fn a_passing_fault_is_tried_again() {
    let faults = AtomicUsize::new(0);
    let mut server = SmtpServer::start(move |event| match event {
        Event::Rcpt(_) if faults.fetch_add(1, Ordering::SeqCst) < 2 => Answer::Say("451 4.3.0 try later"),
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let running = world.start(server.configure(quick())).await;
    let delivery = sent(&world, &running, "user@example.com").await;
    assert_eq!(delivery.state, DeliveryState::Delivered);
    assert_eq!(outcomes(&delivery), ["retry", "retry", "delivered"]);
    server.mail().await;
    assert!(server.further_mails().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_one_command_at_a_time_gets_one() {
    let mut server = SmtpServer::start(|event| match event {
        Event::Hello => Answer::Say("250-test\r\n250 8BITMIME"),
        Event::Rcpt(to) if to.starts_with("gone") => Answer::Say("550 5.1.1 unknown user"),
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let mut config = server.configure(quick());
    config.smtp.pool_size = 1;
    let running = world.start(config).await;
    for (address, state) in [
        ("user@example.com", DeliveryState::Delivered),
        ("gone@example.com", DeliveryState::Dead),
        ("next@example.com", DeliveryState::Delivered),
    ] {
        assert_eq!(sent(&world, &running, address).await.state, state, "{address}");
    }
    assert_eq!(server.connections(), 1);
    for to in ["user@example.com", "next@example.com"] {
        assert_eq!(server.mail().await.to, to);
    }
    assert!(server.further_mails().is_empty());
    running.stop().await;
}

/// RFC 2920 section 3.1: DATA may be answered before the refusal of all recipients is looked at.
#[tokio::test]
async fn what_is_sent_together_and_refused_leaves_no_mail_and_the_connection() {
    for early in ["354 go ahead", "554 5.5.1 no valid recipients"] {
        let mut server = SmtpServer::start(move |event| match event {
            Event::Rcpt(to) if to.starts_with("gone") => Answer::Say("550 5.1.1 unknown user"),
            Event::Data(to) if to.is_empty() => Answer::Say(early),
            _ => Answer::Usual,
        })
        .await;
        let world = World::new().await;
        let mut config = server.configure(quick());
        config.smtp.pool_size = 1;
        let running = world.start(config).await;
        let gone = sent(&world, &running, "gone@example.com").await;
        assert_eq!(gone.reason.as_deref(), Some("recipient_invalid"));
        let next = sent(&world, &running, "next@example.com").await;
        assert_eq!(next.state, DeliveryState::Delivered);
        assert_eq!(server.connections(), 1);
        assert_eq!(server.mail().await.to, "next@example.com");
        assert!(server.further_mails().is_empty());
        running.stop().await;
    }
}

#[tokio::test]
async fn what_never_works_is_dead_with_its_reason() {
    let server = SmtpServer::start(|event| match event {
        Event::Rcpt(to) if to.starts_with("busy") => Answer::Say("450 4.2.1 busy"),
        Event::Rcpt(to) if to.starts_with("gone") => {
            Answer::Say("550 5.1.1 <gone@example.com>: unknown user")
        }
        Event::Rcpt(to) if to.starts_with("policy") => Answer::Say("550 5.7.1 relaying denied"),
        Event::Body(to) if to.starts_with("spam") => Answer::Say("554 5.7.1 looks like spam"),
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let running = world.start(server.configure(quick())).await;
    for (address, reason, attempts) in [
        ("busy@example.com", "attempts_exhausted", 3),
        ("gone@example.com", "recipient_invalid", 1),
        ("policy@example.com", "rejected", 1),
        ("spam@example.com", "rejected", 1),
        ("no address", "recipient_invalid", 1),
    ] {
        let delivery = sent(&world, &running, address).await;
        assert_eq!(delivery.state, DeliveryState::Dead, "{address}");
        assert_eq!(delivery.reason.as_deref(), Some(reason), "{address}");
        assert_eq!(delivery.attempts.len(), attempts, "{address}");
        for response in delivery
            .attempts
            .iter()
            .filter_map(|attempt| attempt.response.as_deref())
        {
            assert!(!response.contains("gone@example.com"), "{response}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn a_cut_after_the_message_is_unknown_and_sent_again() {
    let seen: Mutex<HashMap<String, usize>> = Mutex::default();
    let mut server = SmtpServer::start(move |event| match event {
        Event::Body(to) => {
            let mut seen = seen.lock().unwrap();
            let times = seen.entry(to.clone()).or_default();
            *times += 1;
            match *times {
                1 if to.starts_with("cut") => Answer::Cut,
                1 => Answer::Hang,
                _ => Answer::Usual,
            }
        }
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let running = world.start(server.configure_impatient(quick())).await;
    for address in ["cut@example.com", "hang@example.com"] {
        let delivery = sent(&world, &running, address).await;
        assert_eq!(delivery.state, DeliveryState::Delivered);
        assert_eq!(outcomes(&delivery), ["unknown", "delivered"]);
        let (first, second) = (server.mail().await, server.mail().await);
        assert_eq!(first.header("Message-ID"), second.header("Message-ID"));
        assert!(first.header("Message-ID").is_some());
    }
    let unknown = world.metrics.unknown.get_or_create(&Channel::Email.into()).get();
    assert_eq!(unknown, 2);
    running.stop().await;
}

#[tokio::test]
async fn the_unknown_can_be_held() {
    let server = SmtpServer::start(|event| match event {
        Event::Body(_) => Answer::Cut,
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let mut config = server.configure(quick());
    config.smtp.on_unknown = dispatcher::config::UnknownPolicy::Hold;
    let running = world.start(config).await;
    let delivery = sent(&world, &running, "user@example.com").await;
    assert_eq!(
        (delivery.state, delivery.reason.as_deref()),
        (DeliveryState::Dead, Some("unknown"))
    );
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_is_away_hangs_or_refuses_us_costs_only_time() {
    let refusals = AtomicUsize::new(0);
    let mut server = SmtpServer::start(move |event| match event {
        Event::Connect => match refusals.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Cut,
            1 => Answer::Hang,
            _ => Answer::Usual,
        },
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let running = world.start(server.configure_impatient(quick())).await;
    let delivery = sent(&world, &running, "user@example.com").await;
    assert_eq!(outcomes(&delivery), ["retry", "retry", "delivered"]);
    server.mail().await;
    running.stop().await;
}

#[tokio::test]
async fn passwords_and_mails_go_encrypted() {
    for (protected, tls) in [
        (Protected::FromTheStart, SmtpTls::Tls),
        (Protected::ByStarttls, SmtpTls::Starttls),
    ] {
        let logins = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&logins);
        let mut server = SmtpServer::start_protected(Some(protected), move |event| {
            if let Event::Login(line, encrypted) = event {
                seen.lock().unwrap().push((line.clone(), *encrypted));
            }
            Answer::Usual
        })
        .await;
        let world = World::new().await;
        let running = world.start(server.configure_protected(quick(), tls)).await;
        let delivery = sent(&world, &running, "user@example.com").await;
        assert_eq!(delivery.state, DeliveryState::Delivered);
        assert_eq!(server.mail().await.to, "user@example.com");
        let line = "AUTH PLAIN AGNhcmlsbG9uAGEgc2VjcmV0".to_owned();
        assert_eq!(*logins.lock().unwrap(), [(line, true)]);
        running.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_cannot_be_believed() {
    // Speaks no TLS at all; speaks it with a certificate of nobody we know.
    let plain = SmtpServer::start(|event| match event {
        Event::Connect => Answer::Usual,
        other => panic!("{other:?}"),
    })
    .await;
    let unknown = SmtpServer::start_protected(Some(Protected::ByStarttls), |event| match event {
        Event::Connect => Answer::Usual,
        other => panic!("{other:?}"),
    })
    .await;
    for server in [plain, unknown] {
        let world = World::new().await;
        let mut config = server.configure_protected(quick(), SmtpTls::Starttls);
        config.smtp.ca_file = None;
        let running = world.start(config).await;
        let delivery = sent(&world, &running, "user@example.com").await;
        assert_eq!(delivery.reason.as_deref(), Some("attempts_exhausted"));
        assert_eq!(outcomes(&delivery), ["retry", "retry", "retry"]);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_refused_password_costs_time_and_not_the_mail() {
    let refusals = AtomicUsize::new(0);
    let server = SmtpServer::start_protected(Some(Protected::FromTheStart), move |event| match event {
        Event::Login(..) if refusals.fetch_add(1, Ordering::SeqCst) == 0 => {
            Answer::Say("535 5.7.8 wrong password")
        }
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let running = world
        .start(server.configure_protected(quick(), SmtpTls::Tls))
        .await;
    let delivery = sent(&world, &running, "user@example.com").await;
    assert_eq!(outcomes(&delivery), ["retry", "delivered"]);
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_went_stale_costs_no_attempt() {
    let mails = AtomicUsize::new(0);
    let server = SmtpServer::start(move |event| match event {
        // The second mail comes by the connection of the first.
        Event::Mail if mails.fetch_add(1, Ordering::SeqCst) == 1 => Answer::Cut,
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let running = world.start(server.configure(quick())).await;
    for _ in 0..2 {
        let delivery = sent(&world, &running, "user@example.com").await;
        assert_eq!(outcomes(&delivery), ["delivered"]);
    }
    assert_eq!(server.connections(), 2);
    running.stop().await;
}

#[tokio::test]
async fn without_a_server_email_is_not_configured() {
    let world = World::new().await;
    let running = world.start(quick()).await;
    let delivery = sent(&world, &running, "user@example.com").await;
    assert_eq!(delivery.state, DeliveryState::Dead);
    assert_eq!(delivery.reason.as_deref(), Some("not_configured"));
    assert!(delivery.attempts.is_empty());
    running.stop().await;
}
