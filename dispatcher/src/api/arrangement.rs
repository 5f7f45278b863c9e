//! How a body's channels stand to each other: `strategy`, `steps` and what belongs to them, checked. No I/O.

use common::{
    http::Problem,
    target::{Audience, Target},
};

use super::{
    address::Addresses,
    body::{NotificationBody, StepBody},
    times,
    words::parse_channels,
};
use crate::model::{Channel, Reached, Strategy};

/// More attempts than this are no way to say that a channel should not be left.
const MAX_ATTEMPTS: u32 = 100;

/// The longest time from the first step to the last: 30 days, in microseconds.
const MAX_AFTER: i64 = 30 * 24 * 3600 * 1_000_000;

/// What a body says of its chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arrangement {
    pub(crate) strategy: Strategy,
    /// Of steps that say nothing else.
    pub(crate) attempts: Option<u32>,
    /// Of steps that say nothing else.
    pub(crate) stop_on: Option<Reached>,
    /// Where the body has `steps`.
    pub(crate) steps: Vec<StepDraft>,
}

/// One step of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepDraft {
    /// As the caller wrote it.
    pub(crate) name: String,
    pub(crate) channel: Channel,
    /// Microseconds after the step before.
    pub(crate) after: Option<i64>,
    pub(crate) unless: Option<Reached>,
    pub(crate) attempts: Option<u32>,
}

impl Arrangement {
    /// Reads what belongs to the strategy.
    pub(crate) fn read(body: &NotificationBody, audience: Option<&Audience>) -> Result<Self, Problem> {
        let strategy = match body.strategy.as_deref() {
            None | Some("all") => Strategy::All,
            Some("failover") => Strategy::Failover,
            Some("escalate") => Strategy::Escalate,
            Some(_) => {
                return Err(Problem::invalid(
                    "invalid_value",
                    "strategy",
                    "one of all, failover, escalate",
                ));
            }
        };
        belongs(
            "steps",
            body.steps.is_some(),
            strategy,
            &[Strategy::Failover, Strategy::Escalate],
        )?;
        belongs("stop_on", body.stop_on.is_some(), strategy, &[Strategy::Escalate])?;
        belongs(
            "attempts_before_next",
            body.attempts_before_next.is_some(),
            strategy,
            &[Strategy::Failover],
        )?;
        if strategy != Strategy::All {
            fits(strategy, body, audience)?;
        }
        Ok(Self {
            strategy,
            attempts: body
                .attempts_before_next
                .map(|count| attempts("attempts_before_next".to_owned(), count))
                .transpose()?,
            stop_on: body
                .stop_on
                .as_deref()
                .map(|word| reached("stop_on".to_owned(), word))
                .transpose()?,
            steps: body
                .steps
                .as_deref()
                .map(|all| steps(strategy, all))
                .transpose()?
                .unwrap_or_default(),
        })
    }

    /// Refuses addresses that would belong to none of several users.
    pub(crate) fn check_addresses(
        &self,
        audience: Option<&Audience>,
        addresses: &Addresses,
    ) -> Result<(), Problem> {
        let several = match audience.map(|audience| &audience.target) {
            Some(Target::Users(users)) => users.len() > 1,
            _ => false,
        };
        if self.strategy == Strategy::All || !several || addresses.is_empty() {
            return Ok(());
        }
        Err(Problem::invalid(
            "conflict",
            "strategy",
            "addresses beside several users belong to none of them; name one user, or leave the addresses to the contacts",
        ))
    }

    /// The channels that `steps` name.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        (!self.steps.is_empty()).then(|| self.steps.iter().map(|step| step.name.clone()).collect())
    }
}

/// Refuses a field that another strategy has.
fn belongs(
    field: &'static str,
    is_there: bool,
    strategy: Strategy,
    allowed: &[Strategy],
) -> Result<(), Problem> {
    if !is_there || allowed.contains(&strategy) {
        return Ok(());
    }
    let names: Vec<_> = allowed
        .iter()
        .map(|strategy| format!("`\"strategy\":\"{}\"`", strategy.as_str()))
        .collect();
    Err(Problem::invalid(
        "conflict",
        field,
        format!("`{field}` belongs to {}", names.join(" or ")),
    ))
}

/// A chain is one recipient's: of groups nobody could say who has got what.
fn fits(strategy: Strategy, body: &NotificationBody, audience: Option<&Audience>) -> Result<(), Problem> {
    for (field, is_there) in [
        ("channels", body.channels.is_some()),
        ("channel", body.channel.is_some()),
        ("channel_type", body.channel_type.is_some()),
    ] {
        if is_there && body.steps.is_some() {
            return Err(Problem::invalid(
                "conflict",
                field,
                "`steps` already names the channels",
            ));
        }
    }
    match audience.map(|audience| &audience.target) {
        Some(Target::User(_) | Target::Users(_)) => Ok(()),
        Some(_) => Err(Problem::invalid(
            "strategy_not_for_group",
            "strategy",
            "a chain of channels is for `user`, `users` or addresses; for groups use `all`",
        )),
        None if strategy == Strategy::Escalate => Err(Problem::invalid(
            "no_target",
            "to",
            "only a user can give the receipts that `escalate` waits for; name one in `to`",
        )),
        None => Ok(()),
    }
}

fn steps(strategy: Strategy, bodies: &[StepBody]) -> Result<Vec<StepDraft>, Problem> {
    if bodies.is_empty() {
        return Err(Problem::invalid("invalid_value", "steps", "names no channel"));
    }
    let mut steps: Vec<StepDraft> = Vec::with_capacity(bodies.len());
    let mut last = 0_i64;
    for (index, body) in bodies.iter().enumerate() {
        let step = step(strategy, body, index)?;
        if steps.iter().any(|known| known.channel == step.channel) {
            return Err(Problem::invalid(
                "conflict",
                format!("steps[{index}].channel"),
                "a recipient gets a notification by one channel once; each channel is one step",
            ));
        }
        let comes_late = !step.channel.is_external() && steps.iter().any(|known| known.channel.is_external());
        if comes_late && strategy == Strategy::Escalate {
            return Err(Problem::invalid(
                "conflict",
                format!("steps[{index}].channel"),
                "`in_app` and `realtime` come first",
            ));
        }
        last = last.saturating_add(step.after.unwrap_or_default());
        if last > MAX_AFTER {
            return Err(Problem::invalid(
                "invalid_time",
                format!("steps[{index}].after"),
                "the last step begins at most 30 days after the first",
            ));
        }
        steps.push(step);
    }
    Ok(steps)
}

fn step(strategy: Strategy, body: &StepBody, index: usize) -> Result<StepDraft, Problem> {
    let field = |name: &str| format!("steps[{index}].{name}");
    let named = parse_channels("channel", vec![body.channel.clone()])
        .map_err(|problem| problem.field(field("channel")))?;
    let [(name, channel)] = named.as_slice() else {
        return Err(Problem::invalid(
            "invalid_value",
            field("channel"),
            "names no channel",
        ));
    };
    let refuse = |name: &str, why: &str| Err(Problem::invalid("conflict", field(name), why));
    match strategy {
        Strategy::Escalate if body.attempts.is_some() => {
            return refuse("attempts", "`attempts` belongs to `failover`");
        }
        Strategy::Escalate if !channel.is_external() => {
            for (name, is_there) in [("after", body.after.is_some()), ("unless", body.unless.is_some())] {
                if is_there {
                    return refuse(name, "`in_app` and `realtime` begin at once and wait for nothing");
                }
            }
        }
        Strategy::Escalate => {}
        Strategy::All | Strategy::Failover => {
            for (name, is_there) in [("after", body.after.is_some()), ("unless", body.unless.is_some())] {
                if is_there {
                    return refuse(name, "time and receipts belong to `escalate`");
                }
            }
        }
    }
    Ok(StepDraft {
        name: name.clone(),
        channel: *channel,
        after: body
            .after
            .as_ref()
            .map(|after| times::duration(field("after"), after))
            .transpose()?,
        unless: body
            .unless
            .as_deref()
            .map(|word| reached(field("unless"), word))
            .transpose()?,
        attempts: body
            .attempts
            .map(|count| attempts(field("attempts"), count))
            .transpose()?,
    })
}

fn reached(field: String, word: &str) -> Result<Reached, Problem> {
    Reached::parse(word).ok_or_else(|| {
        Problem::invalid(
            "invalid_value",
            field,
            "one of delivered, seen, read, acknowledged",
        )
    })
}

fn attempts(field: String, count: u32) -> Result<u32, Problem> {
    if (1..=MAX_ATTEMPTS).contains(&count) {
        Ok(count)
    } else {
        Err(Problem::invalid(
            "invalid_value",
            field,
            format!("from 1 to {MAX_ATTEMPTS}"),
        ))
    }
}
