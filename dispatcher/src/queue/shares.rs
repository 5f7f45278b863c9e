//! Which lane gets the next free room: a pure decision.
//!
//! Stride scheduling: each claim moves its lane's pass on by the inverse of the lane's share, and the lane with the
//! lowest pass goes next. Lanes that have work share by weight, a lane that is alone gets everything, and no lane waits
//! for ever. A part of the room is kept for the critical lane alone, so that it finds room also while long sends of
//! other lanes hold all the rest.

use crate::{lease::reserved, model::Lane};

const LANES: usize = Lane::COUNT;

/// A pass moves by this over the share; large, so that the division loses nothing that matters.
const STRIDE: u64 = 1 << 20;

/// The shares of one channel's room.
#[derive(Debug)]
pub(crate) struct Shares {
    strides: [u64; LANES],
    passes: [u64; LANES],
    /// Lanes that had work at the last look; one that comes back starts with the others, not with what it saved up.
    active: [bool; LANES],
    capacity: usize,
    reserved: usize,
}

impl Shares {
    /// Room for `capacity` deliveries, of which the part `critical_reserved` is for the critical lane alone.
    pub(crate) fn new(capacity: usize, shares: [u32; LANES], critical_reserved: f64) -> Self {
        Self {
            strides: shares.map(|share| STRIDE / u64::from(share.max(1))),
            passes: [0; LANES],
            active: [false; LANES],
            capacity,
            reserved: reserved(capacity, critical_reserved),
        }
    }

    /// How many each lane may claim now, given how many each holds and which may have work. At most `limit` in all.
    pub(crate) fn plan(
        &mut self,
        running: [usize; LANES],
        hungry: [bool; LANES],
        limit: usize,
    ) -> [usize; LANES] {
        self.wake(hungry);
        let mut granted = [0; LANES];
        let free = self.capacity.saturating_sub(running.iter().sum());
        // What critical holds fills its reserve first.
        let others: usize = running[1..].iter().sum();
        let mut open_to_others = (self.capacity - self.reserved).saturating_sub(others).min(free);
        for _ in 0..free.min(limit) {
            let lane = (0..LANES)
                .filter(|&lane| hungry[lane] && (lane == 0 || open_to_others > 0))
                .min_by_key(|&lane| (self.passes[lane], lane));
            let Some(lane) = lane else { break };
            granted[lane] += 1;
            self.passes[lane] += self.strides[lane];
            if lane != 0 {
                open_to_others -= 1;
            }
        }
        granted
    }

    /// Gives back what a claim did not find. The lane is out of work, so when it comes back it starts with the others:
    /// else lanes that are always looked at in vain would stay in front of one that works.
    pub(crate) fn refund(&mut self, lane: usize, count: usize) {
        self.active[lane] = false;
        let back = self.strides[lane].saturating_mul(count as u64);
        self.passes[lane] = self.passes[lane].saturating_sub(back);
    }

    fn wake(&mut self, hungry: [bool; LANES]) {
        let floor = (0..LANES)
            .filter(|&lane| self.active[lane] && hungry[lane])
            .map(|lane| self.passes[lane])
            .min();
        if let Some(floor) = floor {
            for (lane, pass) in self.passes.iter_mut().enumerate() {
                if hungry[lane] && !self.active[lane] {
                    *pass = (*pass).max(floor);
                }
            }
        }
        self.active = hungry;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARES: [u32; LANES] = [8, 4, 2, 1];
    const ALL: [bool; LANES] = [true; LANES];

    #[test]
    fn a_flood_of_low_leaves_room_for_critical() {
        let mut shares = Shares::new(10, SHARES, 0.2);
        let low = shares.plan([0; LANES], [false, false, false, true], 100);
        assert_eq!(low, [0, 0, 0, 8]);
        assert_eq!(
            shares.plan([0, 0, 0, 8], [true, false, false, true], 100),
            [2, 0, 0, 0]
        );
    }

    #[test]
    fn a_lane_alone_gets_everything_but_the_reserve() {
        assert_eq!(
            Shares::new(10, SHARES, 0.2).plan([0; LANES], [true, false, false, false], 100),
            [10, 0, 0, 0]
        );
        assert_eq!(
            Shares::new(10, SHARES, 0.0).plan([0; LANES], [false, false, true, false], 100),
            [0, 0, 10, 0]
        );
    }

    #[test]
    fn one_place_is_shared_over_time() {
        let mut shares = Shares::new(1, SHARES, 0.5);
        let mut got = [0; LANES];
        for _ in 0..150 {
            let plan = shares.plan([0; LANES], ALL, 1);
            (0..LANES).for_each(|lane| got[lane] += plan[lane]);
        }
        assert_eq!(got, [80, 40, 20, 10]);
    }

    #[test]
    fn a_lane_that_was_idle_has_saved_nothing_up() {
        let mut shares = Shares::new(1, [1, 1, 1, 1], 0.0);
        for _ in 0..1000 {
            shares.plan([0; LANES], [false, true, false, false], 1);
        }
        let mut low = 0;
        for _ in 0..100 {
            low += shares.plan([0; LANES], [false, true, false, true], 1)[3];
        }
        assert!((49..=51).contains(&low), "{low}");
    }

    #[test]
    fn lanes_without_work_do_not_stay_in_front_of_one_that_works() {
        let mut shares = Shares::new(10, SHARES, 0.2);
        for round in 0..100 {
            let plan = shares.plan([0; LANES], ALL, 10);
            assert!(plan[2] > 0, "round {round}: {plan:?}");
            shares.refund(0, plan[0]);
            shares.refund(1, plan[1]);
            shares.refund(3, plan[3]);
        }
    }

    #[test]
    fn what_was_not_found_is_given_back() {
        let mut shares = Shares::new(4, [1, 1, 1, 1], 0.0);
        assert_eq!(
            shares.plan([0; LANES], [false, false, true, true], 4),
            [0, 0, 2, 2]
        );
        shares.refund(2, 2);
        // Back at work beside the other: neither in front of it nor behind.
        assert_eq!(
            shares.plan([0, 0, 0, 2], [false, false, true, true], 2),
            [0, 0, 1, 1]
        );
    }

    proptest! {
        #[test]
        fn room_is_never_exceeded(
            capacity in 1usize..50,
            reserved in 0.0f64..0.9,
            steps in proptest::collection::vec((any::<[bool; LANES]>(), 0usize..LANES, 0usize..10), 1..60),
        ) {
            let mut shares = Shares::new(capacity, SHARES, reserved);
            let mut running = [0usize; LANES];
            for (hungry, done, count) in steps {
                let plan = shares.plan(running, hungry, 1000);
                for lane in 0..LANES {
                    prop_assert!(hungry[lane] || plan[lane] == 0);
                    running[lane] += plan[lane];
                }
                prop_assert!(running.iter().sum::<usize>() <= capacity);
                running[done] = running[done].saturating_sub(count);
            }
        }

        #[test]
        fn no_lane_with_work_waits_for_ever(capacity in 1usize..20) {
            let mut shares = Shares::new(capacity, SHARES, 0.2);
            let mut got = [0usize; LANES];
            for _ in 0..100 {
                let plan = shares.plan([0; LANES], ALL, capacity);
                (0..LANES).for_each(|lane| got[lane] += plan[lane]);
            }
            prop_assert!(got.iter().all(|&count| count > 0), "{:?}", got);
        }
    }
}
