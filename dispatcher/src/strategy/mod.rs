//! What follows what in a chain of channels: pure decisions. The store carries them out in the transaction of what
//! brought them about, so that a process that dies between an outcome and the next step has done both or neither.
//!
//! - **`failover`** takes the steps in order, one at a time. A step is left when all its deliveries have ended and none is
//!   delivered; the first that is delivered ends the chain. A row of the inbox is there from the beginning and delivers to
//!   nobody by itself: it ends a chain only where it is last. Who has seen the notification needs no further channel.
//! - **`escalate`** begins with the inbox and the frame, and takes each further step when its time has come, unless a receipt
//!   says by then that the notification has come so far as the step waits for. Only receipts and outcomes decide, never who
//!   seems to be online.
//!
//! What is on the way when a chain ends cannot be called back; what waits in the queue is stopped.

mod escalate;
mod failover;
#[cfg(test)]
mod tests;

use common::ids::DeliveryId;

use crate::model::{
    Chain, ChainState, DeliveryState, Micros, Reached, Reason, Step, StepDelivery, StepState, Strategy,
};

/// What happens to a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is accepted. Once, before anything else.
    Accepted,
    /// A delivery came to a terminal state.
    Ended {
        /// Which one.
        delivery: DeliveryId,
        /// A terminal one.
        state: DeliveryState,
        /// Why.
        reason: Option<Reason>,
    },
    /// A delivery is in the queue again, for another attempt.
    Returned {
        /// Which one.
        delivery: DeliveryId,
        /// Why; none where no attempt failed.
        reason: Option<Reason>,
    },
    /// A receipt of its user.
    Reached(Reached),
    /// [`Chain::next_at`] has come, or may have.
    Due,
    /// The notification is taken back.
    Withdrawn(Reason),
}

/// What has to be done with the queue, in the same transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Steps whose deliveries enter the queue now, by index, in order. Rows of the inbox are there already.
    pub(crate) begin: Vec<usize>,
    /// Deliveries to take out of the queue where they wait in it; of each that was, [`stopped`] is to be told.
    pub(crate) stop: Vec<DeliveryId>,
    /// Deliveries that have just come back into the queue and are given up, with the reason.
    pub(crate) leave: Vec<(DeliveryId, Reason)>,
}

/// Moves a chain. `now` is the present; the beginning counts from [`Chain::begins_at`].
pub(crate) fn apply(chain: &mut Chain, event: Event, now: Micros) -> Effects {
    let mut effects = Effects::default();
    match event {
        Event::Accepted => {
            let at = chain.begins_at;
            match chain.strategy {
                Strategy::Escalate => escalate::accepted(chain, at, &mut effects),
                Strategy::Failover | Strategy::All => failover::go_on(chain, 0, at, &mut effects),
            }
        }
        Event::Ended {
            delivery,
            state,
            reason,
        } => ended(chain, delivery, &(state, reason), now, &mut effects),
        Event::Returned { delivery, reason } => returned(chain, delivery, reason, now, &mut effects),
        Event::Reached(reached) => {
            if reached > chain.reached {
                chain.reached = reached;
            }
            if chain.is_open() {
                match chain.strategy {
                    Strategy::Escalate => escalate::reached(chain, now, &mut effects),
                    Strategy::Failover | Strategy::All => failover::reached(chain, now, &mut effects),
                }
            }
        }
        Event::Due => {
            if chain.is_open() && chain.strategy == Strategy::Escalate {
                escalate::due(chain, now, &mut effects);
            }
        }
        Event::Withdrawn(reason) => {
            if chain.is_open() {
                close(chain, ChainState::Cancelled, Some(reason), now, &mut effects);
            }
        }
    }
    effects
}

/// A delivery of [`Effects::stop`] was in the queue, and is out of it.
pub(crate) fn stopped(chain: &mut Chain, delivery: DeliveryId, now: Micros) {
    let reason = chain
        .reason
        .clone()
        .unwrap_or(Reason::Borrowed(chain.reached.as_str()));
    let mut none = Effects::default();
    let end = (DeliveryState::Cancelled, Some(reason));
    ended(chain, delivery, &end, now, &mut none);
    debug_assert!(none.begin.is_empty(), "what is stopped brings nothing forward");
}

fn ended(
    chain: &mut Chain,
    delivery: DeliveryId,
    end: &(DeliveryState, Option<Reason>),
    now: Micros,
    effects: &mut Effects,
) {
    let Some(index) = step_of(chain, delivery) else {
        return;
    };
    let step = &mut chain.steps[index];
    for one in step.deliveries.iter_mut().filter(|one| one.id == delivery) {
        one.end = Some(end.clone());
    }
    let verdict = verdict(step);
    if verdict == Verdict::Open {
        return;
    }
    // One that was given up, and is sent again by an operator, moves the chain by a success only.
    let moves = step.state == StepState::Started || verdict == Verdict::Delivered;
    conclude(step, now);
    if !chain.is_open() || !moves {
        return;
    }
    match chain.strategy {
        Strategy::Escalate => escalate::ended(chain, index, now, effects),
        Strategy::Failover | Strategy::All => failover::ended(chain, index, now, effects),
    }
}

fn returned(
    chain: &mut Chain,
    delivery: DeliveryId,
    reason: Option<Reason>,
    now: Micros,
    effects: &mut Effects,
) {
    let Some(index) = step_of(chain, delivery) else {
        return;
    };
    let has_end = |one: &StepDelivery| one.id == delivery && one.end.is_some();
    if chain.steps[index].deliveries.iter().any(has_end) {
        // An operator sends it again, whatever the chain has come to.
        return;
    }
    if !chain.is_open() {
        effects.stop.push(delivery);
        return;
    }
    if chain.strategy == Strategy::Escalate && escalate::is_needless(&chain.steps[index], chain.reached) {
        effects.stop.push(delivery);
        return;
    }
    let Some(reason) = reason else { return };
    let last = index + 1 == chain.steps.len();
    let step = &mut chain.steps[index];
    let attempts = step.attempts;
    let mut leaves = false;
    for one in step.deliveries.iter_mut().filter(|one| one.id == delivery) {
        one.returns = one.returns.saturating_add(1);
        leaves = one.returns >= attempts;
    }
    // Channels with a limit of attempts come here only below it. A frame has none, and a chain does not wait for its age.
    if chain.strategy == Strategy::Failover && !last && leaves {
        effects.leave.push((delivery, reason.clone()));
        let end = (DeliveryState::Dead, Some(reason));
        ended(chain, delivery, &end, now, effects);
    }
}

/// Ends a chain: what has not begun never will, and what waits in the queue is stopped.
fn close(chain: &mut Chain, state: ChainState, reason: Option<Reason>, now: Micros, effects: &mut Effects) {
    chain.state = state;
    for step in &mut chain.steps {
        match step.state {
            StepState::Pending => cancel(step, reason.clone(), now),
            StepState::Started => effects.stop.extend(on_the_way(step)),
            StepState::Delivered | StepState::Failed | StepState::Cancelled => {}
        }
    }
    chain.reason = reason;
}

fn cancel(step: &mut Step, reason: Option<Reason>, now: Micros) {
    step.state = StepState::Cancelled;
    step.reason = reason;
    step.ended_at = Some(now);
}

fn begin(step: &mut Step, now: Micros) {
    step.state = StepState::Started;
    step.started_at = Some(now);
}

/// What the ends of a step's deliveries amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// One is on the way.
    Open,
    Delivered,
    /// Taken back before it was sent.
    Cancelled(Option<Reason>),
    Failed(Option<Reason>),
}

fn verdict(step: &Step) -> Verdict {
    let mut failed = None;
    let mut cancelled = None;
    let mut delivered = false;
    for one in &step.deliveries {
        match &one.end {
            None => return Verdict::Open,
            Some((DeliveryState::Delivered, _)) => delivered = true,
            Some((DeliveryState::Cancelled, reason)) => cancelled = Some(reason.clone()),
            Some((_, reason)) => failed = Some(reason.clone()),
        }
    }
    match (delivered, cancelled, failed) {
        (true, ..) => Verdict::Delivered,
        (_, Some(reason), _) => Verdict::Cancelled(reason),
        (_, _, Some(reason)) => Verdict::Failed(reason),
        _ => Verdict::Failed(Some(Reason::Borrowed("no_address"))),
    }
}

/// Writes what a step's deliveries amount to.
fn conclude(step: &mut Step, now: Micros) {
    let (state, reason) = match verdict(step) {
        Verdict::Open => return,
        Verdict::Delivered => (StepState::Delivered, None),
        Verdict::Cancelled(reason) => (StepState::Cancelled, reason),
        Verdict::Failed(reason) => (StepState::Failed, reason),
    };
    step.state = state;
    step.reason = reason;
    step.ended_at = Some(now);
}

fn step_of(chain: &Chain, delivery: DeliveryId) -> Option<usize> {
    chain
        .steps
        .iter()
        .position(|step| step.deliveries.iter().any(|one| one.id == delivery))
}

fn on_the_way(step: &Step) -> impl Iterator<Item = DeliveryId> + '_ {
    step.deliveries
        .iter()
        .filter(|one| one.end.is_none())
        .map(|one| one.id)
}

fn has_expired(chain: &Chain, now: Micros) -> bool {
    chain.expires_at.is_some_and(|at| at <= now)
}
