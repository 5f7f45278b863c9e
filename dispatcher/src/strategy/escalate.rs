//! `escalate`: the next step when its time has come, unless a receipt came first.

use super::{Effects, begin, cancel, close, conclude, has_expired, on_the_way};
use crate::model::{Chain, ChainState, Channel, Micros, Reached, Reason, Step, StepState};

/// Begins the steps that wait for nothing.
pub(super) fn accepted(chain: &mut Chain, now: Micros, effects: &mut Effects) {
    start(chain, now, effects, |step| step.unless.is_none());
    finish(chain, now, effects);
}

/// Begins the steps whose time has come, and passes over those that are not needed any more.
pub(super) fn due(chain: &mut Chain, now: Micros, effects: &mut Effects) {
    if has_expired(chain, now) {
        let reason = Some(Reason::Borrowed("expired"));
        return close(chain, ChainState::Expired, reason, now, effects);
    }
    pass_over(chain, now);
    let since = now.0.saturating_sub(chain.begins_at.0);
    start(chain, now, effects, |step| step.after <= since);
    finish(chain, now, effects);
}

/// A receipt came: what waits for no more than that never begins, and what of it waits in the queue is stopped.
pub(super) fn reached(chain: &mut Chain, now: Micros, effects: &mut Effects) {
    pass_over(chain, now);
    for step in &chain.steps {
        if step.state == StepState::Started && is_needless(step, chain.reached) {
            effects.stop.extend(on_the_way(step));
        }
    }
    finish(chain, now, effects);
}

/// A step that was on the way is over. What a channel took counts as delivered; a row of the inbox is not told to anybody.
pub(super) fn ended(chain: &mut Chain, index: usize, now: Micros, effects: &mut Effects) {
    let step = &chain.steps[index];
    if step.state == StepState::Delivered && step.channel != Channel::InApp {
        chain.reached = chain.reached.max(Reached::Delivered);
        return reached(chain, now, effects);
    }
    finish(chain, now, effects);
}

/// Whether a step would not have begun, had the receipts been there.
pub(super) fn is_needless(step: &Step, reached: Reached) -> bool {
    step.unless.is_some_and(|unless| unless <= reached)
}

fn pass_over(chain: &mut Chain, now: Micros) {
    let reached = chain.reached;
    for step in &mut chain.steps {
        if step.state == StepState::Pending && is_needless(step, reached) {
            cancel(step, Some(Reason::Borrowed(reached.as_str())), now);
        }
    }
}

/// A step that begins late puts off those behind it: each has its time after the one before.
fn start(chain: &mut Chain, now: Micros, effects: &mut Effects, is_due: impl Fn(&Step) -> bool) {
    let since = now.0.saturating_sub(chain.begins_at.0);
    let mut late = 0;
    for (index, step) in chain.steps.iter_mut().enumerate() {
        if step.state != StepState::Pending {
            continue;
        }
        step.after = step.after.saturating_add(late);
        if is_due(step) {
            late += since.saturating_sub(step.after).max(0);
            begin(step, now);
            conclude(step, now);
            effects.begin.push(index);
        }
    }
}

/// Ends the chain when no step is still to come or on the way.
fn finish(chain: &mut Chain, now: Micros, effects: &mut Effects) {
    let over = |step: &Step| !matches!(step.state, StepState::Pending | StepState::Started);
    if !chain.is_open() || !chain.steps.iter().all(over) {
        return;
    }
    let goal = chain.steps.iter().filter_map(|step| step.unless).max();
    let (state, reason) = if chain.reached >= goal.unwrap_or(Reached::Delivered) {
        (ChainState::Done, chain.reached.as_str())
    } else {
        (ChainState::Exhausted, "exhausted")
    };
    close(chain, state, Some(Reason::Borrowed(reason)), now, effects);
}
