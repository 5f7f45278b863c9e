//! A run on several hubs that are one: its traffic, who watches the hubs, and what is read from them at the end.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{
    run::{Needs, Run},
    watch::{Answer, Watch},
};
use crate::{
    args::{Cluster, Common, Traffic},
    chaos::{Reasons, Stage},
    report::Report,
    server::Server,
    stamp::Topic,
    sysctl::Sysctls,
    target::Target,
    wire::{Pace, Resynced, To, Window},
};

/// Who gets which part of the publishes, over how many connections. The tenant's reach every socket.
const USERS: (f64, u32) = (0.45, 8);
const TOPICS: (f64, u32) = (0.35, 6);
const STORES: (f64, u32) = (0.15, 3);
const ROLES: (f64, u32) = (0.045, 2);
const TENANT: (f64, u32) = (0.005, 1);

/// A user's topics of which the run publishes: its own, role, store, tenant.
const IMPLICIT: u32 = 4;

/// A run, and what it runs on.
#[derive(Debug)]
pub(super) struct Clustered<'a> {
    pub(super) run: Run<'a>,
    pub(super) stage: Arc<Stage>,
    watches: Vec<Watch>,
    began: tokio::time::Instant,
    /// All of the traffic so far.
    pub(super) total: Total,
}

/// What happened over all parts of a run.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) received: u64,
    pub(super) published: u64,
    pub(super) repeated: u64,
    pub(super) unclear: u64,
    pub(super) resyncs: u64,
    pub(super) resynced: Vec<Resynced>,
}

impl Total {
    pub(super) fn add(&mut self, window: &Window) {
        self.received += window.received;
        self.published += window.published;
        self.repeated += window.repeated.values().sum::<u64>();
        self.unclear += window.unclear;
        self.resyncs += window.resyncs;
        self.resynced.extend(&window.resynced);
    }

    /// Sessions and topics that were told, each once.
    pub(super) fn pairs<'r>(told: impl IntoIterator<Item = &'r Resynced>) -> usize {
        let pairs: std::collections::BTreeSet<(u32, Topic)> =
            told.into_iter().map(|its| (its.user, its.topic)).collect();
        pairs.len()
    }
}

impl<'a> Clustered<'a> {
    /// Starts everything, opens the sockets, and begins to publish.
    pub(super) async fn begin(
        scenario: &str,
        cluster: &Cluster,
        traffic: &Traffic,
        common: &'a Common,
    ) -> anyhow::Result<Self> {
        fastrand::seed(common.seed);
        let sysctls = Sysctls::set(&crate::server::pairs(&common.sysctls)?)?;
        let (wanted, settings) = (cluster.clone(), common.clone());
        let stage = spawn_blocking(move || Stage::start(&wanted, &settings)).await??;
        let server = Server::foreign(
            stage.addresses(),
            stage.internals(),
            stage.secret.clone(),
            stage.version(),
            stage.pids(),
        );
        let needs = Needs {
            resume: true,
            ..Needs::default()
        };
        let target = Target::carillon()?;
        let mut run = Run::on(server, target, common, scenario, needs, sysctls).await?;
        run.open_all(traffic.topics, traffic.topics_each).await?;
        let watches = stage
            .internals()
            .into_iter()
            .map(|address| Watch::start(address, "/ready".to_owned()))
            .collect();
        let began = tokio::time::Instant::now();
        let mut clustered = Self {
            run,
            stage: Arc::new(stage),
            watches,
            began,
            total: Total::default(),
        };
        clustered.publish(traffic).await?;
        Ok(clustered)
    }

    async fn publish(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        let sockets = self.run.common.sockets;
        let users = To::Users {
            first: 0,
            count: sockets,
        };
        let topics = To::Topics {
            first: 0,
            count: traffic.topics,
        };
        // Without members a topic would only cost.
        let topic_share = if traffic.topics_each == 0 { 0.0 } else { TOPICS.0 };
        for (id, (to, (share, lanes))) in [
            (users, USERS),
            (topics, (topic_share, TOPICS.1)),
            (
                To::Stores {
                    count: sockets.min(100),
                },
                STORES,
            ),
            (
                To::Roles {
                    count: sockets.min(10),
                },
                ROLES,
            ),
            (To::All, TENANT),
        ]
        .into_iter()
        .enumerate()
        {
            if share > 0.0 {
                let pace = Pace::PerSecond(traffic.rate * share);
                let mut job = self.run.job(id as u32 + 1, to, pace, lanes);
                job.repeat = true;
                self.run.start(0, job).await?;
            }
        }
        Ok(())
    }

    /// Sessions and topics in all.
    pub(super) fn session_topics(&self, traffic: &Traffic) -> u64 {
        u64::from(self.run.common.sockets) * u64::from(IMPLICIT + traffic.topics_each)
    }

    /// Seconds of the run's charts.
    pub(super) fn elapsed(&self) -> f64 {
        self.run.fleet.elapsed()
    }

    /// The hubs' processes are others now.
    pub(super) fn restarted(&mut self) {
        let pids = self.stage.pids();
        self.run.fleet.watch(&pids);
        self.run.server.watch(pids);
    }

    /// Takes the figures since the last time into the total.
    pub(super) async fn gather(&mut self) -> anyhow::Result<()> {
        for window in self.run.fleet.mark().await? {
            self.take(&window);
        }
        Ok(())
    }

    pub(super) fn take(&mut self, window: &Window) {
        self.total.add(window);
        let report = &mut self.run.report;
        report.count("publish repeated", &window.repeated);
        report.count("publish failed", &window.errors);
        report.count("socket closed", &window.closed);
        report.count("handshake refused, tried again", &window.refused);
    }

    /// Ends watching; each hub's readiness becomes a line of a chart. The answers, hub by hub.
    pub(super) async fn unwatch(&mut self) -> anyhow::Result<Vec<Vec<Answer>>> {
        let mut all = Vec::new();
        // Charts count from the beginning of the client processes.
        let shift = self.run.fleet.elapsed() - self.began.elapsed().as_secs_f64();
        for (number, watch) in std::mem::take(&mut self.watches).into_iter().enumerate() {
            let answers = watch.end().await?;
            let name = format!("ready: hub {number}");
            let points = points(&answers, self.began, shift);
            self.run.report.series.insert(name, points);
            all.push(answers);
        }
        Ok(all)
    }

    /// Ends the run: hubs drain and end, and the report is handed on with what their logs said.
    pub(super) async fn end(self) -> anyhow::Result<(Report, Reasons)> {
        let Self { run, stage, .. } = self;
        let mut report = run.end().await?;
        // Who was killed took its processor time along.
        for figure in ["server_cores", "cpu_us_per_delivery", "cpu_us_per_publish"] {
            report.figures.remove(figure);
        }
        let (bad, reasons) = spawn_blocking(move || {
            let bad = stage.end();
            let mut reasons = Reasons::default();
            for hub in &stage.hubs {
                reasons.read(&hub.log());
            }
            (bad, reasons)
        })
        .await?;
        report.check(
            "the hubs end with exit code 0",
            bad.is_empty(),
            if bad.is_empty() {
                "on SIGTERM".to_owned()
            } else {
                bad.join("; ")
            },
        );
        Ok((report, reasons))
    }
}

/// Changes of readiness as a line with steps.
fn points(answers: &[Answer], began: tokio::time::Instant, shift: f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    let value = |answer: &Answer| if answer.ready == Some(true) { 1.0 } else { 0.0 };
    let at = |answer: &Answer| answer.at.saturating_duration_since(began).as_secs_f64() + shift;
    for (index, answer) in answers.iter().enumerate() {
        let last = points.last().map(|(_, value)| *value);
        if last != Some(value(answer)) {
            if let Some(last) = last {
                points.push((at(answer), last));
            }
            points.push((at(answer), value(answer)));
        } else if index + 1 == answers.len() {
            points.push((at(answer), value(answer)));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn readiness_is_a_line_with_steps() {
        let began = tokio::time::Instant::now();
        let at = |ms: u64, ready| Answer {
            at: began + Duration::from_millis(ms),
            ready,
        };
        let answers = [
            at(0, Some(true)),
            at(500, Some(true)),
            at(1000, None),
            at(2000, Some(false)),
            at(3000, Some(true)),
            at(4000, Some(true)),
        ];
        assert_eq!(
            points(&answers, began, 1.0),
            [
                (1.0, 1.0),
                (2.0, 1.0),
                (2.0, 0.0),
                (4.0, 0.0),
                (4.0, 1.0),
                (5.0, 1.0)
            ]
        );
        assert_eq!(points(&[], began, 0.0), []);
    }

    #[test]
    fn a_session_counts_once_for_each_topic() {
        let told = |user, topic| Resynced {
            at_us: 1,
            user,
            topic,
            resuming: false,
        };
        let all = [
            told(1, Topic::ALL),
            told(1, Topic::ALL),
            told(1, Topic::user(1)),
            told(2, Topic::ALL),
        ];
        assert_eq!(Total::pairs(&all), 3);
    }
}
