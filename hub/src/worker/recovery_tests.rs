use bytes::Bytes;
use common::{
    ids::MessageId,
    message::{FrameKind, Header, Message},
    topic::TopicKey,
};

use super::*;

fn message(epoch: u64, offset: u64) -> Arc<Message> {
    let header = Header::new(MessageId::generate(), FrameKind::Message);
    let check = header.id.check();
    Arc::new(Message {
        key: TopicKey::everyone(),
        position: (offset > 0).then_some(Position { epoch, offset, check }),
        header,
        payload: Bytes::from_static(b"{}"),
    })
}

/// Reading begins one before what stands here, so that this is read as well and can be compared.
const HEAL_0: Compared = Compared {
    resync: None,
    heal: Some(0),
    renew: None,
};

fn outgoing(message: &Arc<Message>) -> Arc<Outgoing> {
    Arc::new(Outgoing::new(Arc::clone(message)))
}

fn head(message: &Arc<Message>) -> Head {
    let at = message.position.unwrap();
    Head {
        epoch: at.epoch,
        offset: at.offset,
        id: Some(message.header.id),
    }
}

fn offsets(messages: &[Arc<Outgoing>]) -> Vec<u64> {
    messages
        .iter()
        .map(|message| message.message.position.unwrap().offset)
        .collect()
}

#[test]
fn a_gap_is_read_and_handed_on_in_order() {
    let messages: Vec<_> = (1..=6).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[0]));
    assert!(matches!(
        progress.arrived(&outgoing(&messages[1])),
        Arrival::Deliver
    ));
    assert!(
        matches!(progress.arrived(&outgoing(&messages[1])), Arrival::Nothing),
        "a repeat"
    );
    assert!(matches!(
        progress.arrived(&outgoing(&messages[4])),
        Arrival::Heal(1)
    ));
    assert!(
        matches!(progress.arrived(&outgoing(&messages[5])), Arrival::Nothing),
        "held"
    );
    let history = History {
        head: head(&messages[4]),
        messages: messages[1..5].to_vec(),
        superseded_after: None,
    };
    let healed = progress.heal(&history);
    assert_eq!(offsets(&healed.deliver), [3, 4, 5, 6]);
    assert!(healed.resync.is_none() && healed.again.is_none());
    assert_eq!(progress.position().unwrap().offset, 6);
}

#[test]
fn what_history_lost_is_a_resync() {
    let messages: Vec<_> = (1..=6).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[0]));
    assert!(matches!(
        progress.arrived(&outgoing(&messages[5])),
        Arrival::Heal(0)
    ));
    let healed = progress.heal(&History {
        head: head(&messages[5]),
        messages: messages[4..].to_vec(),
        superseded_after: None,
    });
    assert!(healed.resync.is_some());
    assert_eq!(offsets(&healed.deliver), [5, 6]);
    // Nothing left at all.
    let mut progress = Progress::confirmed(head(&messages[0]));
    assert_eq!(progress.compare(head(&messages[0]), head(&messages[3])), HEAL_0);
    let healed = progress.heal(&History {
        head: head(&messages[3]),
        messages: vec![],
        superseded_after: None,
    });
    assert!(healed.resync.is_some() && healed.again.is_none());
    assert_eq!(progress.position().unwrap().offset, 4);
}

#[test]
fn a_limited_read_goes_on() {
    let messages: Vec<_> = (1..=5).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[0]));
    assert_eq!(progress.compare(head(&messages[0]), head(&messages[4])), HEAL_0);
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: messages[..3].to_vec(),
        superseded_after: None,
    });
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![2, 3], Some(2)));
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: messages[2..].to_vec(),
        superseded_after: None,
    });
    assert_eq!(
        (offsets(&healed.deliver), healed.again, healed.resync),
        (vec![4, 5], None, None)
    );
}

/// Asks for a new epoch, and what it brings.
fn renew(progress: &mut Progress, healed: &Healed) -> Healed {
    let last = healed.renew.unwrap();
    progress.renewed(Head {
        epoch: last.epoch + 1,
        offset: last.offset,
        id: None,
    })
}

#[test]
fn a_new_epoch_is_a_resync() {
    let first = message(1, 3);
    let mut progress = Progress::confirmed(head(&first));
    assert!(matches!(
        progress.arrived(&outgoing(&message(2, 1))),
        Arrival::Resync
    ));
    assert_eq!(progress.position().unwrap().epoch, 2);
    let mut progress = Progress::confirmed(head(&first));
    let newer = Head {
        epoch: 2,
        ..head(&first)
    };
    let compared = progress.compare(head(&first), newer);
    assert!(compared.resync.is_some() && compared.heal.is_none() && compared.renew.is_none());
}

#[test]
fn an_end_that_was_lost_begins_a_new_epoch() {
    let first = message(1, 3);
    for lost in [
        head(&message(1, 3)),
        Head {
            offset: 2,
            ..head(&first)
        },
    ] {
        let mut progress = Progress::confirmed(head(&first));
        let compared = progress.compare(head(&first), lost);
        assert_eq!((compared.renew, compared.resync), (Some(head(&first)), None));
        assert_eq!(
            progress.compare(head(&first), lost),
            Compared::default(),
            "it is being healed"
        );
        let healed = progress.renewed(Head {
            epoch: 2,
            offset: 3,
            id: None,
        });
        assert!(healed.resync.is_some());
        assert_eq!(progress.live().unwrap().epoch, 2);
    }
}

#[test]
fn new_messages_are_no_repeats_because_their_offsets_were_given_before() {
    let messages: Vec<_> = (1..=6).map(|offset| message(1, offset)).collect();
    // 5 and 6 were lost with a primary; 5 was given again.
    let other = message(1, 5);
    let history = History {
        head: head(&other),
        messages: vec![Arc::clone(&messages[3]), Arc::clone(&other)],
        superseded_after: None,
    };
    let mut progress = Progress::confirmed(head(&messages[5]));
    assert!(matches!(progress.arrived(&outgoing(&other)), Arrival::Heal(4)));
    let healed = progress.heal(&history);
    assert!(healed.deliver.is_empty() && healed.renew == Some(head(&messages[5])));
    let new_epoch = message(2, 7);
    assert!(matches!(
        progress.arrived(&outgoing(&new_epoch)),
        Arrival::Nothing
    ));
    let healed = renew(&mut progress, &healed);
    assert!(
        healed.ended.is_empty(),
        "it may have been a repeat: the resync stands for it"
    );
    assert!(healed.resync.is_some());
    assert_eq!(offsets(&healed.deliver), [7]);
    assert_eq!(progress.live(), Some(head(&new_epoch)));
    // The same where the head has passed what was read.
    let seventh = message(1, 7);
    let again: Vec<_> = [5, 6].map(|offset| message(1, offset)).to_vec();
    let mut progress = Progress::confirmed(head(&messages[5]));
    assert!(matches!(progress.arrived(&outgoing(&seventh)), Arrival::Deliver));
    let mut progress = Progress::confirmed(head(&messages[5]));
    assert!(matches!(progress.arrived(&outgoing(&again[0])), Arrival::Heal(4)));
    let healed = progress.heal(&History {
        head: head(&seventh),
        messages: vec![Arc::clone(&again[0]), Arc::clone(&again[1]), seventh],
        superseded_after: None,
    });
    assert!(healed.renew.is_some() && healed.deliver.is_empty());
}

#[test]
fn repeats_are_compared_once_and_cost_no_more() {
    let messages: Vec<_> = (1..=6).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[4]));
    assert!(matches!(
        progress.arrived(&outgoing(&messages[1])),
        Arrival::Heal(1)
    ));
    for message in &messages[2..] {
        assert!(matches!(progress.arrived(&outgoing(message)), Arrival::Nothing));
    }
    let history = |from: usize, to: usize| History {
        head: head(&messages[5]),
        messages: messages[from..to].to_vec(),
        superseded_after: None,
    };
    let healed = progress.heal(&history(1, 3));
    assert_eq!((healed.again, healed.resync), (Some(3), None), "a limited read");
    let healed = progress.heal(&history(3, 6));
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![6], None));
    assert!(healed.resync.is_none() && healed.renew.is_none());
    assert_eq!(progress.live(), Some(head(&messages[5])));
}

#[test]
fn a_bus_that_says_that_nothing_is_lost_is_read_again() {
    let first = message(1, 3);
    let mut progress = Progress::confirmed(head(&first));
    progress.compare(
        head(&first),
        Head {
            offset: 2,
            ..head(&first)
        },
    );
    let healed = progress.renewed(head(&first));
    assert_eq!((healed.again, healed.resync), (Some(2), None));
    let healed = progress.heal(&History {
        head: head(&first),
        messages: vec![Arc::clone(&first)],
        superseded_after: None,
    });
    assert!(healed.resync.is_none() && progress.live() == Some(head(&first)));
}

#[test]
fn an_answer_that_is_older_than_what_arrived_since_is_no_loss() {
    let messages: Vec<_> = (1..=3).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[0]));
    let asked = progress.live().unwrap();
    for message in &messages[1..] {
        assert!(matches!(progress.arrived(&outgoing(message)), Arrival::Deliver));
    }
    assert_eq!(progress.compare(asked, head(&messages[1])), Compared::default());
    assert_eq!(progress.position().unwrap().offset, 3);
    let newer = message(2, 1);
    assert!(matches!(progress.arrived(&outgoing(&newer)), Arrival::Resync));
    assert_eq!(
        progress.compare(asked, head(&messages[2])),
        Compared::default(),
        "from before the epoch's end"
    );
    // Asked in the old epoch, answered in the new one, whose offsets are not those of the old.
    let asked = Head { offset: 9, ..asked };
    assert_eq!(progress.compare(asked, head(&newer)), Compared::default());
}

#[test]
fn what_could_not_be_held_is_read_before_going_live() {
    let messages: Vec<_> = (1..=5).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::unconfirmed();
    assert!(matches!(
        progress.arrived(&outgoing(&messages[1])),
        Arrival::Nothing
    ));
    // The third was dropped on the way, and nothing comes behind it.
    progress.spill();
    let healed = progress.confirm(head(&messages[0]));
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![2], Some(1)));
    let healed = progress.heal(&History {
        head: head(&messages[2]),
        messages: messages[1..3].to_vec(),
        superseded_after: None,
    });
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![3], None));
    // While healing.
    assert!(matches!(
        progress.arrived(&outgoing(&messages[4])),
        Arrival::Heal(2)
    ));
    progress.spill();
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: messages[2..].to_vec(),
        superseded_after: None,
    });
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![4, 5], Some(4)));
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: messages[4..].to_vec(),
        superseded_after: None,
    });
    assert!(healed.again.is_none() && healed.resync.is_none());
    assert!(progress.live().is_some());
}

#[test]
fn what_comes_before_the_confirmation_waits() {
    let messages: Vec<_> = (4..=6).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::unconfirmed();
    for message in &messages {
        assert!(matches!(progress.arrived(&outgoing(message)), Arrival::Nothing));
    }
    let healed = progress.confirm(head(&messages[0]));
    assert_eq!(offsets(&healed.deliver), [5, 6]);
    assert_eq!(progress.position().unwrap().offset, 6);
}

#[test]
fn values_that_gave_way_leave_no_gap() {
    let messages: Vec<_> = (1..=7).map(|offset| message(1, offset)).collect();
    let kept = |kept: &[usize], lost| History {
        head: head(&messages[6]),
        messages: kept.iter().map(|at| Arc::clone(&messages[*at])).collect(),
        superseded_after: Some(lost),
    };
    let mut progress = Progress::confirmed(head(&messages[1]));
    progress.compare(head(&messages[1]), head(&messages[6]));
    let healed = progress.heal(&kept(&[3, 6], 2));
    assert_eq!((offsets(&healed.deliver), healed.resync), (vec![4, 7], None));
    // One of those that were missed had no room any more.
    let mut progress = Progress::confirmed(head(&messages[1]));
    progress.compare(head(&messages[1]), head(&messages[6]));
    let healed = progress.heal(&kept(&[3, 6], 3));
    assert_eq!(
        (offsets(&healed.deliver), healed.resync),
        (vec![4, 7], Some(Lost::Trimmed))
    );
}

#[test]
fn what_was_handed_on_is_not_handed_on_again_with_the_end_of_its_epoch() {
    let messages: Vec<_> = (1..=5).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[0]));
    for sent in &messages[1..3] {
        assert!(matches!(progress.arrived(&outgoing(sent)), Arrival::Deliver));
    }
    // A repeat of the second, then the end of the epoch is found.
    assert!(matches!(
        progress.arrived(&outgoing(&messages[1])),
        Arrival::Heal(1)
    ));
    let lower = History {
        head: head(&messages[0]),
        messages: vec![],
        superseded_after: None,
    };
    assert!(progress.heal(&lower).renew.is_some());
    let healed = progress.renewed(Head {
        epoch: 2,
        offset: 3,
        id: None,
    });
    assert_eq!(offsets(&healed.ended), Vec::<u64>::new());
}

#[test]
fn what_took_the_last_place_is_handed_on_before_the_resync() {
    let first = message(1, 3);
    let (other, next) = (message(1, 3), message(1, 4));
    let mut progress = Progress::confirmed(head(&first));
    assert!(matches!(progress.arrived(&outgoing(&other)), Arrival::Heal(2)));
    assert!(matches!(progress.arrived(&outgoing(&next)), Arrival::Nothing));
    let healed = progress.heal(&History {
        head: head(&next),
        messages: vec![Arc::clone(&other), Arc::clone(&next)],
        superseded_after: None,
    });
    let healed = renew(&mut progress, &healed);
    assert_eq!(offsets(&healed.ended), [3, 4]);
    assert!(healed.resync.is_some());
}
