//! Further channels in their time, unless a receipt comes.

use super::*;

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
