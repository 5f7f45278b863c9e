//! Which fault begins when. Decisions without I/O.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Fault;

const EVERYTHING: &str = include_str!("../../plans/everything.toml");

/// A plan of faults, as `loadtest/plans/` has them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Of what is left to chance; none: the command line's.
    #[serde(default)]
    pub(crate) seed: Option<u64>,
    /// By chance: the first fault, and the time from one to the next.
    #[serde(default)]
    first_seconds: f64,
    #[serde(default)]
    every_seconds: Option<f64>,
    /// How often each kind in a bag from which all are drawn before it is filled again. Without any, nothing is left to
    /// chance.
    #[serde(default)]
    weights: BTreeMap<Fault, u32>,
    /// By the clock.
    #[serde(default)]
    at: Vec<At>,
    #[serde(default)]
    pub(crate) options: Options,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    seconds: f64,
    fault: Fault,
}

/// How faults go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// How long a killed hub is away.
    pub(crate) hub_away_seconds: f64,
    /// How long a killed primary is away once another has taken over, or a paused one hangs on.
    pub(crate) redis_away_seconds: f64,
    /// Slots that move.
    pub(crate) slots: u16,
    /// Which part of the sockets is cut, in how much time, and for how long each.
    pub(crate) cut_share: f64,
    pub(crate) cut_seconds: f64,
    pub(crate) cut_away_ms: u64,
    /// Which part of the hubs' connections is killed.
    pub(crate) killed_share: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hub_away_seconds: 2.0,
            redis_away_seconds: 2.0,
            slots: 512,
            cut_share: 0.3,
            cut_seconds: 2.0,
            cut_away_ms: 1_000,
            killed_share: 0.5,
        }
    }
}

impl Plan {
    /// Reads a plan; none: the one that ships with this program.
    pub(crate) fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Self::parse(EVERYTHING).context("the plan of this program");
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the plan {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let plan: Self = toml::from_str(text)?;
        let sound = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        if !sound(plan.first_seconds) || !plan.at.iter().all(|at| sound(at.seconds)) {
            bail!("times are seconds from 0");
        }
        if plan.weights.values().any(|weight| *weight > 1_000) {
            bail!("a weight is at most 1000");
        }
        if plan.weights.values().any(|weight| *weight > 0) {
            if !plan
                .every_seconds
                .is_some_and(|every| sound(every) && every >= 0.1)
            {
                bail!("`weights` need `every_seconds` of at least 0.1");
            }
        } else if plan.at.is_empty() {
            bail!("neither `weights` nor `at`: nothing would happen");
        }
        Ok(plan)
    }

    /// All faults that begin within so many seconds, in order.
    pub(crate) fn schedule(&self, seconds: f64, seed: u64) -> Vec<(Duration, Fault)> {
        let mut random = fastrand::Rng::with_seed(self.seed.unwrap_or(seed));
        let mut all: Vec<(f64, Fault)> = self.at.iter().map(|at| (at.seconds, at.fault)).collect();
        let weights = self.weights.iter();
        let bag: Vec<Fault> = weights
            .flat_map(|(fault, weight)| std::iter::repeat_n(*fault, *weight as usize))
            .collect();
        if let Some(every) = self.every_seconds.filter(|_| !bag.is_empty()) {
            let mut at = self.first_seconds;
            let mut left = Vec::new();
            while at < seconds {
                if left.is_empty() {
                    left.clone_from(&bag);
                    random.shuffle(&mut left);
                }
                all.extend(left.pop().map(|fault| (at, fault)));
                at += every;
            }
        }
        all.retain(|(at, _)| *at < seconds);
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        all.into_iter()
            .map(|(at, fault)| (Duration::from_secs_f64(at), fault))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_plans_that_ship_can_be_read_and_say_something() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let plan = Plan::read(Some(&file.unwrap().path())).unwrap();
            assert!(!plan.schedule(100.0, 1).is_empty());
            count += 1;
        }
        assert!(count >= 4);
        // The usual one, over its ten minutes, has every kind.
        let usual = Plan::read(None).unwrap().schedule(600.0, 1);
        for fault in Fault::ALL {
            assert!(usual.iter().any(|(_, its)| *its == fault), "{fault}");
        }
    }

    #[test]
    fn chance_is_the_same_again_and_weighs() {
        let plan = Plan::parse(
            "every_seconds = 1\n[weights]\nhub_killed = 3\nredis_killed = 1\nnginx_reloaded = 0\n[[at]]\nseconds = 2.5\nfault = \"clients_cut\"",
        )
        .unwrap();
        let all = plan.schedule(400.0, 7);
        assert_eq!(all, plan.schedule(400.0, 7));
        assert_ne!(all, plan.schedule(400.0, 8));
        assert_eq!(all.len(), 401);
        assert_eq!(all[3], (Duration::from_millis(2500), Fault::ClientsCut));
        let of = |fault| all.iter().filter(|(_, its)| *its == fault).count();
        assert_eq!((of(Fault::HubKilled), of(Fault::RedisKilled)), (300, 100));
        assert_eq!(of(Fault::NginxReloaded), 0);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for (text, wanted) in [
            ("seed = 1", "nothing would happen"),
            ("[weights]\nhub_killed = 1", "every_seconds"),
            ("[weights]\nfire = 1", "fire"),
            ("[[at]]\nseconds = -1\nfault = \"hub_killed\"", "from 0"),
            ("evry_seconds = 1", "evry_seconds"),
        ] {
            let refused = format!("{:#}", Plan::parse(text).unwrap_err());
            assert!(refused.contains(wanted), "{text}: {refused}");
        }
    }
}
