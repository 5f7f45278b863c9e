//! Who remembers something of the store is told when it was changed, wherever that was: by one look for all of them.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use crate::{
    model::{Revised, Revisions},
    spool::Away,
    store::Store,
};

/// Between two looks while the database is there, and while it is away: every process knows of a change within a second.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long an answer of a database is waited for that nothing else is asked of.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells of changes.
#[derive(Debug)]
pub(crate) struct Revising([watch::Sender<i64>; Revised::ALL.len()]);

impl Default for Revising {
    fn default() -> Self {
        Self(Revised::ALL.map(|_| watch::Sender::new(0)))
    }
}

impl Revising {
    /// Sees every change of a kind from now on, but for those that follow each other faster than the looks. Subscribe, then
    /// read, then wait: nothing is missed.
    pub(crate) fn subscribe(&self, kind: Revised) -> watch::Receiver<i64> {
        self.0[kind as usize].subscribe()
    }

    fn tell(&self, found: &Revisions) {
        for (kind, sender) in Revised::ALL.into_iter().zip(&self.0) {
            // Another one, not a greater one: a database may have been put back to what it was.
            sender.send_if_modified(|known| std::mem::replace(known, found.of(kind)) != found.of(kind));
        }
    }

    /// Looks until it is dropped, and says on the way whether the database is there.
    pub(crate) async fn run(self, store: Store, aways: Vec<Away>) {
        let patience = aways.iter().map(Away::patience).min().unwrap_or(PATIENCE);
        loop {
            let problem = match timeout(patience, store.revisions()).await {
                Ok(Ok(found)) => {
                    self.tell(&found);
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it gave no answer in time".to_owned()),
            };
            for away in &aways {
                match &problem {
                    None => away.came_back(),
                    Some(problem) => away.went_down(problem),
                }
            }
            let is_away = problem.is_some() && !aways.is_empty();
            tokio::time::sleep(if is_away { LOOK_AGAIN } else { LOOK }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_remembers_one_kind_is_told_of_that_kind_alone() {
        let revising = Revising::default();
        let mut keys = revising.subscribe(Revised::Keys);
        let mut pauses = revising.subscribe(Revised::Pauses);
        let mut found = Revisions::default();
        revising.tell(&found);
        assert!(!keys.has_changed().unwrap(), "nothing was ever changed");
        found.set(Revised::Keys, 3);
        revising.tell(&found);
        assert_eq!(*keys.borrow_and_update(), 3);
        assert!(!pauses.has_changed().unwrap());
        found.set(Revised::Keys, 2);
        found.set(Revised::Pauses, 1);
        revising.tell(&found);
        assert!(keys.has_changed().unwrap(), "the database was put back");
        assert_eq!(*pauses.borrow_and_update(), 1);
    }
}
