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

const HEAL_1: Compared = Compared {
    resync: false,
    heal: Some(1),
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
        Arrival::Heal(2)
    ));
    assert!(
        matches!(progress.arrived(&outgoing(&messages[5])), Arrival::Nothing),
        "held"
    );
    let history = History {
        head: head(&messages[4]),
        messages: messages[2..5].to_vec(),
        superseded_after: None,
    };
    let healed = progress.heal(&history);
    assert_eq!(offsets(&healed.deliver), [3, 4, 5, 6]);
    assert!(!healed.resync && healed.again.is_none());
    assert_eq!(progress.position().unwrap().offset, 6);
}

#[test]
fn what_history_lost_is_a_resync() {
    let messages: Vec<_> = (1..=6).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[0]));
    assert!(matches!(
        progress.arrived(&outgoing(&messages[5])),
        Arrival::Heal(1)
    ));
    let healed = progress.heal(&History {
        head: head(&messages[5]),
        messages: messages[4..].to_vec(),
        superseded_after: None,
    });
    assert!(healed.resync);
    assert_eq!(offsets(&healed.deliver), [5, 6]);
    // Nothing left at all.
    let mut progress = Progress::confirmed(head(&messages[0]));
    assert_eq!(progress.compare(head(&messages[0]), head(&messages[3])), HEAL_1);
    let healed = progress.heal(&History {
        head: head(&messages[3]),
        messages: vec![],
        superseded_after: None,
    });
    assert!(healed.resync && healed.again.is_none());
    assert_eq!(progress.position().unwrap().offset, 4);
}

#[test]
fn a_limited_read_goes_on() {
    let messages: Vec<_> = (1..=5).map(|offset| message(1, offset)).collect();
    let mut progress = Progress::confirmed(head(&messages[0]));
    assert_eq!(progress.compare(head(&messages[0]), head(&messages[4])), HEAL_1);
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: messages[1..3].to_vec(),
        superseded_after: None,
    });
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![2, 3], Some(3)));
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: messages[3..].to_vec(),
        superseded_after: None,
    });
    assert_eq!(
        (offsets(&healed.deliver), healed.again, healed.resync),
        (vec![4, 5], None, false)
    );
}

#[test]
fn offsets_given_twice_and_new_epochs_are_noticed() {
    let first = message(1, 3);
    let second = message(1, 3);
    let mut progress = Progress::confirmed(head(&first));
    assert!(matches!(progress.arrived(&outgoing(&second)), Arrival::Resync));
    assert!(matches!(
        progress.arrived(&outgoing(&message(2, 1))),
        Arrival::Resync
    ));
    assert_eq!(progress.position().unwrap().epoch, 2);
    let mut progress = Progress::confirmed(head(&first));
    assert_eq!(
        progress.compare(head(&first), head(&second)),
        Compared {
            resync: true,
            heal: Some(3)
        }
    );
    let mut progress = Progress::confirmed(head(&first));
    let lower = Head {
        offset: 2,
        ..head(&first)
    };
    assert_eq!(
        progress.compare(head(&first), lower),
        Compared {
            resync: true,
            heal: Some(2)
        }
    );
    assert_eq!(
        progress.compare(head(&first), lower),
        Compared::default(),
        "it is being healed"
    );
    let mut progress = Progress::confirmed(head(&first));
    assert_eq!(
        progress.compare(head(&first), Head { epoch: 2, ..lower }),
        Compared {
            resync: true,
            heal: None
        }
    );
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
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![2], Some(2)));
    let healed = progress.heal(&History {
        head: head(&messages[2]),
        messages: vec![Arc::clone(&messages[2])],
        superseded_after: None,
    });
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![3], None));
    // While healing.
    assert!(matches!(
        progress.arrived(&outgoing(&messages[4])),
        Arrival::Heal(3)
    ));
    progress.spill();
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: messages[3..].to_vec(),
        superseded_after: None,
    });
    assert_eq!((offsets(&healed.deliver), healed.again), (vec![4, 5], Some(5)));
    let healed = progress.heal(&History {
        head: head(&messages[4]),
        messages: vec![],
        superseded_after: None,
    });
    assert!(healed.again.is_none() && !healed.resync);
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
    assert_eq!((offsets(&healed.deliver), healed.resync), (vec![4, 7], false));
    // One of those that were missed had no room any more.
    let mut progress = Progress::confirmed(head(&messages[1]));
    progress.compare(head(&messages[1]), head(&messages[6]));
    let healed = progress.heal(&kept(&[3, 6], 3));
    assert_eq!((offsets(&healed.deliver), healed.resync), (vec![4, 7], true));
}
