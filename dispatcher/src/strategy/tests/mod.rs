//! Cases of both strategies, and what holds for every course of events.

mod escalate;
mod failover;
mod random;

use common::ids::{DeliveryId, Name};

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

fn on_call(unless: Reached) -> Vec<Step> {
    vec![
        step(Channel::InApp, 1),
        step(Channel::Realtime, 1),
        timed(Channel::Email, 5, unless),
        timed(Channel::Sms, 15, unless),
    ]
}

#[test]
fn chains_are_kept_as_they_are() {
    let (mut chain, _) = accepted(Strategy::Escalate, on_call(Reached::Read));
    end(&mut chain, 1, DeliveryState::Skipped, Some("nobody_online"));
    let text = serde_json::to_string(&chain).unwrap();
    assert_eq!(serde_json::from_str::<Chain>(&text).unwrap(), chain);
}
