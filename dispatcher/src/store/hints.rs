//! Hints between the processes of one PostgreSQL database, by LISTEN and NOTIFY.
//!
//! A hint makes others look sooner, and nothing depends on it: the queue and long polls look by themselves too. So it is
//! sent after the commit on a connection of its own, at most every [`PAUSE`], and may be lost. It names the keys whose feeds
//! got entries by their hashes, or all where there are many, and says whether there is new work for the queue.

use std::{
    collections::HashSet,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Server, StoreError, postgres,
    watch::{KeyHash, Watchers},
};

/// The notification channel.
const CHANNEL: &str = "carillon";

/// The least time between two hints of one process.
const PAUSE: Duration = Duration::from_millis(50);

/// Keys of one hint; beyond, all readers look. A payload has room for 8,000 bytes.
const KEYS: usize = 400;

/// How long after a fault it is tried again.
const TROUBLE: Duration = Duration::from_secs(1);

/// What was not told yet.
#[derive(Debug, Default)]
struct Untold {
    work: bool,
    keys: HashSet<KeyHash>,
}

/// Tells and hears hints until the last of its handles is dropped. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Hints {
    desk: Arc<Desk>,
    /// Ends the tasks, which hold the desk but no handle.
    _stop: Arc<DropGuard>,
}

/// Where hints lie on their way to others, and from them.
#[derive(Debug, Default)]
struct Desk {
    untold: Mutex<Untold>,
    more: Notify,
    /// Somebody made work for the queue.
    work: Notify,
}

impl Hints {
    /// Begins to listen and to tell. Without a server of which others can hear, nothing is told and nothing heard.
    pub(super) fn start(server: Option<&Server>, watchers: &Arc<Watchers>) -> Result<Self, StoreError> {
        let stop = CancellationToken::new();
        let hints = Self {
            desk: Arc::default(),
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let Some(server) = server.filter(|server| !server.pooler) else {
            return Ok(hints);
        };
        let pool = postgres::connect::readers(server, &server.url, 2)?;
        let me = format!("{:016x}", fastrand::u64(..));
        let (told, asked, desk) = (pool.clone(), me.clone(), Arc::clone(&hints.desk));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            tell(&told, &asked, &desk).await;
        }));
        let (desk, watchers) = (Arc::clone(&hints.desk), Arc::clone(watchers));
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            hear(&pool, &me, |heard| {
                match heard {
                    Heard::Anything => watchers.wake_all(),
                    Heard::Keys(keys) => watchers.wake_hashes(keys),
                    Heard::Work => {}
                }
                if matches!(heard, Heard::Anything | Heard::Work) {
                    desk.work.notify_one();
                }
            })
            .await;
        }));
        Ok(hints)
    }

    /// To be called after the commit.
    pub(super) fn tell(&self, keys: impl IntoIterator<Item = KeyHash>, work: bool) {
        let mut untold = self.desk.untold.lock().unwrap_or_else(PoisonError::into_inner);
        untold.work |= work;
        for key in keys {
            if untold.keys.len() > KEYS {
                break;
            }
            untold.keys.insert(key);
        }
        if untold.work || !untold.keys.is_empty() {
            drop(untold);
            self.desk.more.notify_one();
        }
    }

    /// Returns when another process made work for the queue, or may have.
    pub(super) async fn work(&self) {
        self.desk.work.notified().await;
    }
}

/// Sends what was collected, with a pause after each.
async fn tell(pool: &PgPool, me: &str, desk: &Desk) {
    loop {
        desk.more.notified().await;
        let untold = std::mem::take(&mut *desk.untold.lock().unwrap_or_else(PoisonError::into_inner));
        let told = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(payload(me, &untold))
            .execute(pool)
            .await;
        if let Err(error) = told {
            tracing::debug!(%error, "a hint was not told");
            tokio::time::sleep(TROUBLE).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What others are told: who tells, whether there is work, and the keys.
fn payload(me: &str, untold: &Untold) -> String {
    let mut text = format!("{me} {}", if untold.work { "w" } else { "-" });
    if untold.keys.len() > KEYS {
        text.push_str(" *");
    } else {
        for key in &untold.keys {
            // Writing to a string cannot fail.
            write!(text, " {:x}", key.0).unwrap_or_default();
        }
    }
    text
}

/// A part of a hint.
#[derive(Debug, PartialEq, Eq)]
enum Heard<'a> {
    /// Hints may have been lost, or there were too many keys.
    Anything,
    Work,
    Keys(&'a [KeyHash]),
}

/// Listens for ever; after each break everything may have happened.
async fn hear(pool: &PgPool, me: &str, tell: impl Fn(&Heard<'_>)) {
    loop {
        if let Err(error) = listen(pool, me, &tell).await {
            tracing::debug!(%error, "hints of other processes are not heard at the moment");
        }
        tell(&Heard::Anything);
        tokio::time::sleep(TROUBLE).await;
    }
}

async fn listen(pool: &PgPool, me: &str, tell: &impl Fn(&Heard<'_>)) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    tell(&Heard::Anything);
    loop {
        // None: the connection was lost and made again, and what was told meanwhile is gone.
        match listener.try_recv().await? {
            Some(heard) => understand(heard.payload(), me, tell),
            None => tell(&Heard::Anything),
        }
    }
}

fn understand(payload: &str, me: &str, tell: &impl Fn(&Heard<'_>)) {
    let mut words = payload.split(' ');
    if words.next() == Some(me) {
        return;
    }
    if words.next() == Some("w") {
        tell(&Heard::Work);
    }
    let mut keys = Vec::new();
    for word in words {
        match u64::from_str_radix(word, 16) {
            Ok(hash) => keys.push(KeyHash(hash)),
            Err(_) => return tell(&Heard::Anything),
        }
    }
    if !keys.is_empty() {
        tell(&Heard::Keys(&keys));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn heard(payload: &str) -> Vec<String> {
        let all = RefCell::new(Vec::new());
        understand(payload, "me", &|heard| {
            all.borrow_mut().push(format!("{heard:?}"))
        });
        all.into_inner()
    }

    #[test]
    fn a_hint_is_understood_by_others_only() {
        let mut untold = Untold {
            work: true,
            keys: [KeyHash(255)].into(),
        };
        assert_eq!(payload("a", &untold), "a w ff");
        assert_eq!(heard("a w ff"), ["Work", "Keys([KeyHash(255)])"]);
        assert!(heard("me w ff").is_empty());
        untold.work = false;
        untold.keys = (0..=KEYS as u64).map(KeyHash).collect();
        assert_eq!(payload("a", &untold), "a - *");
        assert_eq!(heard("a - *"), ["Anything"]);
        let most = (0..KEYS as u64).map(|hash| KeyHash(u64::MAX - hash)).collect();
        let most = Untold {
            work: true,
            keys: most,
        };
        assert!(payload("0123456789abcdef", &most).len() < 8000);
    }
}
