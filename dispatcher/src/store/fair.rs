//! Whose deliveries are claimed next: a pure decision.
//!
//! Work of one tenant by one channel is a flow. What a claim may take is dealt out in turn, one at a time to each flow that
//! has work, so that a tenant with a million deliveries and one with a single delivery wait equally long for their next.

use std::collections::{BTreeMap, HashMap};

use common::ids::TenantId;

use super::ClaimRules;
use crate::model::{Channel, Micros};

/// Work of a tenant by a channel, in the lane at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) channel: Channel,
    pub(super) tenant: TenantId,
}

/// One claim's turns.
#[derive(Debug)]
pub(super) struct Turns {
    /// In the order in which they come next, and whether they may have more.
    flows: Vec<Flow>,
    /// How much more each tenant may hold; none: as much as there is.
    room: Option<HashMap<TenantId, usize>>,
}

impl Turns {
    /// Turns of the flows that are not paused and whose tenants have room, after the one that came last.
    pub(super) fn new(mut flows: Vec<Flow>, rules: &ClaimRules, now: Micros) -> Self {
        flows.retain(|flow| rules.pauses.of(&flow.tenant, flow.channel, now).is_none());
        flows.sort_unstable_by(|a, b| {
            let place = |flow: &Flow| {
                let over = rules.after.as_ref().is_some_and(|after| flow.tenant <= *after);
                (over, flow.tenant.clone(), flow.channel)
            };
            place(a).cmp(&place(b))
        });
        let room = rules.tenant_max.map(|most| {
            flows
                .iter()
                .map(|flow| {
                    let held = rules.held.get(&flow.tenant).copied().unwrap_or_default();
                    (flow.tenant.clone(), most.saturating_sub(held))
                })
                .collect()
        });
        Self { flows, room }
    }

    /// Deals out `count`, flows that get equally many together. Nothing: no flow has both work and room.
    pub(super) fn deal(&mut self, count: usize) -> Vec<(usize, Vec<Flow>)> {
        let mut dealt = vec![0_usize; self.flows.len()];
        let mut left = count;
        let mut moved = true;
        while left > 0 && moved {
            moved = false;
            for (flow, dealt) in self.flows.iter().zip(&mut dealt) {
                if left == 0 {
                    break;
                }
                if let Some(room) = self.room.as_mut().and_then(|room| room.get_mut(&flow.tenant)) {
                    if *room == 0 {
                        continue;
                    }
                    *room -= 1;
                }
                *dealt += 1;
                left -= 1;
                moved = true;
            }
        }
        let mut groups: BTreeMap<usize, Vec<Flow>> = BTreeMap::new();
        for (flow, dealt) in self.flows.iter().zip(dealt).filter(|(_, dealt)| *dealt > 0) {
            groups.entry(dealt).or_default().push(flow.clone());
        }
        groups.into_iter().collect()
    }

    /// A flow that was asked for `asked` had only `found`: it has no more, and its tenant's room is given back.
    pub(super) fn found(&mut self, flow: &Flow, asked: usize, found: usize) {
        if found >= asked {
            return;
        }
        self.flows.retain(|one| one != flow);
        if let Some(room) = self.room.as_mut().and_then(|room| room.get_mut(&flow.tenant)) {
            *room += asked - found;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Pause, Pauses};

    fn tenant(id: &str) -> TenantId {
        TenantId::new(id).unwrap()
    }

    fn flow(id: &str) -> Flow {
        Flow {
            channel: Channel::Email,
            tenant: tenant(id),
        }
    }

    /// What each flow may give, by tenant.
    fn dealt(turns: &mut Turns, count: usize) -> HashMap<String, usize> {
        let mut all = HashMap::new();
        for (each, flows) in turns.deal(count) {
            for flow in flows {
                all.insert(flow.tenant.to_string(), each);
            }
        }
        all
    }

    fn expect(pairs: &[(&str, usize)]) -> HashMap<String, usize> {
        pairs
            .iter()
            .map(|(id, count)| ((*id).to_owned(), *count))
            .collect()
    }

    #[test]
    fn tenants_take_turns_and_go_on_after_the_last() {
        let rules = ClaimRules {
            after: Some(tenant("a")),
            ..ClaimRules::default()
        };
        let mut turns = Turns::new(vec![flow("a"), flow("b"), flow("c")], &rules, Micros(0));
        assert_eq!(dealt(&mut turns, 2), expect(&[("b", 1), ("c", 1)]));
        assert_eq!(dealt(&mut turns, 7), expect(&[("a", 2), ("b", 3), ("c", 2)]));
    }

    #[test]
    fn what_one_does_not_have_goes_to_the_others() {
        let mut turns = Turns::new(vec![flow("a"), flow("b")], &ClaimRules::default(), Micros(0));
        assert_eq!(dealt(&mut turns, 10), expect(&[("a", 5), ("b", 5)]));
        turns.found(&flow("b"), 5, 1);
        assert_eq!(dealt(&mut turns, 4), expect(&[("a", 4)]));
    }

    #[test]
    fn a_tenant_holds_no_more_than_it_may_over_all_its_channels() {
        let rules = ClaimRules {
            tenant_max: Some(4),
            held: HashMap::from([(tenant("a"), 3)]),
            ..ClaimRules::default()
        };
        let webhook = Flow {
            channel: Channel::Webhook,
            ..flow("a")
        };
        let mut turns = Turns::new(vec![flow("a"), webhook, flow("b")], &rules, Micros(0));
        let all: usize = turns
            .deal(100)
            .iter()
            .map(|(each, flows)| each * flows.len())
            .sum();
        assert_eq!(all, 1 + 4);
        turns.found(&flow("b"), 4, 0);
        assert!(turns.deal(100).is_empty(), "a is full and b has nothing");
    }

    #[test]
    fn what_is_paused_has_no_turn() {
        let rules = ClaimRules {
            pauses: Arc::new(Pauses(vec![Pause {
                tenant: Some(tenant("a")),
                channel: None,
                reason: None,
                paused_by: String::new(),
                paused_at: Micros(0),
                ends_at: None,
            }])),
            ..ClaimRules::default()
        };
        let mut turns = Turns::new(vec![flow("a"), flow("b")], &rules, Micros(0));
        assert_eq!(dealt(&mut turns, 3), expect(&[("b", 3)]));
    }

    proptest! {
        #[test]
        fn never_more_than_asked_and_never_two_apart(count in 0usize..300, tenants in 1usize..40) {
            let flows = (0..tenants).map(|n| flow(&format!("t{n}"))).collect();
            let mut turns = Turns::new(flows, &ClaimRules::default(), Micros(0));
            let dealt = dealt(&mut turns, count);
            prop_assert_eq!(dealt.values().sum::<usize>(), count);
            let most = dealt.values().max().copied().unwrap_or_default();
            let least = if dealt.len() < tenants { 0 } else { dealt.values().min().copied().unwrap_or_default() };
            prop_assert!(most - least <= 1);
        }
    }
}
