//! Events over six partitions while their readers are killed, stopped, joined by others, and PostgreSQL is taken away: each
//! event's notifications are stored exactly once, and the poisoned ones are in the dead-letter topic, with nothing else.
//!
//! `CARILLON_SOAK=1` makes it 100,000 events (`make soak`), another number as many.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
    producer::{BaseProducer, BaseRecord, Producer},
};
use rig::{
    carillon::{Node, Options, Service},
    kafka::Broker,
    postgres,
};
use serde_json::json;
use tokio::{runtime::Handle, task::block_in_place};

use crate::support::eventually;

/// Events of the short form, and of the whole one.
const FEW: usize = 3_000;
const MANY: usize = 100_000;
/// Of so many one is poisoned.
const POISONED: usize = 100;
/// Rules that apply to each event.
const RULES: usize = 2;
const PARTITIONS: i32 = 6;
const TOPIC: &str = "orders";
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// kill -9 of a reader.
    Kill(usize),
    /// A reader stands still until the group has gone on without it, and then wakes up with what it had.
    Freeze(usize),
    /// One more reader joins, and leaves in order.
    Join,
    /// kill -9 of PostgreSQL.
    Database,
    /// kill -9 of the broker.
    Broker,
}

const FAULTS: [Fault; 7] = [
    Fault::Kill(0),
    Fault::Database,
    Fault::Freeze(1),
    Fault::Join,
    Fault::Broker,
    Fault::Kill(1),
    Fault::Database,
];

struct Site {
    postgres: postgres::Server,
    broker: Broker,
    options: Options,
    readers: [Node; 2],
    producer: BaseProducer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_each_event_becomes_its_notifications_exactly_once_through_every_fault() {
    let wanted = match env::var("CARILLON_SOAK").ok().as_deref() {
        None | Some("") => FEW,
        Some("1") => MANY,
        Some(number) => number.parse().unwrap(),
    };
    let began = Instant::now();
    let site = block_in_place(Site::start);
    let rounds = if wanted > FEW { 4 } else { 1 };
    let mut faults: Vec<Fault> = (0..rounds).flat_map(|_| FAULTS).collect();
    fastrand::shuffle(&mut faults);
    let share = wanted / (faults.len() + 1);
    let mut sent = 0;
    for fault in faults {
        site.send(sent..sent + share);
        sent += share;
        // Somewhere in the work on this share.
        let moment = sent - fastrand::usize(share / 4..share);
        site.stored_at_least(moment).await;
        println!("{fault:?} with {sent} sent");
        site.suffer(fault, sent).await;
    }
    site.send(sent..wanted);
    let poisoned: BTreeSet<usize> = (0..wanted).filter(|number| is_poisoned(*number)).collect();
    let good = wanted - poisoned.len();
    site.stored_at_least(wanted).await;
    let sum = began.elapsed();

    let mut titles: BTreeMap<String, usize> = BTreeMap::new();
    let rows = site.query("SELECT content::json ->> 'title', count(*) FROM notifications GROUP BY 1");
    for row in rows {
        let (title, count) = (row[0].clone().unwrap(), row[1].as_ref().unwrap().parse().unwrap());
        titles.insert(title, count);
    }
    for number in (0..wanted).filter(|number| !is_poisoned(*number)) {
        for rule in 0..RULES {
            let title = format!("rule {rule} event {number}");
            assert_eq!(titles.get(&title), Some(&1), "{title}");
        }
    }
    assert_eq!(titles.len(), good * RULES, "nothing else is stored");
    let dead = block_in_place(|| site.dead_letters(&poisoned));
    println!(
        "events through faults: {wanted} sent, {} notifications, {} dead letters of {} poisoned events; {:.0} s",
        titles.len(),
        dead,
        poisoned.len(),
        sum.as_secs_f64(),
    );
}

fn is_poisoned(number: usize) -> bool {
    number % POISONED == 7
}

impl Site {
    fn start() -> Self {
        let postgres = postgres::Server::start(&postgres::Options::default()).unwrap();
        let url = postgres.create_database("carillon").unwrap();
        let broker = Broker::start().unwrap();
        let brokers = broker.address().to_string();
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .create()
            .unwrap();
        for name in [TOPIC.to_owned(), format!("{TOPIC}.dlq")] {
            let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
            let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
            let making = admin.create_topics([&topic], &options);
            for made in Handle::current().block_on(making).unwrap() {
                made.unwrap();
            }
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "120000")
            .create()
            .unwrap();
        let rules: String = (0..RULES)
            .map(|rule| {
                format!(
                    "[[rules.list]]\nname = \"r{rule}\"\nevent = \"order.placed\"\n[rules.list.notification]\n\
                     user_id = \"{{{{ user }}}}\"\ntitle = \"rule {rule} event {{{{ number }}}}\"\ncontent = \"C\"\n\
                     channels = [\"in_app\"]\n"
                )
            })
            .collect();
        let options = Options {
            service: Service::Standalone,
            config: format!(
                "{rules}\n[auth]\nsecret = \"a secret of a test, long enough for HS256\"\n\
                 [database]\nurl = \"{url}\"\naway_after = \"500ms\"\nstatement_timeout = \"1500ms\"\nlock_timeout = \"1s\"\n\
                 [kafka]\nbrokers = [\"{brokers}\"]\ntopics = [\"{TOPIC}\"]\nretry = [\"50ms\", \"100ms\", \"150ms\"]\n\
                 session_timeout = \"3s\"\n[hub]\nlame_duck = \"0s\"\n"
            ),
            ..Options::default()
        };
        let readers = [(); 2].map(|()| Node::start(&options).unwrap());
        Self {
            postgres,
            broker,
            options,
            readers,
            producer,
        }
    }

    /// Writes these events. Each poisoned one is either no JSON or one of which no notification can be made.
    fn send(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let key = format!("u{}", number % 50);
            let text = match number % (2 * POISONED) {
                _ if !is_poisoned(number) => {
                    json!({"event_type": "order.placed", "tenant_id": "t1", "user": key, "number": number})
                        .to_string()
                }
                even if even < POISONED => format!("{{ no event {number}"),
                _ => json!({"event_type": "order.placed", "tenant_id": "t1", "number": number}).to_string(),
            };
            let number = number.to_string();
            let header = rdkafka::message::Header {
                key: "number",
                value: Some(&number),
            };
            let mut record = BaseRecord::to(TOPIC)
                .key(&key)
                .payload(&text)
                .headers(rdkafka::message::OwnedHeaders::new().insert(header));
            // The queue of the producer is full now and then.
            while let Err((_, back)) = self.producer.send(record) {
                record = back;
                self.producer.poll(Duration::from_millis(20));
            }
        }
        block_in_place(|| self.producer.flush(Duration::from_secs(120))).unwrap();
    }

    fn query(&self, text: &str) -> Vec<Vec<Option<String>>> {
        block_in_place(|| self.postgres.connect("carillon")?.query(text)).unwrap_or_default()
    }

    /// Waits until the notifications of the good ones among the first events are stored, or as many of others.
    async fn stored_at_least(&self, sent: usize) {
        let good = (0..sent).filter(|number| !is_poisoned(*number)).count() * RULES;
        let begin = Instant::now();
        eventually("events become notifications", PATIENCE * 2, async || {
            let rows = self.query("SELECT count(*) FROM notifications");
            let stored: usize = rows.first()?.first()?.as_ref()?.parse().ok()?;
            assert!(
                begin.elapsed() < PATIENCE,
                "{stored} of {good} are stored; a reader says:\n{:.4000}",
                self.readers[0].log()
            );
            (stored >= good).then_some(())
        })
        .await;
    }

    /// Lets it happen, with so many events sent, and starts again what ended.
    async fn suffer(&self, fault: Fault, sent: usize) {
        match fault {
            Fault::Kill(reader) => block_in_place(|| self.readers[reader].restart()).unwrap(),
            Fault::Freeze(reader) => {
                block_in_place(|| self.readers[reader].pause()).unwrap();
                // The other one has its partitions when all that is there is done.
                self.stored_at_least(sent).await;
                block_in_place(|| self.readers[reader].resume()).unwrap();
            }
            Fault::Join => block_in_place(|| {
                let third = Node::start(&self.options).unwrap();
                third.terminate().unwrap();
                let left = third.wait(PATIENCE).unwrap();
                assert!(left, "it leaves in order:\n{}", third.log());
            }),
            Fault::Database => block_in_place(|| {
                self.postgres.kill().unwrap();
                self.postgres.restart().unwrap();
            }),
            Fault::Broker => block_in_place(|| {
                self.broker.kill().unwrap();
                self.broker.start_again().unwrap();
            }),
        }
    }

    /// Reads the dead letters until each poisoned event is among them; no other one is. Answers how many there are, as one
    /// whose reader died before the offset moved is there twice.
    fn dead_letters(&self, poisoned: &BTreeSet<usize>) -> usize {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.address().to_string())
            .set("group.id", "the test")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[&format!("{TOPIC}.dlq")]).unwrap();
        let (mut found, mut count) = (BTreeSet::new(), 0);
        let begin = Instant::now();
        while found.len() < poisoned.len() {
            assert!(
                begin.elapsed() < PATIENCE,
                "{} of {} came",
                found.len(),
                poisoned.len()
            );
            let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) else {
                continue;
            };
            let header = |name: &str| {
                let headers = message.headers().unwrap();
                let found = headers.iter().find(|header| header.key == name).unwrap();
                String::from_utf8(found.value.unwrap().to_vec()).unwrap()
            };
            let number: usize = header("number").parse().unwrap();
            assert!(poisoned.contains(&number), "{number}: {}", header("dlq-reason"));
            let code = header("dlq-code");
            assert!(
                ["invalid_json", "event_field_missing"].contains(&code.as_str()),
                "{code}"
            );
            found.insert(number);
            count += 1;
        }
        count
    }
}
