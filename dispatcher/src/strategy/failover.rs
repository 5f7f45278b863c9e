//! `failover`: one channel after the other, until one delivers.

use super::{Effects, Verdict, begin, close, conclude, has_expired, verdict};
use crate::model::{Chain, ChainState, Channel, DeliveryState, Micros, Reached, Reason, Step};

/// Takes the steps from `index` on, up to the first that is not over as it begins.
pub(super) fn go_on(chain: &mut Chain, index: usize, now: Micros, effects: &mut Effects) {
    let last = chain.steps.len().saturating_sub(1);
    for index in index..chain.steps.len() {
        if has_expired(chain, now) {
            return close(
                chain,
                ChainState::Expired,
                Some(Reason::Borrowed("expired")),
                now,
                effects,
            );
        }
        let step = &mut chain.steps[index];
        begin(step, now);
        effects.begin.push(index);
        let verdict = verdict(step);
        conclude(step, now);
        match verdict {
            Verdict::Open => return,
            // Nobody is told by a row of the inbox, so the chain goes on behind it.
            Verdict::Delivered if step.channel == Channel::InApp && index < last => {}
            Verdict::Delivered => return done(chain, now, effects),
            Verdict::Cancelled(_) | Verdict::Failed(_) => chain.untold |= is_a_fault(&chain.steps[index]),
        }
    }
    close(
        chain,
        ChainState::Exhausted,
        Some(Reason::Borrowed("exhausted")),
        now,
        effects,
    );
}

/// A step that was on the way is over.
pub(super) fn ended(chain: &mut Chain, index: usize, now: Micros, effects: &mut Effects) {
    match verdict(&chain.steps[index]) {
        Verdict::Open => {}
        Verdict::Delivered => done(chain, now, effects),
        Verdict::Cancelled(reason) => close(chain, ChainState::Cancelled, reason, now, effects),
        Verdict::Failed(_) => {
            chain.untold |= is_a_fault(&chain.steps[index]);
            go_on(chain, index + 1, now, effects);
        }
    }
}

/// Who has seen it needs no further channel. That a device has it is said by the end of the frame's own delivery, in its time.
pub(super) fn reached(chain: &mut Chain, now: Micros, effects: &mut Effects) {
    if chain.reached >= Reached::Seen {
        let reason = Reason::Borrowed(chain.reached.as_str());
        close(chain, ChainState::Done, Some(reason), now, effects);
    }
}

fn done(chain: &mut Chain, now: Micros, effects: &mut Effects) {
    let reason = Reason::Borrowed(Reached::Delivered.as_str());
    close(chain, ChainState::Done, Some(reason), now, effects);
}

/// Whether administrators should know: that nobody is online, that policy said no, or that a contact has no address is no
/// fault of a channel.
fn is_a_fault(step: &Step) -> bool {
    step.deliveries.iter().any(|one| match &one.end {
        Some((DeliveryState::Dead | DeliveryState::Expired, reason)) => {
            reason.as_deref() != Some("no_address")
        }
        _ => false,
    })
}
