use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn offsets(items: &[Item<()>]) -> Vec<i64> {
    items.iter().map(|item| item.offset).collect()
}

#[test]
fn s3_4_a_retry_holds_up_its_key_alone() {
    let start = Instant::now();
    let later = start + Duration::from_secs(1);
    let mut backlog = Backlog::default();
    for (offset, key) in [(10, 1), (11, 2), (12, 1), (13, 3)] {
        backlog.push(offset, Key::Named(key), ());
    }
    assert_eq!(backlog.watermark(), Some(10));
    let mut taken = backlog.take(start, 3).into_iter();
    let (first, second, third) = (
        taken.next().unwrap(),
        taken.next().unwrap(),
        taken.next().unwrap(),
    );
    backlog.again(first, later);
    backlog.done(&second);
    backlog.behind(third);
    assert_eq!((backlog.watermark(), backlog.len()), (Some(10), 3));
    // A message with another key goes on, one with the same waits.
    backlog.push(14, Key::Named(1), ());
    let taken = backlog.take(start, 10);
    assert_eq!(offsets(&taken), [13]);
    backlog.done(&taken[0]);
    assert!(backlog.take(start, 10).is_empty());
    assert_eq!(backlog.next_due(), Some(later));
    let taken = backlog.take(later, 10);
    assert_eq!((offsets(&taken), taken[0].attempts), (vec![10], 1));
    backlog.done(&taken[0]);
    assert_eq!(backlog.watermark(), Some(12));
    let taken = backlog.take(later, 10);
    assert_eq!(offsets(&taken), [12, 14]);
    taken.iter().for_each(|item| backlog.done(item));
    assert_eq!((backlog.watermark(), backlog.len()), (Some(15), 0));
}

#[test]
fn what_came_before_is_passed_over() {
    let mut backlog = Backlog::default();
    backlog.push(5, Key::Alone(5), ());
    backlog.push(5, Key::Alone(5), ());
    backlog.push(3, Key::Alone(3), ());
    assert_eq!(offsets(&backlog.take(Instant::now(), 10)), [5]);
}

proptest! {
    /// Whatever is tried again, given back or done, and in whatever portions: every message is done once, those of a key in
    /// order, and the offset never passes one that is not done.
    #[test]
    fn everything_is_done_once_and_in_the_order_of_its_key(
        keys in proptest::collection::vec(0u64..4, 1..60),
        fates in proptest::collection::vec(0u8..10, 400),
        most in 1usize..8,
    ) {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        let mut done: Vec<(i64, Key)> = Vec::new();
        let (mut coming, mut fates, mut now) = (keys.iter().enumerate(), fates.into_iter(), 0u64);
        loop {
            for (offset, key) in coming.by_ref().take(3) {
                let offset = i64::try_from(offset).unwrap();
                let key = if *key == 0 { Key::Alone(offset) } else { Key::Named(*key) };
                backlog.push(offset, key, ());
            }
            now += 1;
            let at = start + Duration::from_secs(now);
            let mut refused = Vec::new();
            let mut taken = backlog.take(at, most).into_iter();
            while let Some(item) = taken.next() {
                match fates.next().unwrap_or(9) {
                    _ if refused.contains(&item.key) => backlog.behind(item),
                    0 | 1 => {
                        refused.push(item.key);
                        backlog.again(item, at + Duration::from_secs(2));
                    }
                    2 => {
                        let mut back = vec![item];
                        back.extend(taken.by_ref());
                        backlog.give_back(back, at);
                    }
                    _ => {
                        backlog.done(&item);
                        done.push((item.offset, item.key));
                    }
                }
            }
            let all = i64::try_from(keys.len()).unwrap();
            let first_open = (0..all).find(|offset| !done.iter().any(|(known, _)| known == offset));
            prop_assert!(backlog.watermark().unwrap() <= first_open.unwrap_or(all));
            if done.len() == keys.len() {
                break;
            }
            prop_assert!(now < 10_000, "it does not end");
        }
        prop_assert_eq!(backlog.len(), 0);
        let mut all: Vec<i64> = done.iter().map(|(offset, _)| *offset).collect();
        for key in 1..4 {
            let of_key: Vec<i64> =
                done.iter().filter(|(_, known)| *known == Key::Named(key)).map(|(offset, _)| *offset).collect();
            prop_assert!(of_key.is_sorted(), "{:?}", of_key);
        }
        all.sort_unstable();
        prop_assert_eq!(all, (0..i64::try_from(keys.len()).unwrap()).collect::<Vec<_>>());
    }
}
