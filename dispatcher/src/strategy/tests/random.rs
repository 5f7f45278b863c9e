//! Any course of events.

use common::ids::DeliveryId;
use proptest::{prelude::*, strategy::Strategy as _};

use super::{Effects, Event, MINUTE, START, after, apply, chain, step, stopped, timed};
use crate::model::{Chain, Channel, DeliveryState, Micros, Reached, Reason, Step, StepState, Strategy};

#[derive(Debug, Clone)]
enum Move {
    /// Ends one of the deliveries on the way, by number.
    End(usize, DeliveryState),
    Return(usize),
    Reached(Reached),
    Wait(i64),
    Withdraw,
}

fn moves() -> impl proptest::strategy::Strategy<Value = Move> {
    let ends = prop::sample::select(vec![
        DeliveryState::Delivered,
        DeliveryState::Skipped,
        DeliveryState::Expired,
        DeliveryState::Dead,
        DeliveryState::Dead,
        DeliveryState::Suppressed,
    ]);
    let levels = prop::sample::select(vec![
        Reached::Delivered,
        Reached::Seen,
        Reached::Read,
        Reached::Acknowledged,
    ]);
    prop_oneof![
        8 => (any::<usize>(), ends).prop_map(|(which, state)| Move::End(which, state)),
        4 => any::<usize>().prop_map(Move::Return),
        2 => levels.prop_map(Move::Reached),
        4 => (0..20i64).prop_map(Move::Wait),
        1 => Just(Move::Withdraw),
    ]
}

fn any_chain() -> impl proptest::strategy::Strategy<Value = Chain> {
    let kinds = prop::sample::subsequence(
        vec![
            Channel::InApp,
            Channel::Realtime,
            Channel::Email,
            Channel::Sms,
            Channel::Webhook,
        ],
        1..=5,
    )
    .prop_shuffle();
    let levels = prop::sample::select(vec![Reached::Delivered, Reached::Seen, Reached::Read]);
    (
        kinds,
        any::<bool>(),
        0..4usize,
        prop::option::of(0..60i64),
        levels,
        1..3u32,
    )
        .prop_map(|(kinds, failover, addresses, expires, unless, attempts)| {
            let mut gap = 0;
            let mut steps: Vec<Step> = kinds
                .into_iter()
                .map(|channel| {
                    let mut step = match (failover, channel.is_external()) {
                        (true, true) => step(channel, addresses),
                        (false, true) => {
                            gap += 5;
                            timed(channel, gap, unless)
                        }
                        (_, false) => step(channel, 1),
                    };
                    step.attempts = attempts;
                    step
                })
                .collect();
            if !failover {
                steps.sort_by_key(|step| step.after);
            }
            let strategy = if failover {
                Strategy::Failover
            } else {
                Strategy::Escalate
            };
            let mut chain = chain(strategy, steps);
            chain.expires_at = expires.map(after);
            chain
        })
}

/// The queue as a chain sees it: what it made and what has not ended.
#[derive(Default)]
struct Queue {
    live: Vec<DeliveryId>,
    sent: Vec<DeliveryId>,
}

impl Queue {
    fn carry_out(&mut self, chain: &mut Chain, effects: &Effects, now: Micros) {
        for index in &effects.begin {
            let waits = chain.steps[*index]
                .deliveries
                .iter()
                .filter(|one| one.end.is_none());
            self.live.extend(waits.map(|one| one.id));
        }
        for (delivery, _) in &effects.leave {
            self.live.retain(|one| one != delivery);
        }
        for delivery in &effects.stop {
            if self.live.contains(delivery) {
                self.live.retain(|one| one != delivery);
                stopped(chain, *delivery, now);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_chain_ends_and_takes_its_steps_in_order(
        mut chain in any_chain(),
        course in prop::collection::vec(moves(), 0..40),
    ) {
        let mut queue = Queue::default();
        let mut now = START;
        let effects = apply(&mut chain, Event::Accepted, now);
        queue.carry_out(&mut chain, &effects, now);
        // After the course time goes on, and what is on the way fails.
        let rest = (0..20).flat_map(|_| [Move::Wait(20), Move::End(0, DeliveryState::Dead)]);
        for one in course.into_iter().chain(rest) {
            let was_open = chain.is_open();
            let before = chain.clone();
            let event = match one {
                Move::End(which, state) => {
                    if queue.live.is_empty() { continue }
                    let delivery = queue.live.remove(which % queue.live.len());
                    prop_assert!(!queue.sent.contains(&delivery), "each ends once");
                    queue.sent.push(delivery);
                    Event::Ended { delivery, state, reason: None }
                }
                Move::Return(which) => {
                    if queue.live.is_empty() { continue }
                    let delivery = queue.live[which % queue.live.len()];
                    Event::Returned { delivery, reason: Some(Reason::Borrowed("retry")) }
                }
                Move::Reached(level) => Event::Reached(level),
                Move::Wait(minutes) => {
                    now = Micros(now.0 + minutes * MINUTE);
                    if chain.next_at().is_none_or(|at| at > now) { continue }
                    Event::Due
                }
                Move::Withdraw => Event::Withdrawn(Reason::Borrowed("withdrawn")),
            };
            let effects = apply(&mut chain, event, now);
            queue.carry_out(&mut chain, &effects, now);
            prop_assert!(was_open || effects.begin.is_empty(), "nothing follows the end");
            for index in &effects.begin {
                prop_assert_eq!(before.steps[*index].state, StepState::Pending, "a step begins once");
            }
            for (step, old) in chain.steps.iter().zip(&before.steps) {
                for one in &step.deliveries {
                    let stopped = matches!(one.end, Some((DeliveryState::Cancelled, _)));
                    let never = step.started_at.is_none() || stopped;
                    prop_assert!(!(never && queue.sent.contains(&one.id)), "cancelled and sent");
                }
                prop_assert!(
                    step.state != StepState::Pending || old.state == StepState::Pending,
                    "nothing is taken back"
                );
            }
            let started = |chain: &Chain| {
                chain.steps.iter().filter(|step| step.state == StepState::Started).count()
            };
            if chain.strategy == Strategy::Failover {
                prop_assert!(started(&chain) <= 1, "one at a time");
            }
            if !chain.is_open() {
                prop_assert_eq!(chain.next_at(), None);
                prop_assert!(chain.steps.iter().all(|step| step.state != StepState::Pending));
            }
        }
        prop_assert!(!chain.is_open(), "it ends: {:?}", chain);
        prop_assert!(queue.live.is_empty());
    }
}
