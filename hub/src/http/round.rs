//! Publishes that go to the bus together. Where the bus is another process, what lies between a publish and its answer is a
//! round trip; who has many publishes at hand, lines of an upload or pipelined requests, waits once for all of them.

use common::{
    bus::{BusError, Publication, Published},
    http::Problem,
    ids::MessageId,
    topic::TopicKey,
};
use smallvec::SmallVec;

use super::{answer::Answer, publisher::Publisher};
use crate::Hub;

/// Payload bytes after which a round is full: it holds copies of what was uploaded.
const MAX_BYTES: usize = 1024 * 1024;

/// A publish that was found good: what goes to the bus, and to whom.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) id: MessageId,
    /// The target is a list, and so is the answer.
    pub(super) several: bool,
    pub(super) publications: SmallVec<[Publication; 1]>,
}

/// What is known of a publish while it is on its way.
#[derive(Debug)]
struct Sent {
    id: MessageId,
    several: bool,
    keys: SmallVec<[TopicKey; 1]>,
}

/// Publishes in the order in which they came, with those among them that were refused before.
#[derive(Debug)]
pub(super) struct Round {
    entries: Vec<Result<Sent, Problem>>,
    publications: Vec<Publication>,
    bytes: usize,
    limit: usize,
}

impl Round {
    /// An empty round for publishes that are read one after the other.
    pub(super) fn new(hub: &Hub) -> Self {
        Self {
            entries: Vec::new(),
            publications: Vec::new(),
            bytes: 0,
            limit: hub.inner.pressure.stride(),
        }
    }

    pub(super) fn add(&mut self, prepared: Result<Prepared, Problem>) {
        let entry = prepared.map(|prepared| {
            let keys = prepared
                .publications
                .iter()
                .map(|publication| publication.key.clone())
                .collect();
            // The publications of one message share its payload.
            self.bytes += prepared.publications.first().map_or(0, |one| one.payload.len());
            self.publications.extend(prepared.publications);
            Sent {
                id: prepared.id,
                several: prepared.several,
                keys,
            }
        });
        self.entries.push(entry);
    }

    /// Whether it should go before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.publications.len().max(self.entries.len()) >= self.limit || self.bytes >= MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Publishes everything, and answers in order. The round is empty afterwards.
    pub(super) async fn publish(&mut self, publisher: &Publisher) -> Vec<Result<Answer, Problem>> {
        self.bytes = 0;
        let publications = std::mem::take(&mut self.publications);
        let mut results = match publications.len() {
            0 => Vec::new(),
            _ => publisher.bus.publish_many(publications).await,
        }
        .into_iter();
        self.entries
            .drain(..)
            .map(|entry| entry.and_then(|sent| sent.answer(publisher, &mut results)))
            .collect()
    }
}

/// Carries out one publish.
pub(super) async fn publish_one(publisher: &Publisher, prepared: Prepared) -> Result<Answer, Problem> {
    let bus = &publisher.bus;
    let Prepared {
        id,
        several,
        mut publications,
    } = prepared;
    let keys = publications
        .iter()
        .map(|publication| publication.key.clone())
        .collect();
    let sent = Sent { id, several, keys };
    if publications.len() == 1
        && let Some(publication) = publications.pop()
    {
        let result = bus.publish(publication).await;
        return sent.answer(publisher, &mut std::iter::once(result));
    }
    let results = bus.publish_many(publications.into_vec()).await;
    sent.answer(publisher, &mut results.into_iter())
}

impl Sent {
    /// Takes the results of its topics, as many as it has, and words the answer.
    fn answer(
        self,
        publisher: &Publisher,
        results: &mut impl Iterator<Item = Result<Published, BusError>>,
    ) -> Result<Answer, Problem> {
        let mut answer = Answer::new(self.id, self.several);
        let mut failed = None;
        // The keys first: an iterator that is asked for one too many would have lost the next message's result.
        for (key, result) in self.keys.into_iter().zip(results) {
            match result {
                Ok(published) => answer.add(key, published),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(unavailable(&error)),
            None => {
                publisher.published.inc();
                Ok(answer)
            }
        }
    }
}

fn unavailable(error: &BusError) -> Problem {
    let BusError::Unavailable { retry_after, .. } = error;
    Problem::unavailable(
        "not every topic was reached; repeat with an idempotency key",
        *retry_after,
    )
}
