//! One channel after the other, until one delivers.

use super::*;

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
