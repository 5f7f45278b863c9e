//! What is accepted a second, durably.

use std::{sync::Arc, time::Duration};

use super::{
    client::post,
    drive::{Make, closed},
    floor,
    site::{Site, sender},
};
use crate::{
    args::{Dispatch, Kind},
    figure::{Bound, Figures},
};

/// Users that single and bulk notifications go to in turn.
const USERS: u64 = 10_000;
/// Notifications of a bulk request.
const BULK: u64 = 1_000;
/// Connections that send in bulk.
const BULK_CONNECTIONS: u32 = 4;
/// Whom notifications go to.
#[derive(Debug, Clone, Copy)]
enum To {
    Users,
    Role,
}

pub(super) async fn measure(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    if args.wants("d1") {
        single(args, kind, figures).await?;
    }
    if args.wants("hot") {
        hot(args, kind, figures).await?;
    }
    if args.wants("d2") {
        bulk(args, kind, figures).await?;
    }
    Ok(())
}

/// A notification as a shop would send it.
pub(super) fn body(to: &str, channels: &str, number: u64) -> String {
    format!(
        r#"{{"to":{to},"title":"Order {number} has been shipped","content":"Your order {number} left our warehouse in Hamburg and will be with you tomorrow between 9 and 12.","channels":[{channels}]}}"#
    )
}

fn make(to: To, channels: &'static str) -> anyhow::Result<Make> {
    let token = sender()?;
    Ok(Arc::new(move |number| {
        let to = match to {
            To::Users => format!(r#"{{"user":"u{}"}}"#, number % USERS),
            To::Role => r#"{"role":"staff"}"#.to_owned(),
        };
        post("/api/v1/notifications", &token, &body(&to, channels, number))
    }))
}

async fn single(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    let name = kind.name();
    let time = Duration::from_secs(args.seconds);
    let (floor, share, what) = match kind {
        Kind::Sqlite => (floor::sqlite(time).await?, 0.8, "a bare SQLite commit loop"),
        Kind::Postgres => (
            floor::pgbench(args.connections, args.seconds).await?,
            0.25,
            "pgbench of one bare row each",
        ),
    };
    figures.add("D1", format!("{name}: {what}"), floor, "/s", Bound::None);
    let site = Site::start(args, kind, "")?;
    let driven = closed(
        site.address(),
        args.connections,
        time,
        make(To::Users, r#""in_app""#)?,
    )
    .await?;
    let must = (share * floor).max(4_000.0);
    figures.add(
        "D1",
        format!(
            "{name}: accepted one a request, {} connections, in_app",
            args.connections
        ),
        driven.rate,
        "/s",
        Bound::Least(must, 10_000.0_f64.max(must)),
    );
    figures.add(
        "D1",
        format!("{name}: answered, p99"),
        driven.latency.p99_ms,
        "ms",
        Bound::Most(50.0, 25.0),
    );
    let driven = closed(
        site.address(),
        args.connections,
        time,
        make(To::Users, r#""in_app","realtime""#)?,
    )
    .await?;
    figures.add(
        "D1",
        format!("{name}: the same by in_app and realtime, nobody online"),
        driven.rate,
        "/s",
        Bound::None,
    );
    Ok(())
}

/// All rows take a position of the same counter.
async fn hot(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    let site = Site::start(args, kind, "")?;
    let mut rates = Vec::new();
    for (to, what) in [(To::Users, "distinct users"), (To::Role, "one role")] {
        let time = Duration::from_secs(args.seconds);
        let driven = closed(site.address(), args.connections, time, make(to, r#""in_app""#)?).await?;
        let what = format!("{}: accepted one a request, to {what}", kind.name());
        figures.add("hot", what, driven.rate, "/s", Bound::None);
        rates.push(driven.rate);
    }
    if let [users, role] = rates[..] {
        let what = format!("{}: to one role against distinct users", kind.name());
        figures.add("hot", what, 100.0 * role / users, "%", Bound::None);
    }
    Ok(())
}

/// A request for a thousand: the first number of each is that of the request.
pub(super) fn many(users: u64, channels: &'static str, address: String) -> anyhow::Result<Make> {
    let token = sender()?;
    Ok(Arc::new(move |request| {
        let all: Vec<String> = (request * BULK..(request + 1) * BULK)
            .map(|number| {
                let to = format!(r#"{{"user":"u{}"}}"#, number % users);
                let mut one = body(&to, channels, number);
                if !address.is_empty() {
                    one.pop();
                    one.push_str(&address);
                    one.push('}');
                }
                one
            })
            .collect();
        let body = format!(r#"{{"notifications":[{}]}}"#, all.join(","));
        post("/api/v1/notifications/bulk", &token, &body)
    }))
}

async fn bulk(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    let site = Site::start(args, kind, "")?;
    let time = Duration::from_secs(args.seconds);
    let make = many(USERS, r#""in_app""#, String::new())?;
    let driven = closed(site.address(), BULK_CONNECTIONS, time, make).await?;
    let bound = match kind {
        Kind::Sqlite => Bound::Least(8_000.0, 20_000.0),
        Kind::Postgres => Bound::Least(15_000.0, 40_000.0),
    };
    let what = format!(
        "{}: accepted 1,000 a request, {BULK_CONNECTIONS} connections, one delivery each",
        kind.name()
    );
    figures.add("D2", what, driven.rate * BULK as f64, "/s", bound);
    Ok(())
}
