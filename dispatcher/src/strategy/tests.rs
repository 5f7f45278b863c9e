//! Cases of both strategies, and what holds for every course of events.

use common::ids::{DeliveryId, Name};
use proptest::{prelude::*, strategy::Strategy as _};

use super::{Effects, Event, apply, stopped};
use crate::model::{
    Chain, ChainId, ChainState, Channel, DeliveryState, Micros, Reached, Reason, Step, StepDelivery,
    StepState, Strategy,
};

const START: Micros = Micros(1_000_000_000);
const MINUTE: i64 = 60_000_000;

fn step(channel: Channel, deliveries: usize) -> Step {
    let end = (channel == Channel::InApp).then_some((DeliveryState::Delivered, None));
    Step {
        channel,
        after: 0,
        unless: None,
        attempts: 1,
        state: StepState::Pending,
        reason: None,
        started_at: None,
        ended_at: None,
        told: false,
        deliveries: (0..deliveries)
            .map(|_| StepDelivery {
                id: DeliveryId::generate(),
                address: None,
                max_attempts: 1,
                returns: 0,
                end: end.clone(),
            })
            .collect(),
    }
}

fn timed(channel: Channel, minutes: i64, unless: Reached) -> Step {
    Step {
        after: minutes * MINUTE,
        unless: Some(unless),
        ..step(channel, 1)
    }
}

/// That can never be sent.
fn dead(channel: Channel, reason: &'static str) -> Step {
    let mut step = step(channel, 1);
    step.deliveries[0].end = Some((DeliveryState::Dead, Some(Reason::Borrowed(reason))));
    step
}

fn chain(strategy: Strategy, steps: Vec<Step>) -> Chain {
    Chain {
        id: ChainId::generate(),
        user: Some(Name::new("u1").unwrap()),
        strategy,
        state: ChainState::Open,
        reason: None,
        reached: Reached::Nothing,
        begins_at: START,
        expires_at: None,
        untold: false,
        steps,
    }
}

/// One that was accepted, and the steps that began with it.
fn accepted(strategy: Strategy, steps: Vec<Step>) -> (Chain, Vec<usize>) {
    let mut chain = chain(strategy, steps);
    let effects = apply(&mut chain, Event::Accepted, START);
    assert_eq!((effects.stop.len(), effects.leave.len()), (0, 0));
    (chain, effects.begin)
}

fn after(minutes: i64) -> Micros {
    Micros(START.0 + minutes * MINUTE)
}

fn end(chain: &mut Chain, index: usize, state: DeliveryState, reason: Option<&'static str>) -> Effects {
    let event = Event::Ended {
        delivery: chain.steps[index].deliveries[0].id,
        state,
        reason: reason.map(Reason::Borrowed),
    };
    apply(chain, event, after(1))
}

fn states(chain: &Chain) -> Vec<StepState> {
    chain.steps.iter().map(|step| step.state).collect()
}

#[test]
fn failover_goes_on_at_every_end_but_delivered() {
    use DeliveryState::{Dead, Delivered, Expired, Skipped, Suppressed};
    for (state, reason, told) in [
        (Dead, "attempts_exhausted", true),
        (Dead, "recipient_invalid", true),
        (Dead, "rejected", true),
        (Dead, "not_configured", true),
        (Dead, "unknown", true),
        (Expired, "expired", true),
        (Skipped, "nobody_online", false),
        (Suppressed, "preference", false),
    ] {
        let (mut chain, begun) = accepted(
            Strategy::Failover,
            vec![
                step(Channel::Email, 1),
                step(Channel::Webhook, 1),
                step(Channel::Sms, 1),
            ],
        );
        assert_eq!(begun, [0]);
        assert_eq!(end(&mut chain, 0, state, Some(reason)).begin, [1], "{reason}");
        assert_eq!(chain.steps[0].reason.as_deref(), Some(reason));
        assert_eq!(chain.untold, told, "{reason}");
        assert_eq!(end(&mut chain, 1, Delivered, None), Effects::default());
        assert_eq!(
            states(&chain),
            [StepState::Failed, StepState::Delivered, StepState::Cancelled]
        );
        assert_eq!(
            (chain.state, chain.reason.as_deref()),
            (ChainState::Done, Some("delivered"))
        );
    }
}

#[test]
fn failover_passes_over_what_can_never_be_sent() {
    let (chain, begun) = accepted(
        Strategy::Failover,
        vec![
            dead(Channel::Sms, "not_configured"),
            dead(Channel::Email, "no_address"),
            step(Channel::Webhook, 1),
        ],
    );
    assert_eq!(begun, [0, 1, 2], "their rows say why");
    assert!(chain.is_open() && chain.untold);
    let (chain, begun) = accepted(Strategy::Failover, vec![dead(Channel::Sms, "not_configured")]);
    assert_eq!(begun, [0]);
    assert_eq!(chain.state, ChainState::Exhausted);
    assert_eq!(chain.next_at(), None);
}

#[test]
fn the_inbox_ends_a_failover_only_where_it_is_last() {
    let (chain, begun) = accepted(
        Strategy::Failover,
        vec![step(Channel::InApp, 1), step(Channel::Email, 1)],
    );
    assert_eq!(begun, [0, 1]);
    assert_eq!(states(&chain), [StepState::Delivered, StepState::Started]);
    let (mut chain, begun) = accepted(
        Strategy::Failover,
        vec![step(Channel::Email, 1), step(Channel::InApp, 1)],
    );
    assert_eq!(begun, [0]);
    end(&mut chain, 0, DeliveryState::Dead, Some("rejected"));
    assert_eq!(chain.state, ChainState::Done);
}

#[test]
fn a_step_with_several_addresses_is_left_when_all_failed() {
    let (mut chain, _) = accepted(
        Strategy::Failover,
        vec![step(Channel::Email, 2), step(Channel::Webhook, 1)],
    );
    assert_eq!(
        end(&mut chain, 0, DeliveryState::Dead, Some("rejected")),
        Effects::default()
    );
    let event = Event::Ended {
        delivery: chain.steps[0].deliveries[1].id,
        state: DeliveryState::Delivered,
        reason: None,
    };
    apply(&mut chain, event, after(1));
    assert_eq!(chain.state, ChainState::Done);
}

#[test]
fn a_frame_is_left_after_its_attempts_and_not_after_its_age() {
    let mut frame = step(Channel::Realtime, 1);
    frame.attempts = 2;
    let (mut chain, _) = accepted(Strategy::Failover, vec![frame, step(Channel::Email, 1)]);
    let returned = |chain: &Chain, index: usize| Event::Returned {
        delivery: chain.steps[index].deliveries[0].id,
        reason: Some(Reason::Borrowed("bus_unavailable")),
    };
    let event = returned(&chain, 0);
    assert_eq!(apply(&mut chain, event.clone(), after(1)), Effects::default());
    let effects = apply(&mut chain, event, after(1));
    assert_eq!(effects.begin, [1]);
    assert_eq!(effects.leave.len(), 1);
    // The last one has nobody behind it.
    let event = returned(&chain, 1);
    assert_eq!(apply(&mut chain, event, after(1)), Effects::default());
}

#[test]
fn what_is_seen_needs_no_further_channel() {
    for (reached, closes) in [
        (Reached::Delivered, false),
        (Reached::Seen, true),
        (Reached::Read, true),
    ] {
        let (mut chain, _) = accepted(
            Strategy::Failover,
            vec![step(Channel::Email, 1), step(Channel::Sms, 1)],
        );
        let effects = apply(&mut chain, Event::Reached(reached), after(1));
        assert_eq!(!chain.is_open(), closes);
        assert_eq!(effects.stop.len(), usize::from(closes));
        if closes {
            assert_eq!(chain.steps[1].state, StepState::Cancelled);
            assert_eq!(chain.steps[1].reason.as_deref(), Some(reached.as_str()));
            // What was being sent when it was read fails: nothing follows, and it is not tried again.
            let event = Event::Returned {
                delivery: chain.steps[0].deliveries[0].id,
                reason: Some(Reason::Borrowed("retry")),
            };
            let effects = apply(&mut chain, event, after(1));
            assert_eq!(effects.stop, [chain.steps[0].deliveries[0].id]);
            let delivery = chain.steps[0].deliveries[0].id;
            stopped(&mut chain, delivery, after(1));
            assert_eq!(chain.steps[0].state, StepState::Cancelled);
        }
    }
}

#[test]
fn nothing_follows_what_was_taken_back_or_has_expired() {
    let steps = || vec![step(Channel::Email, 1), step(Channel::Sms, 1)];
    let (mut chain, _) = accepted(Strategy::Failover, steps());
    apply(
        &mut chain,
        Event::Withdrawn(Reason::Borrowed("withdrawn")),
        after(1),
    );
    assert_eq!(chain.state, ChainState::Cancelled);
    let (mut chain, _) = accepted(Strategy::Failover, steps());
    end(&mut chain, 0, DeliveryState::Cancelled, Some("withdrawn"));
    assert_eq!(chain.state, ChainState::Cancelled);
    let (mut chain, _) = accepted(Strategy::Failover, steps());
    chain.expires_at = Some(after(1));
    end(&mut chain, 0, DeliveryState::Dead, Some("rejected"));
    assert_eq!(chain.state, ChainState::Expired);
    assert_eq!(chain.steps[1].state, StepState::Cancelled);
    let mut chain = self::chain(
        Strategy::Escalate,
        vec![step(Channel::InApp, 1), timed(Channel::Email, 5, Reached::Read)],
    );
    chain.expires_at = Some(after(2));
    apply(&mut chain, Event::Accepted, START);
    assert_eq!(chain.next_at(), Some(after(2)), "it is told when it is over");
    assert_eq!(apply(&mut chain, Event::Due, after(2)), Effects::default());
    assert_eq!(chain.state, ChainState::Expired);
}

#[test]
fn an_operators_success_ends_a_failover() {
    let (mut chain, _) = accepted(
        Strategy::Failover,
        vec![
            step(Channel::Email, 1),
            step(Channel::Sms, 1),
            step(Channel::Webhook, 1),
        ],
    );
    end(&mut chain, 0, DeliveryState::Dead, Some("rejected"));
    assert_eq!(
        end(&mut chain, 0, DeliveryState::Dead, Some("rejected")),
        Effects::default(),
        "a failure that is told again moves nothing"
    );
    let again = Event::Returned {
        delivery: chain.steps[0].deliveries[0].id,
        reason: Some(Reason::Borrowed("retry")),
    };
    assert_eq!(
        apply(&mut chain.clone(), again.clone(), after(1)),
        Effects::default()
    );
    let effects = end(&mut chain, 0, DeliveryState::Delivered, None);
    assert_eq!(
        apply(&mut chain, again, after(1)),
        Effects::default(),
        "nor does it stop at the end"
    );
    assert_eq!(effects.stop, [chain.steps[1].deliveries[0].id]);
    assert_eq!(chain.state, ChainState::Done);
}

fn on_call(unless: Reached) -> Vec<Step> {
    vec![
        step(Channel::InApp, 1),
        step(Channel::Realtime, 1),
        timed(Channel::Email, 5, unless),
        timed(Channel::Sms, 15, unless),
    ]
}

#[test]
fn escalate_takes_the_next_step_in_its_time() {
    let (mut chain, begun) = accepted(Strategy::Escalate, on_call(Reached::Read));
    assert_eq!(begun, [0, 1]);
    assert_eq!(chain.next_at(), Some(after(5)));
    // Nobody is online: that brings nothing forward.
    assert_eq!(
        end(&mut chain, 1, DeliveryState::Skipped, Some("nobody_online")),
        Effects::default()
    );
    assert_eq!(apply(&mut chain, Event::Due, after(4)), Effects::default());
    assert_eq!(apply(&mut chain, Event::Due, after(5)).begin, [2]);
    assert_eq!(apply(&mut chain, Event::Due, after(5)), Effects::default());
    end(&mut chain, 2, DeliveryState::Delivered, None);
    assert_eq!(apply(&mut chain, Event::Due, after(15)).begin, [3]);
    end(&mut chain, 3, DeliveryState::Dead, Some("rejected"));
    assert_eq!(chain.state, ChainState::Exhausted);
    assert_eq!(chain.next_at(), None);
}

#[test]
fn a_late_step_puts_off_those_behind_it() {
    let (mut chain, _) = accepted(Strategy::Escalate, on_call(Reached::Read));
    assert_eq!(apply(&mut chain, Event::Due, after(60)).begin, [2]);
    assert_eq!(chain.next_at(), Some(after(70)));
}

#[test]
fn a_receipt_ends_what_waits_for_it() {
    for (unless, reached, ends) in [
        (Reached::Delivered, Reached::Delivered, true),
        (Reached::Read, Reached::Delivered, false),
        (Reached::Read, Reached::Seen, false),
        (Reached::Seen, Reached::Read, true),
        (Reached::Acknowledged, Reached::Read, false),
        (Reached::Acknowledged, Reached::Acknowledged, true),
    ] {
        let (mut chain, _) = accepted(Strategy::Escalate, on_call(unless));
        end(&mut chain, 1, DeliveryState::Skipped, None);
        apply(&mut chain, Event::Reached(reached), after(1));
        assert_eq!(chain.state == ChainState::Done, ends, "{unless:?} {reached:?}");
        assert_eq!(chain.next_at().is_none(), ends);
    }
}

#[test]
fn a_frame_that_arrived_is_delivered() {
    let (mut chain, _) = accepted(Strategy::Escalate, on_call(Reached::Delivered));
    end(&mut chain, 1, DeliveryState::Delivered, None);
    assert_eq!(
        (chain.state, chain.reason.as_deref()),
        (ChainState::Done, Some("delivered"))
    );
}

#[test]
fn a_receipt_stops_what_waits_in_the_queue_and_not_what_is_on_the_way() {
    let (mut chain, _) = accepted(Strategy::Escalate, on_call(Reached::Read));
    end(&mut chain, 1, DeliveryState::Skipped, None);
    apply(&mut chain, Event::Due, after(5));
    let email = chain.steps[2].deliveries[0].id;
    let effects = apply(&mut chain, Event::Reached(Reached::Read), after(6));
    assert_eq!(effects.stop, [email]);
    assert!(chain.is_open(), "the email may be on the way");
    let mut sent = chain.clone();
    end(&mut sent, 2, DeliveryState::Delivered, None);
    assert_eq!(
        (sent.state, sent.steps[2].state),
        (ChainState::Done, StepState::Delivered)
    );
    stopped(&mut chain, email, after(6));
    assert_eq!(
        (chain.state, chain.steps[2].state),
        (ChainState::Done, StepState::Cancelled)
    );
    assert_eq!(chain.steps[2].reason.as_deref(), Some("read"));
}

#[test]
fn chains_are_kept_as_they_are() {
    let (mut chain, _) = accepted(Strategy::Escalate, on_call(Reached::Read));
    end(&mut chain, 1, DeliveryState::Skipped, Some("nobody_online"));
    let text = serde_json::to_string(&chain).unwrap();
    assert_eq!(serde_json::from_str::<Chain>(&text).unwrap(), chain);
}

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
