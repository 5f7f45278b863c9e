//! What was accepted survives kill -9: in the inbox exactly once, by email at least once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    task::{JoinSet, LocalSet},
    time::Instant,
};

use crate::support::{
    client::{Client, NoAnswer},
    eventually,
    server::{Home, Server},
    smtp::{Gate, Mail, Smtp},
};

/// Notifications that have to be accepted.
const ACCEPTED: usize = 20_000;
/// Kills.
const KILLS: usize = 5;
/// Requests and emails that are under way at each kill, at least.
const IN_FLIGHT: usize = 100;
/// Concurrent senders, each with a kept connection.
const SENDERS: usize = 160;
/// Readers over whom the notifications are spread.
const USERS: u64 = 100;

/// What the senders know.
#[derive(Debug, Default)]
struct Ledger {
    next: AtomicU64,
    /// Requests whose answer has not come.
    outstanding: AtomicUsize,
    /// By number: the id of the 201.
    accepted: Mutex<HashMap<u64, String>>,
    /// Numbers whose connection broke before the answer.
    unanswered: Mutex<HashSet<u64>>,
}

impl Ledger {
    fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }
}

#[tokio::test]
async fn what_was_accepted_survives_kill_9() {
    LocalSet::new().run_until(kill_and_look()).await;
}

async fn kill_and_look() {
    let began = Instant::now();
    let mut smtp = Smtp::start().await;
    let gate = Gate::start(&smtp).await;
    let home = Home::new()
        .set("SMTP_HOST", &gate.address.ip())
        .set("SMTP_PORT", &gate.address.port())
        .set("SMTP_USE_TLS", "false")
        .set("SMTP_FROM", "carillon@example.test")
        // A fifth of the connections is kept for critical mail: so many that the rest is more than IN_FLIGHT.
        .set("CARILLON_SMTP__POOL_SIZE", &160)
        // A crashed worker's deliveries go on within 1.5 leases.
        .set("CARILLON_QUEUE__LEASE", "5s")
        .set("CARILLON_QUEUE__HEARTBEAT", "1s")
        .set("CARILLON_QUEUE__RETRY", r#"["1s"]"#)
        // One delivery may be under way at every kill.
        .set("CARILLON_QUEUE__MAX_ATTEMPTS", &20);
    let mut server = home.start().await;
    let sender = server
        .token(&["--user", "sender", "--scope", "notifications:write service"])
        .await;

    let ledger = Arc::new(Ledger::default());
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn_local(send(home.clone(), sender.clone(), Arc::clone(&ledger)));
    }
    for kill in 1..=KILLS {
        // Somewhere in the kill's share of the run, and never so late that the senders are through.
        let share = ACCEPTED / (KILLS + 1);
        let moment = (kill - 1) * share + fastrand::usize(share / 10..share);
        server = kill_at(moment, kill, server, &gate, &ledger).await;
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    let sent = began.elapsed();

    let accepted = ledger.accepted.lock().unwrap().clone();
    let unanswered = ledger.unanswered.lock().unwrap().clone();
    assert!(accepted.len() >= ACCEPTED);
    let stored = inboxes(&server, &accepted, &unanswered).await;
    let mails = mails(&mut smtp, &stored).await;
    let repeats = repeats(&server, &sender, &stored, &mails).await;
    println!(
        "crash test: {} accepted, {} without an answer (of which {} are stored); {} mails in {}, {} of them repeats, \
         all with an attempt whose outcome is unknown; {:.0} s to accept, {:.0} s in all",
        accepted.len(),
        unanswered.len(),
        stored.len() - accepted.len(),
        mails.values().map(Vec::len).sum::<usize>(),
        smtp.name(),
        repeats,
        sent.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    );
}

/// One sender: numbers in turn, until enough were accepted.
async fn send(home: Home, token: String, ledger: Arc<Ledger>) {
    while ledger.accepted() < ACCEPTED {
        // Refused while the server is down: nothing was sent then.
        let connect = async || Client::connect(home.public).await.ok();
        let mut client = eventually("the server listens again", Duration::from_secs(60), connect).await;
        while ledger.accepted() < ACCEPTED {
            let number = ledger.next.fetch_add(1, Ordering::Relaxed);
            let user = format!("u{}", number % USERS);
            let body = json!({
                "to": {"user": user},
                "title": format!("crash {number}"),
                "content": format!("number {number} complete"),
                "channels": ["in_app", "realtime", "email"],
                "recipients": [format!("{user}@recipients.example.test")],
            });
            ledger.outstanding.fetch_add(1, Ordering::Relaxed);
            let answer = client.post("/api/v1/notifications", Some(&token), &body).await;
            ledger.outstanding.fetch_sub(1, Ordering::Relaxed);
            match answer {
                Ok(answer) => {
                    assert_eq!(answer.status, 201, "{answer:?}");
                    let id = answer.json()["id"].as_str().unwrap().to_owned();
                    ledger.accepted.lock().unwrap().insert(number, id);
                }
                Err(NoAnswer) => {
                    ledger.unanswered.lock().unwrap().insert(number);
                    break;
                }
            }
        }
    }
}

/// Kills the server once `moment` notifications were accepted and enough is under way, and starts it again.
async fn kill_at(moment: usize, kill: usize, server: Server, gate: &Gate, ledger: &Ledger) -> Server {
    let reached = async || (ledger.accepted() >= moment).then_some(());
    eventually("the moment of the kill", Duration::from_secs(180), reached).await;
    gate.close();
    let (requests, emails) = eventually(
        "requests and emails under way",
        Duration::from_secs(60),
        async || {
            let now = (ledger.outstanding.load(Ordering::Relaxed), gate.in_flight());
            (now.0 >= IN_FLIGHT && now.1 >= IN_FLIGHT).then_some(now)
        },
    )
    .await;
    let home = server.home.clone();
    server.kill().await;
    println!(
        "kill {kill}: after {} accepted, with {requests} requests and {emails} emails in flight",
        ledger.accepted()
    );
    gate.open();
    home.start().await
}

/// Reads every user's inbox. What was accepted is there exactly once with its id; what had no answer at most once;
/// nothing else is there.
async fn inboxes(
    server: &Server,
    accepted: &HashMap<u64, String>,
    unanswered: &HashSet<u64>,
) -> BTreeMap<u64, String> {
    let mut stored = BTreeMap::new();
    let mut client = server.public().await;
    for user in 0..USERS {
        // The scope `service` only lifts the limit of requests a minute.
        let token = server
            .token(&["--user", &format!("u{user}"), "--scope", "service"])
            .await;
        for offset in (0..).step_by(200) {
            let path = format!("/api/v1/notifications?limit=200&offset={offset}");
            let page = client.get(&path, Some(&token)).await.unwrap().json();
            let page = page.as_array().unwrap();
            for item in page {
                let number = number(item);
                assert_eq!(number % USERS, user, "in another's inbox: {item}");
                let id = item["id"].as_str().unwrap().to_owned();
                let twice = stored.insert(number, id);
                assert!(twice.is_none(), "twice in the inbox: {item}");
            }
            if page.len() < 200 {
                break;
            }
        }
    }
    let lost: Vec<_> = accepted
        .iter()
        .filter(|(number, id)| stored.get(number) != Some(*id))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} that were accepted are not in the inbox: {lost:?}",
        lost.len(),
        accepted.len()
    );
    let strange: Vec<_> = stored
        .keys()
        .filter(|number| !accepted.contains_key(number) && !unanswered.contains(number))
        .collect();
    assert!(strange.is_empty(), "nobody sent these: {strange:?}");
    stored
}

fn number(item: &Value) -> u64 {
    let text = item["content"].as_str().unwrap();
    text.split(' ')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{item}"))
}

/// Waits until a mail of each stored notification has arrived; the answer is the Message-IDs by number.
async fn mails(smtp: &mut Smtp, stored: &BTreeMap<u64, String>) -> BTreeMap<u64, Vec<String>> {
    let mut mails: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let end = Instant::now() + Duration::from_secs(180);
    eventually(
        "a mail of every notification",
        Duration::from_secs(200),
        async || {
            for Mail { message_id, number } in smtp.new_mails() {
                mails.entry(number).or_default().push(message_id);
            }
            let missing = stored.keys().filter(|number| !mails.contains_key(number)).count();
            assert!(
                missing == 0 || Instant::now() < end,
                "no mail of {missing} of {} notifications",
                stored.len()
            );
            (missing == 0).then_some(())
        },
    )
    .await;
    mails
}

/// Looks at every mail that came more than once: it has one Message-ID, and as many attempts with unknown outcome as it
/// came too often. The answer is how many came too often.
async fn repeats(
    server: &Server,
    sender: &str,
    stored: &BTreeMap<u64, String>,
    mails: &BTreeMap<u64, Vec<String>>,
) -> usize {
    let mut client = server.public().await;
    let mut repeats = 0;
    for (number, ids) in mails {
        assert_eq!(
            ids.iter().collect::<BTreeSet<_>>().len(),
            1,
            "{number} has several Message-IDs: {ids:?}"
        );
        let id = stored
            .get(number)
            .unwrap_or_else(|| panic!("a mail of {number}, which is not stored"));
        if ids.len() == 1 {
            continue;
        }
        let status = client
            .get(&format!("/api/v1/notifications/{id}/status"), Some(sender))
            .await
            .unwrap()
            .json();
        let deliveries = status["deliveries"]
            .as_array()
            .unwrap_or_else(|| panic!("{status}"));
        let email = deliveries
            .iter()
            .find(|delivery| delivery["channel"] == "email")
            .unwrap();
        let attempts = email["attempts"].as_array().unwrap();
        let unknown = attempts
            .iter()
            .filter(|attempt| attempt["outcome"] == "unknown")
            .count();
        assert!(
            unknown >= ids.len() - 1,
            "{} mails of one notification without a reason: {status}",
            ids.len()
        );
        repeats += ids.len() - 1;
    }
    repeats
}
