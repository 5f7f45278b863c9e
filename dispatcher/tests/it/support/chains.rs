//! Notifications whose channels follow each other, as the API lays them out.

use std::time::Duration;

use common::ids::DeliveryId;
use dispatcher::model::{
    Chain, ChainId, ChainState, Channel, DeliveryState, Micros, NewDelivery, NewNotification, Reached, Step,
    StepDelivery, StepState, Strategy,
};

use super::name;

/// One attempt of an email, and then a webhook.
pub(crate) fn failing_over(new: NewNotification, user: &str) -> NewNotification {
    let steps = vec![
        step(Channel::Email, StepState::Started),
        step(Channel::Webhook, StepState::Pending),
    ];
    chained(new, user, Strategy::Failover, steps)
}

/// What is in the inbox, and after a time an email, unless it was read.
pub(crate) fn escalating(new: NewNotification, user: &str, after: Duration) -> NewNotification {
    let mut email = step(Channel::Email, StepState::Pending);
    email.after = i64::try_from(after.as_micros()).unwrap();
    email.unless = Some(Reached::Read);
    chained(new, user, Strategy::Escalate, vec![email])
}

/// With a chain of these steps; those that have begun are in the queue.
fn chained(
    mut new: NewNotification,
    user: &str,
    strategy: Strategy,
    mut steps: Vec<Step>,
) -> NewNotification {
    let id = ChainId::generate();
    for (number, step) in (1..).zip(&mut steps) {
        let delivery = StepDelivery {
            id: id.delivery(number),
            address: Some(format!("{user}@example.org")),
            max_attempts: if step.channel == Channel::Webhook { 50 } else { 1 },
            returns: 0,
            end: None,
        };
        if step.state == StepState::Started {
            step.started_at = Some(new.created_at);
            new.deliveries.push(queued(&new, delivery.id, step.channel, user));
        }
        step.deliveries.push(delivery);
    }
    new.strategy = strategy;
    new.chains.push(Chain {
        id,
        user: Some(name(user)),
        strategy,
        state: ChainState::Open,
        reason: None,
        reached: Reached::Nothing,
        begins_at: new.visible_at,
        expires_at: None,
        untold: false,
        steps,
    });
    new
}

fn queued(new: &NewNotification, id: DeliveryId, channel: Channel, user: &str) -> NewDelivery {
    NewDelivery {
        id,
        channel,
        user: Some(name(user)),
        address: Some(format!("{user}@example.org")),
        state: DeliveryState::Pending,
        reason: None,
        due_at: new.visible_at,
        lease_until: None,
        max_attempts: 1,
    }
}

fn step(channel: Channel, state: StepState) -> Step {
    Step {
        channel,
        after: 0,
        unless: None,
        attempts: 1,
        state,
        reason: None,
        started_at: None::<Micros>,
        ended_at: None,
        told: false,
        deliveries: Vec::new(),
    }
}
