//! Ends that were lost, and ends that were not.

use super::*;

pub(super) async fn what_was_not_lost_keeps_its_epoch(bus: &Bus) {
    let topic = key("a");
    let mut heads = Vec::new();
    for number in 0..20 {
        publish(bus, &topic, number).await;
        heads.push(bus.heads(std::slice::from_ref(&topic)).await[0].expect("the bus is there"));
    }
    let now = heads[19];
    // At the end, within history, and trimmed from it, where nothing proves a loss.
    for at in [now, heads[15], heads[2]] {
        assert_eq!(bus.renew(&topic, at).await.expect("the bus is there"), now);
    }
}

pub(super) async fn a_lost_end_begins_a_new_epoch_once(bus: &Bus) {
    let topic = key("a");
    for number in 0..5 {
        publish(bus, &topic, number).await;
    }
    let head = bus.heads(std::slice::from_ref(&topic)).await[0].expect("the bus is there");
    let other = Some(MessageId::generate());
    // What was read stood behind the end, at it, or before it, and another message has its place.
    for (offset, goes_on) in [(9, 9), (5, 5), (3, 5)] {
        let topic = key(&format!("lost-{offset}"));
        for number in 0..5 {
            publish(bus, &topic, number).await;
        }
        let old = bus.heads(std::slice::from_ref(&topic)).await[0].expect("the bus is there");
        let at = crate::bus::Head {
            offset,
            id: other,
            ..old
        };
        let renewed = bus.renew(&topic, at).await.expect("the bus is there");
        assert_ne!(renewed.epoch, old.epoch);
        assert_eq!((renewed.offset, renewed.id), (goes_on, None));
        let again = bus.renew(&topic, at).await.expect("the bus is there");
        assert_eq!(again, renewed, "who comes later adopts it");
        let next = publish(bus, &topic, 9).await.position.expect("history is on");
        assert_eq!((next.epoch, next.offset), (renewed.epoch, goes_on + 1));
        assert_eq!(offsets(&read(bus, &topic, 0).await), [goes_on + 1]);
    }
    let untouched = bus.heads(std::slice::from_ref(&topic)).await[0].expect("the bus is there");
    assert_eq!(untouched, head);
}
