//! What the senders know, and what the database says at the end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rig::postgres::Connection;
use serde_json::json;
use tokio::{runtime::Handle, task::JoinSet};

use super::PATIENCE;
use crate::support::{
    client::{Client, NoAnswer},
    eventually,
};

/// One for each lane.
const PRIORITIES: [&str; 4] = ["critical", "high", "medium", "low"];
/// Readers over whom the notifications are spread.
pub(super) const USERS: usize = 10;

/// By number: the id of the 2xx, and whether it was 202.
pub(super) type Accepted = HashMap<u64, (String, bool)>;

#[derive(Debug)]
pub(super) struct Ledger {
    end: usize,
    /// Numbers below it may be sent by now.
    allowed: AtomicUsize,
    next: AtomicUsize,
    accepted: Mutex<Accepted>,
    pub(super) spooled: AtomicUsize,
    pub(super) unanswered: AtomicUsize,
    pub(super) refused: AtomicUsize,
}

impl Ledger {
    /// For as many, from this number.
    pub(super) fn new(first: usize, wanted: usize) -> Self {
        Self {
            end: first + wanted,
            allowed: AtomicUsize::new(0),
            next: AtomicUsize::new(first),
            accepted: Mutex::default(),
            spooled: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    pub(super) fn allow(&self, below: usize) {
        self.allowed.fetch_max(below, Ordering::Relaxed);
    }

    /// So many more than are under way or through.
    pub(super) fn allow_more(&self, number: usize) {
        self.allow(self.next.load(Ordering::Relaxed) + number);
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// What became of requests, in whichever way.
    pub(super) fn answers(&self) -> usize {
        self.accepted() + self.refused.load(Ordering::Relaxed) + self.unanswered.load(Ordering::Relaxed)
    }

    pub(super) async fn reaches(&self, moment: usize) {
        let reached = async || (self.accepted() >= moment).then_some(());
        eventually("the moment of the fault", PATIENCE, reached).await;
    }

    pub(super) fn ids(&self) -> Accepted {
        self.accepted.lock().unwrap().clone()
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// The inbox, realtime, and by turns email and webhook.
    Mixed,
    /// The inbox, realtime and webhook.
    Hooks,
    /// Realtime to nobody, and then a webhook.
    Escalations,
}

/// What all senders have in common.
#[derive(Debug, Clone)]
pub(super) struct Senders {
    pub(super) addresses: [SocketAddr; 2],
    pub(super) token: String,
    pub(super) hook: String,
    pub(super) load: Load,
    pub(super) ledger: Arc<Ledger>,
}

impl Senders {
    /// Starts a sender on a thread of its own.
    pub(super) fn spawn(self, sender: usize, among: &mut JoinSet<()>) {
        let runtime = Handle::current();
        among.spawn_blocking(move || runtime.block_on(self.run(sender)));
    }

    /// Sends numbers in turn until all are accepted; each again and again with its key, to whichever dispatcher answers.
    async fn run(self, sender: usize) {
        let mut turn = sender;
        let mut client = None;
        loop {
            let number = self.ledger.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.ledger.end {
                return;
            }
            eventually("it may be sent", PATIENCE, async || {
                (number < self.ledger.allowed.load(Ordering::Relaxed)).then_some(())
            })
            .await;
            let body = self.body(number);
            let (id, spooled) = eventually("it is accepted", PATIENCE, async || {
                if client.is_none() {
                    turn += 1;
                    client = Client::connect(self.addresses[turn % 2]).await.ok();
                }
                let answer = client
                    .as_mut()?
                    .post("/api/v1/notifications", Some(&self.token), &body)
                    .await;
                match answer {
                    Ok(answer) if [201, 202].contains(&answer.status) => Some((
                        answer.json()["id"].as_str().unwrap().to_owned(),
                        answer.status == 202,
                    )),
                    // The same key is at work, or nothing can be stored at the moment.
                    Ok(answer) => {
                        assert!([409, 429, 503].contains(&answer.status), "{answer:?}");
                        self.ledger.refused.fetch_add(1, Ordering::Relaxed);
                        None
                    }
                    Err(NoAnswer) => {
                        client = None;
                        self.ledger.unanswered.fetch_add(1, Ordering::Relaxed);
                        None
                    }
                }
            })
            .await;
            if spooled {
                self.ledger.spooled.fetch_add(1, Ordering::Relaxed);
            }
            let mut accepted = self.ledger.accepted.lock().unwrap();
            accepted.insert(number as u64, (id, spooled));
        }
    }

    fn body(&self, number: usize) -> serde_json::Value {
        let user = format!("u{}", number % USERS);
        let (channel, address) = if self.load == Load::Mixed && number.is_multiple_of(2) {
            ("email", format!("{user}@recipients.example.test"))
        } else {
            ("webhook", self.hook.clone())
        };
        if self.load == Load::Escalations {
            return json!({
                "to": {"user": "nobody"},
                "title": format!("crash {number}"),
                "content": format!("number {number} complete"),
                "channels": ["realtime", channel],
                "strategy": "escalate",
                "recipients": [address],
                "idempotency_key": format!("crash-{number}"),
            });
        }
        json!({
            "to": {"user": user},
            "title": format!("crash {number}"),
            "content": format!("number {number} complete"),
            "priority": PRIORITIES[(number / 2) % PRIORITIES.len()],
            "channels": ["in_app", "realtime", channel],
            "recipients": [address],
            "idempotency_key": format!("crash-{number}"),
        })
    }
}

/// The number in a text.
pub(super) fn number(text: &str) -> u64 {
    text.split(' ')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

/// One delivery at its end.
#[derive(Debug)]
struct Ended {
    id: String,
    number: u64,
    channel: String,
    state: String,
    unknown: usize,
}

/// What became of everything.
#[derive(Debug)]
pub(super) struct Found {
    deliveries: Vec<Ended>,
}

impl Found {
    /// Reads all of it, and asserts what needs no sink: each number is stored once, with the id that was answered, is in the
    /// inbox once, and its three deliveries have ended with a reason.
    pub(super) fn read(database: &mut Connection, ids: &Accepted) -> Self {
        let mut numbers = HashMap::new();
        let mut stored: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let content = "SELECT id, substring(content FROM 'number [0-9]+ complete') FROM notifications";
        for row in database.query(content).unwrap() {
            let [Some(id), Some(text)] = row.as_slice() else {
                panic!("nobody sent {row:?}");
            };
            numbers.insert(id.clone(), number(text));
            stored.entry(number(text)).or_default().push(id.clone());
        }
        let lost: Vec<_> = ids.keys().filter(|number| !stored.contains_key(number)).collect();
        assert!(
            lost.is_empty(),
            "{} were accepted and are lost: {lost:?}",
            lost.len()
        );
        assert_eq!(stored.len(), ids.len(), "somebody else's are stored");
        for (number, found) in &stored {
            let (id, spooled) = &ids[number];
            assert_eq!(found.len(), 1, "{number} is stored more than once: {found:?}");
            assert_eq!(&found[0], id, "{number} (spooled: {spooled}) has another id");
        }
        let inbox = database.query("SELECT notification_id, count(*) FROM inbox GROUP BY 1");
        for row in inbox.unwrap() {
            assert_eq!(
                row[1].as_deref(),
                Some("1"),
                "{row:?} is in the inbox more than once"
            );
        }

        let sql = "SELECT id, notification_id, channel, state, coalesce(reason, ''), (SELECT count(*) FROM attempts a \
                   WHERE a.delivery_id = d.id AND a.outcome = 'unknown') FROM all_deliveries d";
        let mut deliveries = Vec::new();
        for row in database.query(sql).unwrap() {
            let row: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
            let [id, notification, channel, state, reason, unknown] = row.as_slice() else {
                panic!("{row:?}");
            };
            let ended = ["delivered", "skipped", "expired", "dead"].contains(&state.as_str());
            assert!(ended, "{row:?}");
            assert!(state == "delivered" || !reason.is_empty(), "no reason: {row:?}");
            // Nothing but realtime has a cause to end otherwise here.
            assert!(state == "delivered" || channel == "realtime", "{row:?}");
            deliveries.push(Ended {
                id: id.clone(),
                number: numbers[notification],
                channel: channel.clone(),
                state: state.clone(),
                unknown: unknown.parse().unwrap(),
            });
        }
        let outside = |one: &&Ended| ["email", "webhook"].contains(&one.channel.as_str());
        assert_eq!(deliveries.iter().filter(outside).count(), ids.len());
        Self { deliveries }
    }

    /// Numbers whose delivery by this channel succeeded.
    pub(super) fn delivered_by(&self, channel: &str) -> BTreeSet<u64> {
        let delivered = |one: &&Ended| one.channel == channel && one.state == "delivered";
        self.deliveries
            .iter()
            .filter(delivered)
            .map(|one| one.number)
            .collect()
    }

    /// Looks at what came to a sink by number, and its ids: one id for each, which is the delivery's, and as many unknown
    /// attempts as it came too often. The answer is how many came too often.
    pub(super) fn explains(&self, channel: &str, came: &BTreeMap<u64, Vec<String>>) -> usize {
        let of_channel = self.deliveries.iter().filter(|one| one.channel == channel);
        let by_number: HashMap<u64, &Ended> = of_channel.map(|one| (one.number, one)).collect();
        let mut repeats = 0;
        for (number, ids) in came {
            let delivery = by_number
                .get(number)
                .unwrap_or_else(|| panic!("{channel}: {number} was not sent by it"));
            let different: BTreeSet<_> = ids.iter().collect();
            assert_eq!(different.len(), 1, "{channel}: {number} came with several ids");
            assert!(
                ids[0].contains(&delivery.id),
                "{channel}: {} is not {delivery:?}",
                ids[0]
            );
            assert!(
                ids.len() <= 1 + delivery.unknown,
                "{channel}: {} times without a reason: {delivery:?}",
                ids.len()
            );
            repeats += ids.len() - 1;
        }
        repeats
    }

    pub(super) fn unknown(&self) -> usize {
        self.deliveries.iter().map(|one| one.unknown).sum()
    }

    /// How many ended in which state, by channel.
    pub(super) fn states(&self) -> BTreeMap<(&str, &str), usize> {
        let mut states = BTreeMap::new();
        for one in &self.deliveries {
            *states
                .entry((one.channel.as_str(), one.state.as_str()))
                .or_insert(0) += 1;
        }
        states
    }
}
