//! From local time to instants and back, where clocks are put forward and back.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

use super::Cron;

/// Days that are looked at; a month that the expression does not name counts as one. That is twelve years at least, and more
/// than a century for what is in February alone, such as a 29th that is also a Monday.
const SEARCH_DAYS: usize = 12 * 366;

/// Changes of a zone that are looked at for the one that leaves a time out, which is less than two days away.
const SEARCH_CHANGES: usize = 8;

/// The first minute after an instant that an expression means in a zone.
///
/// A local time that does not exist, as the clock is put forward over it, is the first instant that does; one that is there
/// twice is the first of the two. Several that come to the same instant are one.
pub(super) fn after(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    // Local times in their order never go back in time, so the first that lies after it is the next.
    let start = zone.to_datetime(after);
    let mut date = start.date();
    let (mut first_hour, mut first_minute) = (start.hour(), start.minute());
    for _ in 0..SEARCH_DAYS {
        if cron.has_date(date) {
            for hour in cron.hours(first_hour) {
                let from = if hour == first_hour { first_minute } else { 0 };
                for minute in cron.minutes(from) {
                    let instant = instant(zone, date.at(hour, minute, 0, 0))?;
                    if instant > after {
                        return Some(instant);
                    }
                }
            }
        }
        date = if cron.has_month(date.month()) {
            date.tomorrow().ok()?
        } else {
            date.last_of_month().tomorrow().ok()?
        };
        (first_hour, first_minute) = (0, 0);
    }
    None
}

/// When it is this local time for the first time, or would be.
fn instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            // By the offset that comes, the time lies just before the clock is put forward.
            let shortly_before = after.to_timestamp(local).ok()?;
            // Some of a zone's changes are of its name alone.
            let mut changes = zone.following(shortly_before).take(SEARCH_CHANGES);
            Some(changes.find(|change| change.offset() == after)?.timestamp())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Clocks put forward and back by an hour, by half an hour, by a whole day, for Ramadan, at midnight; and never.
    const ZONES: [&str; 8] = [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Africa/Casablanca",
        "America/Santiago",
        "Asia/Shanghai",
        "America/St_Johns",
    ];

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn times(expression: &str, name: &str, from: &str, count: usize) -> Vec<String> {
        let cron: Cron = expression.parse().unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut found = Vec::new();
        while found.len() < count {
            at = after(&cron, &zone(name), at).unwrap();
            found.push(at.to_zoned(zone(name)).strftime("%m-%d %H:%M%:z").to_string());
        }
        found
    }

    #[test]
    fn a_time_that_is_left_out_is_the_next_that_exists() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
            ["03-28 02:30+01:00", "03-29 03:00+02:00", "03-30 02:30+02:00"]
        );
        // Four quarters of an hour that is left out, and the hour after it begins: once.
        assert_eq!(
            times("*/15 2,3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 3),
            ["03-29 03:00+02:00", "03-29 03:15+02:00", "03-29 03:30+02:00"]
        );
        assert_eq!(
            times("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2),
            ["10-04 02:30+11:00", "10-05 02:15+11:00"]
        );
        // There was no 30 December 2011.
        assert_eq!(
            times("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 4),
            [
                "12-29 09:00-10:00",
                "12-31 00:00+14:00",
                "12-31 09:00+14:00",
                "01-01 09:00+14:00"
            ]
        );
        // The day begins at one.
        assert_eq!(
            times("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", 2),
            ["09-06 01:00-03:00", "09-07 00:00-03:00"]
        );
    }

    #[test]
    fn a_time_that_is_there_twice_is_the_first() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["10-25 02:30+02:00", "10-26 02:30+01:00"]
        );
        assert_eq!(
            times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            ["10-25 02:30+02:00", "10-25 03:00+01:00", "10-25 03:30+01:00"]
        );
        assert_eq!(
            times("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2),
            ["04-05 01:45+11:00", "04-06 01:45+10:30"]
        );
    }

    #[test]
    fn leap_days_are_found_and_days_that_never_come_are_not() {
        assert_eq!(
            times("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
            ["02-29 00:00+00:00"]
        );
        let never: Cron = "0 0 31 2,4,6,9,11 *".parse().unwrap();
        assert_eq!(after(&never, &TimeZone::UTC, Timestamp::UNIX_EPOCH), None);
    }

    /// Walks every minute of a span: what the rule says of each instant by itself, and of what the clock leaves out there.
    fn walked(cron: &Cron, zone: &TimeZone, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
        let means = |local: DateTime| {
            cron.has_date(local.date())
                && cron.hours(local.hour()).next() == Some(local.hour())
                && cron.minutes(local.minute()).next() == Some(local.minute())
        };
        let minute = jiff::Span::new().minutes(1);
        let mut found = Vec::new();
        // The latest local time that there was; what is not later was there before. Well before the span, so that a clock
        // that was put back just before it is seen.
        let lead = 26 * 60;
        let mut latest = zone.to_datetime(from - jiff::Span::new().minutes(lead + 1));
        for number in -lead..=minutes {
            let at = from + jiff::Span::new().minutes(number);
            let local = zone.to_datetime(at);
            let mut fires = false;
            while latest < local {
                latest += minute;
                // All of them come at once where the clock is put forward.
                fires |= means(latest);
            }
            if fires && number > 0 {
                found.push(at);
            }
        }
        found
    }

    fn part(low: u8, high: u8) -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => (low..=high).prop_map(|value| value.to_string()),
            2 => (2..=(high - low)).prop_map(|step| format!("*/{step}")),
            1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn the_search_finds_what_a_walk_finds(
            minute in part(0, 59),
            hour in part(0, 23),
            day in part(1, 28),
            weekday in part(0, 6),
            name in prop::sample::select(&ZONES[..]),
            // Which of the clock's changes since 2009, and how long before it the walk begins.
            change in 0_usize..40,
            before in 0_i64..2 * 24 * 60,
        ) {
            let cron: Cron = format!("{minute} {hour} {day} * {weekday}").parse().unwrap();
            let zone = zone(name);
            let since: Timestamp = "2009-01-01T00:00:00Z".parse().unwrap();
            let near = zone
                .following(since)
                .nth(change)
                .map_or(since, |change| change.timestamp());
            // The tables have an entry amid a minute where 32 bits of seconds end.
            let near = Timestamp::from_second(near.as_second().div_euclid(60) * 60).unwrap();
            let from = near - jiff::Span::new().minutes(before);
            let minutes = 4 * 24 * 60;
            let end = from + jiff::Span::new().minutes(minutes);
            let mut found = Vec::new();
            let mut at = from;
            while let Some(next) = after(&cron, &zone, at).filter(|next| *next <= end) {
                found.push(next);
                at = next;
            }
            prop_assert_eq!(found, walked(&cron, &zone, from, minutes));
        }
    }
}
