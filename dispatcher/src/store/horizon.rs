//! Where a claim begins to look.
//!
//! PostgreSQL keeps the index entries of rows that are gone as long as any snapshot is open that could see them: a backup, a
//! report, a forgotten session. Claims look from the front of the index, so each would walk over all of these again. While
//! walking is dear, claims begin a little before where the last one found something, and what was learnt of whose work is
//! due is used again. Now and then all is looked at after all, seldom enough that it takes a small part of the time: so what
//! lies further in front (given back, accepted late) waits for moments, and is not lost.
//!
//! While walking is cheap, which is nearly always, nothing of this is used.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::fair::Flow;
use crate::model::{Channel, Lane, Micros};

/// A look that takes longer is dear, where the one of its kind before it was, too: the first one of a connection, and any
/// on a busy machine, may be slow once.
const DEAR: Duration = Duration::from_millis(5);

/// What a claimed row may take beside.
const A_ROW: Duration = Duration::from_micros(200);

/// After a dear look none of its kind for so many times as long.
const REST: u32 = 20;

/// But not for longer.
const REST_MOST: Duration = Duration::from_secs(5);

/// What becomes visible at about the same time may be committed in another order.
const MARGIN: Duration = Duration::from_secs(2);

/// What a flow's first claimed row says, and how long the claim looked.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) first: Vec<(Flow, Micros)>,
    pub(super) took: Duration,
    pub(super) rows: usize,
}

/// What is remembered of one lane.
#[derive(Debug, Default)]
struct LaneView {
    slow: Slow,
    /// Until then claims begin at the floors.
    floors_until: Option<Instant>,
    floors: HashMap<(Channel, String), Micros>,
}

/// What one process remembers while looking is dear.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    lanes: HashMap<Lane, LaneView>,
    flows: HashMap<(Lane, Vec<Channel>), FlowsView>,
    next_due: Option<(Instant, Option<Micros>)>,
    next_due_slow: Slow,
}

/// What is remembered of one question whose work is due.
#[derive(Debug, Default)]
struct FlowsView {
    slow: Slow,
    known: Option<(Instant, Vec<Flow>)>,
}

/// Whether the last look of a kind was slow.
#[derive(Debug, Default)]
struct Slow(bool);

impl Slow {
    /// Until when a look that took so long is not repeated; none: it was cheap.
    fn rest(&mut self, now: Instant, took: Duration, most: Duration) -> Option<Instant> {
        let again = std::mem::replace(&mut self.0, took > DEAR);
        (again && self.0).then(|| now + (took * REST).min(most))
    }
}

impl Horizon {
    /// Whose work is due, as of a moment ago.
    pub(super) fn flows(&self, lane: Lane, channels: &[Channel], now: Instant) -> Option<Vec<Flow>> {
        let (until, flows) = self.flows.get(&(lane, channels.to_vec()))?.known.as_ref()?;
        (now < *until).then(|| flows.clone())
    }

    pub(super) fn saw_flows(
        &mut self,
        lane: Lane,
        channels: &[Channel],
        flows: &[Flow],
        took: Duration,
        now: Instant,
    ) {
        let view = self.flows.entry((lane, channels.to_vec())).or_default();
        // That there is nothing may change any moment.
        view.known = view
            .slow
            .rest(now, took, REST_MOST)
            .filter(|_| !flows.is_empty())
            .map(|until| (until, flows.to_vec()));
    }

    /// From when on a claim looks at each of these flows.
    pub(super) fn floors(&self, lane: Lane, flows: &[Flow], now: Instant) -> Option<Vec<Micros>> {
        let view = self.lanes.get(&lane)?;
        if now >= view.floors_until? {
            return None;
        }
        let floor = |flow: &Flow| {
            let key = (flow.channel, flow.tenant.as_str().to_owned());
            view.floors.get(&key).copied().unwrap_or(Micros(i64::MIN))
        };
        Some(flows.iter().map(floor).collect())
    }

    /// What a claim saw; `whole` when it looked from the front.
    pub(super) fn saw(&mut self, lane: Lane, seen: &Seen, whole: bool, now: Instant) {
        let rows = u32::try_from(seen.rows).unwrap_or(u32::MAX);
        let took = seen.took.saturating_sub(A_ROW.saturating_mul(rows));
        let view = self.lanes.entry(lane).or_default();
        if whole {
            view.floors.clear();
            view.floors_until = view.slow.rest(now, took, REST_MOST);
            if view.floors_until.is_none() {
                return;
            }
        }
        for (flow, first) in &seen.first {
            let key = (flow.channel, flow.tenant.as_str().to_owned());
            let floor = first.minus(MARGIN);
            let known = view.floors.entry(key).or_insert(floor);
            *known = (*known).max(floor);
        }
    }

    /// When something is due, as of a moment ago.
    pub(super) fn next_due(&self, now: Instant) -> Option<Option<Micros>> {
        let (until, due) = self.next_due?;
        (now < until).then_some(due)
    }

    pub(super) fn saw_next_due(&mut self, due: Option<Micros>, took: Duration, now: Instant) {
        // Times of notifications are in it too, which are not to wait for long.
        let until = self.next_due_slow.rest(now, took, Duration::from_secs(1));
        self.next_due = until.map(|until| (until, due));
    }
}

#[cfg(test)]
mod tests {
    use common::ids::TenantId;

    use super::*;

    fn flow(tenant: &str) -> Flow {
        Flow {
            channel: Channel::Email,
            tenant: TenantId::new(tenant).unwrap(),
        }
    }

    fn seen(first: i64, took: Duration) -> Seen {
        Seen {
            first: vec![(flow("a"), Micros(first))],
            took,
            rows: 1,
        }
    }

    const DEAR_LOOK: Duration = Duration::from_millis(100);

    #[test]
    fn cheap_looks_are_always_from_the_front() {
        let (mut horizon, now) = (Horizon::default(), Instant::now());
        horizon.saw(Lane::Low, &seen(1, DEAR), true, now);
        horizon.saw_flows(Lane::Low, &[Channel::Email], &[flow("a")], DEAR, now);
        horizon.saw_next_due(Some(Micros(1)), DEAR, now);
        assert_eq!(horizon.floors(Lane::Low, &[flow("a")], now), None);
        assert_eq!(horizon.flows(Lane::Low, &[Channel::Email], now), None);
        assert_eq!(horizon.next_due(now), None);
        // Many rows take their time without a walk.
        let many = Seen {
            rows: 1000,
            ..seen(1, DEAR_LOOK)
        };
        horizon.saw(Lane::Low, &many, true, now);
        assert_eq!(horizon.floors(Lane::Low, &[flow("a")], now), None);
    }

    #[test]
    fn after_a_dear_look_claims_begin_where_the_last_found_something() {
        let (mut horizon, now) = (Horizon::default(), Instant::now());
        let margin = i64::try_from(MARGIN.as_micros()).unwrap();
        let flows = [flow("a"), flow("b")];
        horizon.saw(Lane::Low, &seen(margin + 5, DEAR_LOOK), true, now);
        assert_eq!(
            horizon.floors(Lane::Low, &flows, now),
            None,
            "it may be slow once"
        );
        horizon.saw(Lane::Low, &seen(margin + 5, DEAR_LOOK), true, now);
        assert_eq!(
            horizon.floors(Lane::Low, &flows, now),
            Some(vec![Micros(5), Micros(i64::MIN)])
        );
        assert_eq!(horizon.floors(Lane::High, &flows, now), None);
        // It only moves on, and ends with the rest, which is about twenty times as long as the look.
        horizon.saw(Lane::Low, &seen(margin + 9, DEAR_LOOK), false, now);
        horizon.saw(Lane::Low, &seen(margin + 7, DEAR_LOOK), false, now);
        assert_eq!(horizon.floors(Lane::Low, &flows[..1], now), Some(vec![Micros(9)]));
        assert_eq!(horizon.floors(Lane::Low, &flows, now + DEAR_LOOK * REST), None);
        // From the front everything is new.
        horizon.saw(Lane::Low, &seen(margin + 1, DEAR_LOOK), true, now);
        assert_eq!(horizon.floors(Lane::Low, &flows[..1], now), Some(vec![Micros(1)]));
        horizon.saw(Lane::Low, &seen(margin + 1, Duration::ZERO), true, now);
        assert_eq!(horizon.floors(Lane::Low, &flows, now), None);
    }

    #[test]
    fn what_was_dear_to_learn_is_used_for_a_while() {
        let (mut horizon, now) = (Horizon::default(), Instant::now());
        let channels = [Channel::Email];
        horizon.saw_flows(Lane::Low, &channels, &[flow("a")], DEAR_LOOK, now);
        assert_eq!(horizon.flows(Lane::Low, &channels, now), None);
        horizon.saw_flows(Lane::Low, &channels, &[flow("a")], DEAR_LOOK, now);
        assert_eq!(horizon.flows(Lane::Low, &channels, now), Some(vec![flow("a")]));
        assert_eq!(horizon.flows(Lane::Low, &[Channel::Webhook], now), None);
        assert_eq!(horizon.flows(Lane::Low, &channels, now + DEAR_LOOK * REST), None);
        let longest = Duration::from_secs(3600);
        horizon.saw_flows(Lane::Low, &channels, &[flow("b")], longest, now);
        assert_eq!(horizon.flows(Lane::Low, &channels, now), Some(vec![flow("b")]));
        assert_eq!(horizon.flows(Lane::Low, &channels, now + REST_MOST), None);
        horizon.saw_flows(Lane::Low, &channels, &[], longest, now);
        assert_eq!(horizon.flows(Lane::Low, &channels, now), None);
        horizon.saw_next_due(None, longest, now);
        assert_eq!(horizon.next_due(now), None);
        horizon.saw_next_due(None, longest, now);
        assert_eq!(horizon.next_due(now), Some(None));
        assert_eq!(horizon.next_due(now + Duration::from_secs(1)), None);
    }
}
