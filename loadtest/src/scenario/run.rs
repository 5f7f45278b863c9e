//! A run: a server, client processes, a report; and the steps that scenarios are made of.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::{
    args::Common,
    ask,
    fleet::{Fleet, PER_PROCESS, rounds},
    payload::LEAST,
    process::{Usage, kernel},
    report::Report,
    server::{Server, pairs},
    sysctl::Sysctls,
    target::Target,
    wire::{Form, Job, Open, Order, Pace, Rounds, Setup, Stopped, To, Window},
};

/// The longest that tokens of a run are needed beyond its traffic.
const SLACK_SECONDS: u64 = 3_600;

/// Traffic behind the last cut.
const CALM_SECONDS: f64 = 4.0;

/// What a scenario needs of its set-up.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Environment of a Carillon that is started here.
    pub(super) environment: Vec<(String, String)>,
    /// Positions and resume.
    pub(super) resume: bool,
    /// Broadcasts are followed until they have arrived everywhere.
    pub(super) rounds: bool,
    /// Client processes, at least.
    pub(super) processes: usize,
    /// Handshakes at once, at least.
    pub(super) connecting: u32,
    /// Whether all sockets are of users, as where unicasts go.
    pub(super) as_users: bool,
}

/// A run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) common: &'a Common,
    pub(super) server: Server,
    pub(super) fleet: Fleet,
    pub(super) report: Report,
    needs: Needs,
    base: Option<Usage>,
    sysctls: Sysctls,
    /// Messages that the server has refused, over all parts.
    pub(super) errors: u64,
    /// Sockets that were opened.
    opened: u32,
}

/// What traffic cost and brought.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) windows: Vec<Window>,
    pub(super) seconds: f64,
    pub(super) cpu: Option<Duration>,
}

impl Part {
    pub(super) fn received(&self) -> u64 {
        self.windows.iter().map(|window| window.received).sum()
    }

    pub(super) fn published(&self) -> u64 {
        self.windows.iter().map(|window| window.published).sum()
    }
}

impl<'a> Run<'a> {
    /// Starts the server and the client processes.
    pub(super) async fn begin(common: &'a Common, scenario: &str, needs: Needs) -> anyhow::Result<Self> {
        fastrand::seed(common.seed);
        let target = match &common.describe {
            Some(path) => Target::read(path)?,
            None => Target::carillon()?,
        };
        if needs.resume && !target.resume {
            bail!(
                "this scenario needs a server that can resume, which {} does not",
                target.name
            );
        }
        let environment = if common.describe.is_none() {
            needs.environment.as_slice()
        } else {
            &[]
        };
        let sysctls = Sysctls::set(&pairs(&common.sysctls)?)?;
        let server = Server::new(common, &target, environment).await?;
        Self::on(server, target, common, scenario, needs, sysctls).await
    }

    /// Starts the client processes of a server that is there.
    pub(super) async fn on(
        server: Server,
        target: Target,
        common: &'a Common,
        scenario: &str,
        needs: Needs,
        sysctls: Sysctls,
    ) -> anyhow::Result<Self> {
        let run = fastrand::Rng::new().u32(1..);
        let processes = common
            .processes
            .map_or(0, |count| count as usize)
            .max(needs.processes)
            .max(common.sockets.div_ceil(PER_PROCESS) as usize);
        let setup = Setup {
            addresses: server.addresses.clone(),
            publishes: server.publishes.clone(),
            secret: server.secret.clone(),
            // A tenant of its own keeps the run's topics apart from all others, and from those of earlier runs.
            tenant: format!("load-{run:08x}"),
            run,
            sources: common.sources,
            connecting: common.connecting.max(needs.connecting),
            ttl_seconds: i64::try_from(common.seconds * 3 + common.connect_seconds + SLACK_SECONDS)?,
            spin: common.spin,
            deflate: common.deflate,
            resume: needs.resume,
            rounds: if needs.rounds {
                rounds(processes)
            } else {
                Rounds::Off
            },
            seed: common.seed,
            target: target.clone(),
        };
        let base = server.settled().await;
        let fleet = Fleet::start(&setup, processes, common.client_core, server.pids()).await?;
        let mut report = Report {
            name: common.name.clone().unwrap_or_else(|| target.name.clone()),
            scenario: scenario.to_owned(),
            target: target.name.clone(),
            target_version: server.version.clone(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            began: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            machine: machine(),
            ..Report::default()
        };
        if let Some(base) = base {
            report.figure("rss_base_mib", mib(base.rss));
        }
        Ok(Self {
            common,
            server,
            fleet,
            report,
            needs,
            base,
            sysctls,
            errors: 0,
            opened: 0,
        })
    }

    /// Opens all sockets of the command line, evenly over the processes.
    pub(super) async fn open_all(&mut self, topics: u32, topics_each: u32) -> anyhow::Result<()> {
        let processes = self.fleet.len() as u32;
        let mut first = 0;
        let mut opens = Vec::new();
        for index in 0..processes {
            let count = (self.common.sockets - first).div_ceil(processes - index);
            let open = Open {
                first,
                count,
                as_users: self.needs.as_users,
                first_topic: 0,
                topics,
                topics_each,
            };
            opens.push((index as usize, open));
            first += count;
        }
        self.open(&opens).await
    }

    /// Opens sockets and waits until all are open.
    pub(super) async fn open(&mut self, opens: &[(usize, Open)]) -> anyhow::Result<()> {
        let wanted: u32 = opens.iter().map(|(_, open)| open.count).sum();
        let before = self.server.usage();
        let kernel_before = kernel();
        for (agent, open) in opens {
            if open.count > PER_PROCESS {
                bail!("a client process has at most {PER_PROCESS} sockets: use more --processes");
            }
            self.fleet.order(*agent, &Order::Open(open.clone())).await?;
        }
        let bar = bar(u64::from(wanted), "connecting");
        let deadline = Instant::now() + Duration::from_secs(self.common.connect_seconds);
        let opened = self.fleet.opened(opens.len(), deadline, &bar).await;
        bar.finish_and_clear();
        let opened = opened?;
        let connected = self.server.usage();
        let idle = self.server.settled().await;
        let kernel_after = kernel();
        let sockets = f64::from(opened.opened.max(1));
        self.opened += opened.opened;
        let report = &mut self.report;
        report.figure("sockets", f64::from(self.opened));
        report.figure("connect_seconds", opened.took.as_secs_f64());
        report.figure("connects_per_second", sockets / opened.took.as_secs_f64());
        if let (Some(base), Some(before), Some(connected), Some(idle)) = (self.base, before, connected, idle)
        {
            let cpu = connected.cpu.saturating_sub(before.cpu);
            report.figure("connect_cpu_us", cpu.as_micros() as f64 / sockets);
            report.figure("rss_idle_mib", mib(idle.rss));
            report.figure("bytes_per_socket", (idle.rss as f64 - base.rss as f64) / sockets);
        }
        if kernel_after.slab_bytes > 0 {
            let slab = kernel_after.slab_bytes as f64 - kernel_before.slab_bytes as f64;
            report.figure("kernel_bytes_per_socket", slab / sockets);
        }
        report.count("handshake failed", &opened.failed);
        report.check(
            "every socket is opened",
            opened.opened == wanted,
            format!("{} of {wanted}", opened.opened),
        );
        if opened.opened == 0 {
            bail!("no socket could be opened: {:?}", opened.failed);
        }
        Ok(())
    }

    /// A job with what most have in common.
    pub(super) fn job(&self, id: u32, to: To, pace: Pace, lanes: u32) -> Job {
        Job {
            id,
            to,
            pace,
            form: Form::Single,
            lanes,
            pipeline: 1,
            size: self.common.size.max(LEAST as u32) as usize,
            limit: 0,
            keys: 0,
            extra: String::new(),
            repeat: false,
        }
    }

    /// Gives a job to a client process.
    pub(super) async fn start(&mut self, agent: usize, job: Job) -> anyhow::Result<()> {
        if matches!(job.pace, Pace::Credits(_)) {
            self.fleet.creditor = Some((agent, job.id));
        }
        self.fleet.order(agent, &Order::Job(job)).await
    }

    /// Begins a part of which the figures are wanted.
    pub(super) async fn mark(&mut self) -> anyhow::Result<Mark> {
        self.fleet.mark().await?;
        Ok(self.here())
    }

    /// The mark for what follows a part without a break.
    pub(super) fn here(&self) -> Mark {
        Mark {
            at: Instant::now(),
            usage: self.server.usage(),
        }
    }

    /// The figures since the mark.
    pub(super) async fn since(&mut self, mark: &Mark) -> anyhow::Result<Part> {
        let seconds = mark.at.elapsed().as_secs_f64();
        let now = self.server.usage();
        let windows = self.fleet.mark().await?;
        let cpu = match (mark.usage, now) {
            (Some(before), Some(now)) => Some(now.cpu.saturating_sub(before.cpu)),
            _ => None,
        };
        for window in &windows {
            self.errors += window.errors.values().sum::<u64>();
            self.report.count("publish failed", &window.errors);
            self.report.count("socket closed", &window.closed);
            self.report
                .count("handshake refused, tried again", &window.refused);
        }
        Ok(Part {
            windows,
            seconds,
            cpu,
        })
    }

    /// Lets time pass with traffic on.
    pub(super) async fn pass(&mut self, what: &'static str, seconds: f64) -> anyhow::Result<()> {
        let bar = bar(seconds.ceil() as u64, what);
        let mut peak = 0;
        let passed = self
            .fleet
            .pass(Duration::from_secs_f64(seconds), &bar, |_| {
                peak = peak.max(kernel().tcp_bytes);
                false
            })
            .await;
        bar.finish_and_clear();
        let highest = self
            .report
            .figures
            .get("kernel_buffer_mib")
            .copied()
            .unwrap_or(0.0);
        self.report.figure("kernel_buffer_mib", mib(peak).max(highest));
        passed
    }

    /// Ends the cuts and waits until all sockets are back, with traffic still on; then a little longer, so that every
    /// topic shows whether something is missing at its end.
    pub(super) async fn calm(&mut self) -> anyhow::Result<()> {
        let ended = Order::Cut {
            per_second: 0.0,
            away_ms: 0,
        };
        self.fleet.order_all(&ended).await?;
        let bar = bar(self.common.connect_seconds, "coming back");
        let wanted = self.opened;
        let limit = Duration::from_secs(self.common.connect_seconds);
        let passed = self
            .fleet
            .pass(limit, &bar, |fleet| fleet.open_now() >= wanted)
            .await;
        bar.finish_and_clear();
        passed?;
        self.pass("calm", CALM_SECONDS).await
    }

    /// Waits until the server, which was told to, has ended; whether with exit code 0.
    pub(super) async fn ended(&mut self, within: Duration) -> anyhow::Result<bool> {
        let status = self.server.ended(within).await?;
        Ok(status.is_none_or(|status| status.success()))
    }

    /// Ends publishing.
    pub(super) async fn stop(&mut self) -> anyhow::Result<Stopped> {
        self.fleet.stop().await
    }

    /// The server's counters, where it has any.
    pub(super) async fn counters(&self) -> BTreeMap<String, f64> {
        self.server
            .metrics()
            .await
            .map(|text| ask::counters(&text))
            .unwrap_or_default()
    }

    /// Ends the server, and hands on the report.
    pub(super) async fn end(mut self) -> anyhow::Result<Report> {
        let series = std::mem::take(&mut self.fleet.series);
        self.report
            .series
            .extend(series.into_iter().map(|(name, points)| (name.to_owned(), points)));
        if let Some(rss) = self.report.series.get("rss_mib") {
            let peak = rss.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
            self.report.figure("rss_peak_mib", peak);
        }
        if let Some(usage) = self.server.usage() {
            self.report.figure("rss_end_mib", mib(usage.rss));
        }
        drop(self.fleet);
        if self.server.is_ours() {
            let stopped = self.server.stop().await;
            self.report.check(
                "the server ends as it should",
                stopped.is_ok(),
                stopped.map_or_else(|error| format!("{error:#}"), |()| "on SIGTERM".to_owned()),
            );
        }
        self.sysctls.restore().context("setting back kernel settings")?;
        Ok(self.report)
    }
}

/// Where a part began.
#[derive(Debug)]
pub(super) struct Mark {
    at: Instant,
    usage: Option<Usage>,
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

pub(super) fn bar(len: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:14} [{bar:30}] {pos}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style).with_prefix(what)
}

fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(String::new, |(_, model)| model.trim().to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    BTreeMap::from([
        ("kernel".to_owned(), read("/proc/sys/kernel/osrelease")),
        ("processor".to_owned(), model),
        ("cores".to_owned(), cores.to_string()),
        (
            "congestion control".to_owned(),
            read("/proc/sys/net/ipv4/tcp_congestion_control"),
        ),
    ])
}
