//! A day of a shop, from a seed: how much of what is published, and how many sockets come and go, second by second. The
//! same seed gives the same day.

/// Messages and cuts a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) users: f64,
    pub(crate) roles: f64,
    pub(crate) stores: f64,
    pub(crate) topics: f64,
    pub(crate) tenant: f64,
    /// Sockets that are cut.
    pub(crate) cuts: f64,
}

/// The pattern of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day {
    seed: u64,
    /// Seconds that stand for 24 hours.
    seconds: f64,
    sockets: f64,
    strength: f64,
}

/// How busy each hour is, of the busiest: night, opening, lunch, evening.
const HOURS: [f64; 24] = [
    0.08, 0.05, 0.05, 0.05, 0.06, 0.10, 0.20, 0.35, 0.55, 0.65, 0.70, 0.85, 1.00, 0.90, 0.70, 0.65, 0.70,
    0.85, 0.95, 0.90, 0.70, 0.45, 0.25, 0.14,
];

impl Day {
    pub(crate) fn new(seed: u64, seconds: f64, sockets: u32, strength: f64) -> Self {
        Self {
            seed,
            seconds: seconds.max(1.0),
            sockets: f64::from(sockets),
            strength,
        }
    }

    /// What happens so many seconds after midnight of the first day.
    pub(crate) fn at(&self, second: f64) -> Rates {
        let hours = second / self.seconds * 24.0;
        let (hour, part) = (hours.floor(), hours.fract());
        let of = |hour: f64| HOURS[hour.rem_euclid(24.0) as usize];
        let busy = of(hour) * (1.0 - part) + of(hour + 1.0) * part;
        // Each quarter of an hour has its own mood, and one in sixteen brings a burst.
        let quarter = (hours * 4.0).floor() as u64;
        let mut chance = fastrand::Rng::with_seed(self.seed ^ quarter.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mood = 0.7 + 0.6 * chance.f64();
        let burst = if chance.u32(..16) == 0 { 5.0 } else { 1.0 };
        let sale = chance.u32(..24) == 0;
        let base = self.strength * busy * mood * self.sockets;
        Rates {
            users: base * 0.05 * burst,
            // A role has a tenth of all sockets, a store a hundredth, the tenant all: fewer messages to more sockets.
            roles: base * 0.000_1,
            stores: base * 0.001 * burst,
            topics: base * 0.002,
            tenant: if sale { 1.0 } else { base * 0.000_01 },
            cuts: self.strength * mood * self.sockets * 0.002 * burst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(seed: u64) -> Vec<Rates> {
        let day = Day::new(seed, 240.0, 10_000, 1.0);
        (0..240).map(|second| day.at(f64::from(second))).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_day() {
        assert_eq!(day(7), day(7));
        assert_ne!(day(7), day(8));
    }

    #[test]
    fn noon_is_busier_than_night_and_there_are_bursts() {
        let day = day(1);
        let sum = |from: usize, to: usize| day[from..to].iter().map(|rates| rates.users).sum::<f64>();
        assert!(sum(110, 150) > 4.0 * sum(10, 50), "noon against night");
        let highest = day.iter().map(|rates| rates.cuts).fold(0.0, f64::max);
        let mean = day.iter().map(|rates| rates.cuts).sum::<f64>() / 240.0;
        assert!(highest > 2.0 * mean, "a burst");
        assert!(day.iter().all(|rates| rates.users > 0.0 && rates.cuts > 0.0));
    }
}
