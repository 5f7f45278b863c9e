//! What one socket received of one topic, held against what was sent.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Faults of one socket, or of many together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Sent and never received, and nobody said so.
    pub(crate) lost: u64,
    /// Received twice.
    pub(crate) doubled: u64,
    /// Received after a later one, by number or by the position's offset.
    pub(crate) reordered: u64,
    /// Not received, but the server said so (`resync`, `gap`), or the socket was closed and cannot resume.
    pub(crate) told: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.told += other.told;
    }

    /// Whether something happened that no server may do.
    pub(crate) fn any(self) -> bool {
        self.lost + self.doubled + self.reordered > 0
    }
}

/// Follows the numbers of one topic on one socket; they begin at 1 and have no holes.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: u32,
    offset: u64,
    missing: BTreeSet<u32>,
    faults: Faults,
    /// The server has said that messages are missing before the next one.
    excused: bool,
}

impl Sequence {
    /// Takes a message: its number, and its offset in the topic's history.
    pub(crate) fn take(&mut self, number: u32, offset: Option<u64>) {
        if std::mem::take(&mut self.excused) {
            self.begin_anew(number);
        }
        let in_order = number > self.last;
        if in_order {
            self.missing.extend(self.last + 1..number);
            self.last = number;
        } else if self.missing.remove(&number) {
            self.faults.reordered += 1;
        } else {
            self.faults.doubled += 1;
        }
        if let Some(offset) = offset {
            // A fault of the number was counted already.
            if in_order && offset <= self.offset {
                self.faults.reordered += 1;
            }
            self.offset = self.offset.max(offset);
        }
    }

    /// After `resync` this number comes next. Where it was there before, the server had lost what it had handed on and not
    /// acknowledged, and its publisher repeated it: what lay behind it comes again, too.
    fn begin_anew(&mut self, number: u32) {
        let before = number.saturating_sub(1);
        self.faults.told += u64::from(before.saturating_sub(self.last));
        self.missing.retain(|missing| *missing < number);
        self.last = before;
        // A new epoch counts offsets anew.
        self.offset = 0;
    }

    /// The server said that messages before this moment will not come. What came to the topic meanwhile may be among
    /// them, so nothing is asked of those before the next one.
    pub(crate) fn excuse(&mut self) {
        self.excused = true;
    }

    /// Whether a number came.
    pub(crate) fn has(&self, number: u32) -> bool {
        number <= self.last && !self.missing.contains(&number)
    }

    /// Whether everything that can come has come, when so many were sent and these failed.
    pub(crate) fn complete(&self, sent: u32, failed: &[u32]) -> bool {
        self.excused || self.absent(sent, failed) == 0
    }

    /// The faults, when so many were sent and these failed: they may have arrived or not.
    pub(crate) fn faults(&self, sent: u32, failed: &[u32]) -> Faults {
        let absent = self.absent(sent, failed);
        let mut faults = self.faults;
        let tail = u64::from(sent.saturating_sub(self.last));
        let told = if self.excused { tail.min(absent) } else { 0 };
        faults.told += told;
        faults.lost += absent - told;
        faults
    }

    /// Which numbers are not there, as ranges, the first few.
    pub(crate) fn holes(&self, sent: u32) -> String {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in self.missing.iter().copied().chain(self.last + 1..=sent) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        let ranges = ranges.iter().take(5);
        let texts: Vec<String> = ranges.map(|(first, last)| format!("{first} to {last}")).collect();
        texts.join(", ")
    }

    fn absent(&self, sent: u32, failed: &[u32]) -> u64 {
        let all = self.missing.len() as u64 + u64::from(sent.saturating_sub(self.last));
        let excused = failed
            .iter()
            .filter(|number| **number > self.last || self.missing.contains(number))
            .count();
        all.saturating_sub(excused as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(numbers: &[(u32, u64)]) -> Sequence {
        let mut sequence = Sequence::default();
        for (number, offset) in numbers {
            sequence.take(*number, Some(*offset));
        }
        sequence
    }

    fn figures(faults: Faults) -> [u64; 4] {
        [faults.lost, faults.doubled, faults.reordered, faults.told]
    }

    fn faults(numbers: &[(u32, u64)], sent: u32) -> [u64; 4] {
        figures(sequence(numbers).faults(sent, &[]))
    }

    #[test]
    fn every_fault_is_counted_once() {
        assert_eq!(faults(&[(1, 1), (2, 2), (3, 3)], 3), [0; 4]);
        assert_eq!(faults(&[(1, 1), (3, 3)], 4), [2, 0, 0, 0]);
        assert_eq!(faults(&[(1, 1), (3, 3), (2, 2)], 3), [0, 0, 1, 0]);
        assert_eq!(faults(&[(1, 1), (1, 1), (2, 2)], 2), [0, 1, 0, 0]);
        assert_eq!(
            faults(&[(1, 5), (2, 4)], 2),
            [0, 0, 1, 0],
            "the publisher's order and the topic's must agree"
        );
        assert_eq!(faults(&[], 2), [2, 0, 0, 0]);
        let holes = sequence(&[(1, 1), (4, 4), (6, 6)]).holes(9);
        assert_eq!(holes, "2 to 3, 5 to 5, 7 to 9");
    }

    #[test]
    fn what_failed_to_be_published_is_not_lost() {
        let some = sequence(&[(1, 1), (3, 2)]);
        assert_eq!(figures(some.faults(4, &[2, 4])), [0; 4]);
        assert!(some.complete(4, &[2, 4]) && !some.complete(4, &[2]));
        assert_eq!(figures(some.faults(4, &[3])), [2, 0, 0, 0], "3 came all the same");
    }

    #[test]
    fn what_the_server_owns_up_to_is_told_and_no_more() {
        let mut told = sequence(&[(1, 1), (2, 2)]);
        told.excuse();
        told.take(6, Some(6));
        told.take(8, Some(8));
        assert_eq!(
            figures(told.faults(8, &[])),
            [1, 0, 0, 3],
            "7 is missing, and nobody said so"
        );

        let mut before = sequence(&[(1, 1), (3, 3)]);
        before.excuse();
        assert_eq!(
            figures(before.faults(5, &[])),
            [1, 0, 0, 2],
            "2 was lost before anybody said anything"
        );

        let mut restarted = sequence(&[(1, 1), (2, 2), (3, 3)]);
        restarted.excuse();
        restarted.take(4, Some(1));
        assert_eq!(
            figures(restarted.faults(4, &[])),
            [0; 4],
            "a new epoch begins at 1"
        );

        let mut repeated = sequence(&[(1, 1), (2, 2), (3, 3)]);
        repeated.excuse();
        for (number, offset) in [(2, 2), (3, 3), (4, 4), (4, 4)] {
            repeated.take(number, Some(offset));
        }
        assert_eq!(
            figures(repeated.faults(5, &[])),
            [1, 1, 0, 0],
            "2 and 3 come again after it, but 4 may come once, and 5 is missing"
        );
    }
}
