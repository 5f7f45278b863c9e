//! Looks at the spool, regularly and when a request needs to know.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep};

use super::{
    gate::{Gate, LOOK, PERMIT, Seen, Way},
    link::{Call, Link, LinkError, list, number},
    promise,
    writer::permits,
};
use crate::metrics::Metrics;

/// How often Redis is asked whether what it takes stays.
const ASK: Duration = Duration::from_secs(1);

/// A look that takes longer has failed.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Debug)]
pub(super) struct Looker {
    link: Link,
    gate: Arc<Gate>,
    metrics: Metrics,
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Looker {
    pub(super) fn new(link: Link, gate: Arc<Gate>, metrics: Metrics) -> Self {
        Self {
            link,
            gate,
            metrics,
            asked: tokio::sync::Mutex::default(),
        }
    }

    /// Looks until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.look().await;
            sleep(LOOK).await;
        }
    }

    /// What a request may do; looks first where that is not known, one for all that wait.
    pub(super) async fn way(&self) -> Way {
        let way = self.gate.way(Instant::now());
        if way != Way::Ask {
            return way;
        }
        {
            let asked = self.asked.lock().await;
            // Who waited for the one before finds it done.
            if self.gate.way(Instant::now()) == Way::Ask {
                self.look_holding(asked).await;
            }
        }
        match self.gate.way(Instant::now()) {
            // The permit came too late to be of use; nothing is known of anything spooled.
            Way::Ask => Way::Direct,
            way => way,
        }
    }

    /// Looks once.
    pub(super) async fn look(&self) {
        let asked = self.asked.lock().await;
        self.look_holding(asked).await;
    }

    async fn look_holding(&self, mut asked: tokio::sync::MutexGuard<'_, Option<Instant>>) {
        let looked = tokio::time::timeout(PATIENCE, Box::pin(self.look_now(&mut asked))).await;
        match looked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.gate.away(error.to_string()),
            Err(_) => self
                .gate
                .away(format!("redis gave no answer within {PATIENCE:?}")),
        }
    }

    async fn look_now(&self, asked: &mut Option<Instant>) -> Result<(), LinkError> {
        let now = Instant::now();
        let permit = self.gate.ask(now);
        let names = self.link.names();
        let call = Call::new(
            include_str!("scripts/renew.lua"),
            &[&names.entries, &names.state, &names.permits],
        )
        .with(permit.permit.as_str())
        .with(PERMIT.as_millis().to_string());
        let answer = match self.link.commit(vec![call]).await?.pop() {
            Some(answer) => list(answer?),
            None => Vec::new(),
        };
        let [entries, notifications, age] = answer.as_slice() else {
            return Err(LinkError::Redis("an answer that is none".to_owned()));
        };
        let seen = Seen {
            entries: number(entries),
            notifications: number(notifications),
            age: Duration::from_millis(u64::try_from(number(age)).unwrap_or_default()),
        };
        self.metrics.spool_depth.set(seen.notifications);
        self.metrics.spool_oldest.set(seen.age.as_secs_f64());
        if seen.entries == 0 {
            self.gate.granted(&permit);
        } else if let Some(held) = self.gate.spooled() {
            self.link.run(permits(&self.link, &self.gate, &held)).await?;
        }
        if asked.is_none_or(|at| at.elapsed() >= ASK) {
            self.gate.promised(promise::ask(&self.link).await?);
            *asked = Some(now);
        }
        Ok(())
    }
}
