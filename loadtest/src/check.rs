//! What one socket received of one topic, held against what was sent.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Faults of one socket, or of many together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Sent and never received.
    pub(crate) lost: u64,
    /// Received twice.
    pub(crate) doubled: u64,
    /// Received after a later one, by number or by the position's offset.
    pub(crate) reordered: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
    }

    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }
}

/// Follows the numbers of one topic on one socket; they begin at 1 and have no holes.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: u64,
    offset: u64,
    missing: BTreeSet<u64>,
    faults: Faults,
}

impl Sequence {
    /// Takes a message: its number, and its offset in the topic's history.
    pub(crate) fn take(&mut self, number: u64, offset: Option<u64>) {
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

    /// How many different messages came.
    pub(crate) fn received(&self) -> u64 {
        self.last - self.missing.len() as u64
    }

    /// The faults, when so many were sent.
    pub(crate) fn faults(&self, sent: u64) -> Faults {
        let lost = self.missing.len() as u64 + sent.saturating_sub(self.last);
        Faults { lost, ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[(u64, u64)], sent: u64) -> [u64; 3] {
        let mut sequence = Sequence::default();
        for (number, offset) in numbers {
            sequence.take(*number, Some(*offset));
        }
        let Faults {
            lost,
            doubled,
            reordered,
        } = sequence.faults(sent);
        [lost, doubled, reordered]
    }

    #[test]
    fn every_fault_is_counted_once() {
        assert_eq!(faults(&[(1, 1), (2, 2), (3, 3)], 3), [0, 0, 0]);
        assert_eq!(faults(&[(1, 1), (3, 3)], 4), [2, 0, 0]);
        assert_eq!(faults(&[(1, 1), (3, 3), (2, 2)], 3), [0, 0, 1]);
        assert_eq!(faults(&[(1, 1), (1, 1), (2, 2)], 2), [0, 1, 0]);
        assert_eq!(
            faults(&[(1, 5), (2, 4)], 2),
            [0, 0, 1],
            "the publisher's order and the topic's must agree"
        );
        assert_eq!(faults(&[], 2), [2, 0, 0]);
    }
}
