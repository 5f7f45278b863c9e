//! From the queue to the outside: mails and webhook calls, beside smtp-source.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};

use super::{accept::many, drive::finite, floor, sink, site::Site};
use crate::{
    args::{Dispatch, Kind},
    figure::{Bound, Figures},
};

/// Longest time without progress.
const STUCK: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Connections of mails; also smtp-source's.
const MAIL_CONNECTIONS: u64 = 10;
/// Longest answer of a metrics page.
const METRICS: Duration = Duration::from_secs(5);

pub(super) async fn measure(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    if args.wants("d6") {
        webhooks(args, kind, figures).await?;
    }
    if args.wants("d5") {
        mails(args, kind, figures).await?;
    }
    Ok(())
}

async fn webhooks(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    let hooks = sink::Hooks::start()?;
    let port = hooks.address.port();
    let site = Site::start(
        args,
        kind,
        &format!(
            "[webhook]\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=\"]\nallow_private = [\"127.0.0.0/8\"]\n\
             ports = [{port}]\nallow_http = true\nper_minute = 1000000\n"
        ),
    )?;
    let address = format!(r#","recipient":"http://127.0.0.1:{port}/hook""#);
    let make = many(1, r#""webhook""#, address)?;
    let rate = drained(&site, make, args.deliveries, || Ok(hooks.taken())).await?;
    figures.add(
        "D6",
        format!("{}: webhooks, signed, to a local receiver", kind.name()),
        rate,
        "/s",
        Bound::Least(3_000.0, 8_000.0),
    );
    Ok(())
}

async fn mails(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    let (port, mut sink) = sink::mails().await?;
    let floor = floor::smtp_source(port, MAIL_CONNECTIONS, args.deliveries).await?;
    let what = format!("{}: smtp-source, {MAIL_CONNECTIONS} connections", kind.name());
    figures.add("D5", what, floor, "/s", Bound::None);
    let site = Site::start(
        args,
        kind,
        &format!(
            "[smtp]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"a@example.com\"\npool_size = {MAIL_CONNECTIONS}\n"
        ),
    )?;
    let make = many(1, r#""email""#, r#","recipient":"b@example.com""#.to_owned())?;
    let internal = site.node.internal();
    let rate = drained(&site, make, args.deliveries, || {
        let answer = rig::http::get(internal, "/metrics", METRICS)?;
        count(&answer.body).context("no count of mails")
    })
    .await?;
    figures.add(
        "D5",
        format!("{}: mails, {MAIL_CONNECTIONS} connections", kind.name()),
        rate,
        "/s",
        Bound::None,
    );
    figures.add(
        "D5",
        format!("{}: mails against smtp-source", kind.name()),
        100.0 * rate / floor,
        "%",
        Bound::Least(40.0, 70.0),
    );
    sink.kill().await.context("ending smtp-sink")
}

fn count(metrics: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix("notification_sent_total ")?.trim().parse().ok();
    metrics.lines().find_map(value)
}

/// Accepts so many in bulk and waits until all went out. The rate counts from when all were accepted, where a third was still
/// to go out then; else from the beginning.
async fn drained(
    site: &Site,
    make: super::drive::Make,
    count: u64,
    taken: impl Fn() -> anyhow::Result<u64>,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    finite(site.address(), 4, count.div_ceil(1_000), make).await?;
    let (mut from, mut before) = (Instant::now(), taken()?);
    if before * 3 > count * 2 {
        (from, before) = (began, 0);
    }
    let all = count.div_ceil(1_000) * 1_000;
    let (mut last, mut since) = (before, Instant::now());
    loop {
        let now = taken()?;
        if now >= all {
            return Ok((all - before) as f64 / from.elapsed().as_secs_f64());
        }
        if now > last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > STUCK {
            bail!("{now} of {all} went out, and no more: {:.2000}", site.node.log());
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_in_the_metrics() {
        let page = "# HELP notification_sent x\nnotification_sent_total 12\nother 3\n";
        assert_eq!(count(page), Some(12));
        assert_eq!(count("other 3\n"), None);
    }
}
