//! Cron expressions: five fields, in local time. How they are read follows crontab(5); `L` and `#` are Quartz's.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

/// Longest expression, in bytes.
const MAX_TEXT: usize = 256;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Which minutes of local time are meant: minute, hour, day of the month, month, day of the week.
///
/// Each field is `*`, a value, a range `a-b`, a step `*/n`, `a-b/n` or `a/n`, or several of them with commas between.
/// Months and weekdays may be named by three letters; Sunday is 0 or 7. `L` is the month's last day, `5L` its last Friday,
/// `5#2` its second. Where day and weekday are both restricted (neither begins with `*` or `?`), either is enough.
/// `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are short for what they say.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: Bits,
    hours: Bits,
    days: Bits,
    last_day: bool,
    months: Bits,
    weekdays: Bits,
    /// For each weekday from Sunday: bit `n` for its `n`th in the month, bit 0 for its last.
    nth: [u8; 7],
    any_day: bool,
    any_weekday: bool,
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// Not five fields.
    #[error(
        "an expression has five fields (minute, hour, day of the month, month, day of the week), this has {0}{hint}",
        hint = if *.0 == 6 { "; seconds are not among them, `every` can repeat within a minute" } else { "" }
    )]
    Fields(usize),
    /// Longer than is read.
    #[error("an expression has at most 256 bytes")]
    TooLong,
    /// A macro that does not exist.
    #[error("`{0}` is not one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually")]
    Macro(String),
    /// A part of a field is wrong.
    #[error("{field} `{part}`: {problem}")]
    Part {
        /// The field in words.
        field: &'static str,
        /// What stands there.
        part: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Numbers below 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bits(u64);

impl Bits {
    fn set(&mut self, number: u8) {
        self.0 |= 1 << number;
    }

    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.0 >> number & 1 == 1)
    }

    fn from(self, first: i8) -> impl Iterator<Item = i8> {
        (first.max(0)..64).filter(move |number| self.has(*number))
    }
}

struct Field {
    name: &'static str,
    range: RangeInclusive<u8>,
    names: &'static [&'static str],
    /// What the first name stands for.
    first_name: u8,
}

const MINUTE: Field = field("minute", 0..=59, &[], 0);
const HOUR: Field = field("hour", 0..=23, &[], 0);
const DAY: Field = field("day of the month", 1..=31, &[], 0);
const MONTH: Field = field("month", 1..=12, &MONTHS, 1);
const WEEKDAY: Field = field("day of the week", 0..=7, &WEEKDAYS, 0);

const fn field(
    name: &'static str,
    range: RangeInclusive<u8>,
    names: &'static [&'static str],
    first_name: u8,
) -> Field {
    Field {
        name,
        range,
        names,
        first_name,
    }
}

impl Field {
    fn refuse(&self, part: &str, problem: impl Into<String>) -> InvalidCron {
        InvalidCron::Part {
            field: self.name,
            part: part.to_owned(),
            problem: problem.into(),
        }
    }

    fn value(&self, part: &str, text: &str) -> Result<u8, InvalidCron> {
        let (low, high) = (*self.range.start(), *self.range.end());
        let named = self.names.iter().zip(self.first_name..);
        let value = named
            .filter(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, number)| number)
            .next();
        // `parse` would take a sign.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = value.or_else(|| digits.then(|| text.parse().ok()).flatten());
        value.filter(|value| self.range.contains(value)).ok_or_else(|| {
            let names = match (self.names.first(), self.names.last()) {
                (Some(first), Some(last)) => format!(", or {first} to {last}"),
                _ => String::new(),
            };
            self.refuse(part, format!("`{text}` is not one of {low} to {high}{names}"))
        })
    }

    /// `*`, `a`, `a-b`, each with `/n`.
    fn part(&self, part: &str, bits: &mut Bits) -> Result<(), InvalidCron> {
        let (low, high) = (*self.range.start(), *self.range.end());
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, Some(step)),
            None => (part, None),
        };
        let (from, to) = if span == "*" || span == "?" {
            // Sunday is counted once.
            (low, if self.names.len() == 7 { 6 } else { high })
        } else if let Some((from, to)) = span.split_once('-') {
            (self.value(part, from)?, self.value(part, to)?)
        } else {
            let value = self.value(part, span)?;
            (value, if step.is_some() { high } else { value })
        };
        if from > to {
            return Err(self.refuse(
                part,
                format!("the range runs backwards; write {from}-{high},{low}-{to}"),
            ));
        }
        let step = match step {
            None => 1,
            Some(text) => match text.parse::<u8>() {
                Ok(step) if step > 0 && step <= high - low => step,
                _ => {
                    let most = high - low;
                    return Err(self.refuse(part, format!("the step has to be 1 to {most}")));
                }
            },
        };
        for number in (from..=to).step_by(step.into()) {
            bits.set(number);
        }
        Ok(())
    }

    fn bits(&self, text: &str) -> Result<Bits, InvalidCron> {
        let mut bits = Bits::default();
        for part in text.split(',') {
            self.part(part, &mut bits)?;
        }
        Ok(bits)
    }
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        if text.len() > MAX_TEXT {
            return Err(InvalidCron::TooLong);
        }
        let text = text.trim();
        let expression = match text.starts_with('@') {
            true => MACROS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, expression)| *expression)
                .ok_or_else(|| InvalidCron::Macro(text.to_owned()))?,
            false => text,
        };
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(InvalidCron::Fields(fields.len()));
        };
        let mut cron = Self {
            text: text.to_owned(),
            minutes: MINUTE.bits(minute)?,
            hours: HOUR.bits(hour)?,
            days: Bits::default(),
            last_day: false,
            months: MONTH.bits(month)?,
            weekdays: Bits::default(),
            nth: [0; 7],
            any_day: day.starts_with(['*', '?']),
            any_weekday: weekday.starts_with(['*', '?']),
        };
        for part in day.split(',') {
            match part {
                "L" | "l" => cron.last_day = true,
                _ if part.ends_with(['W', 'w']) => {
                    return Err(DAY.refuse(part, "the nearest working day (`W`) is not supported"));
                }
                _ => DAY.part(part, &mut cron.days)?,
            }
        }
        for part in weekday.split(',') {
            cron.weekday(part)?;
        }
        if cron.weekdays.has(7) {
            cron.weekdays.set(0);
        }
        Ok(cron)
    }
}

impl Cron {
    fn weekday(&mut self, part: &str) -> Result<(), InvalidCron> {
        let of = |text| WEEKDAY.value(part, text).map(|number| usize::from(number % 7));
        if let Some((day, nth)) = part.split_once('#') {
            let nth = match nth.parse::<u8>() {
                Ok(nth) if (1..=5).contains(&nth) => nth,
                _ => return Err(WEEKDAY.refuse(part, "the number after `#` is 1 to 5")),
            };
            self.nth[of(day)?] |= 1 << nth;
            return Ok(());
        }
        match part.strip_suffix(['L', 'l']) {
            Some(day) if !day.is_empty() => {
                self.nth[of(day)?] |= 1;
                Ok(())
            }
            _ => WEEKDAY.part(part, &mut self.weekdays),
        }
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it means any minute of this month.
    pub(super) fn has_month(&self, month: i8) -> bool {
        self.months.has(month)
    }

    /// Whether it means any minute of this day.
    pub(super) fn has_date(&self, date: Date) -> bool {
        if !self.has_month(date.month()) {
            return false;
        }
        let last = date.day() == date.days_in_month();
        let day = self.days.has(date.day()) || (self.last_day && last);
        let weekday = date.weekday();
        let number = weekday.to_sunday_zero_offset();
        let weekday = self.weekdays.has(number) || self.is_nth(date, weekday);
        if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        }
    }

    fn is_nth(&self, date: Date, weekday: Weekday) -> bool {
        let index = usize::try_from(weekday.to_sunday_zero_offset()).unwrap_or_default();
        let nth = (date.day() - 1) / 7 + 1;
        let last = date.day() + 7 > date.days_in_month();
        self.nth[index] >> nth & 1 == 1 || (last && self.nth[index] & 1 == 1)
    }

    /// The hours that it means, from one on.
    pub(super) fn hours(&self, first: i8) -> impl Iterator<Item = i8> {
        self.hours.from(first)
    }

    /// The minutes of an hour that it means, from one on.
    pub(super) fn minutes(&self, first: i8) -> impl Iterator<Item = i8> {
        self.minutes.from(first)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

impl TryFrom<String> for Cron {
    type Error = InvalidCron;

    fn try_from(text: String) -> Result<Self, InvalidCron> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn days(expression: &str, year: i16, month: i8) -> Vec<i8> {
        let cron: Cron = expression.parse().unwrap();
        let first = date(year, month, 1);
        first
            .series(jiff::Span::new().days(1))
            .take_while(|day| day.month() == month)
            .filter(|day| cron.has_date(*day))
            .map(Date::day)
            .collect()
    }

    #[test]
    fn fields_are_read_as_crontab_says() {
        let cron: Cron = "5,10-12,50/3 */6 * jan-MAR *".parse().unwrap();
        assert_eq!(
            cron.minutes(0).collect::<Vec<_>>(),
            [5, 10, 11, 12, 50, 53, 56, 59]
        );
        assert_eq!(cron.hours(0).collect::<Vec<_>>(), [0, 6, 12, 18]);
        assert_eq!(cron.hours(7).collect::<Vec<_>>(), [12, 18]);
        assert!(cron.has_month(3) && !cron.has_month(4));
        assert_eq!(
            "@daily".parse::<Cron>().unwrap().hours(0).collect::<Vec<_>>(),
            [0]
        );
    }

    #[test]
    fn day_and_weekday_restrict_together_or_either_is_enough() {
        // November 2026 begins on a Sunday.
        assert_eq!(days("0 0 13 * *", 2026, 11), [13]);
        assert_eq!(days("0 0 * * 1", 2026, 11), [2, 9, 16, 23, 30]);
        assert_eq!(days("0 0 13 * 1", 2026, 11), [2, 9, 13, 16, 23, 30]);
        // A step over `*` restricts, it does not add (crontab(5)).
        assert_eq!(days("0 0 */2 * mon", 2026, 11), [9, 23]);
        assert_eq!(days("0 0 ? * 7", 2026, 11), [1, 8, 15, 22, 29]);
        assert_eq!(days("0 0 * * 5-7", 2026, 11), days("0 0 * * 0,5,6", 2026, 11));
    }

    #[test]
    fn last_and_nth_days() {
        assert_eq!(days("0 0 L * *", 2028, 2), [29]);
        assert_eq!(days("0 0 1,L * *", 2026, 11), [1, 30]);
        assert_eq!(days("0 0 * * 5L", 2026, 11), [27]);
        assert_eq!(days("0 0 * * fri#2", 2026, 11), [13]);
        assert_eq!(days("0 0 * * 0#5", 2026, 11), [29]);
        assert_eq!(days("0 0 * * mon#1,mon#3", 2026, 11), [2, 16]);
        assert!(days("0 0 * * 3#5", 2026, 11).is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (expression, says) in [
            ("* * * *", "this has 4"),
            ("", "this has 0"),
            ("0 * * * * *", "seconds"),
            ("60 * * * *", "minute `60`: `60` is not one of 0 to 59"),
            ("* 24 * * *", "hour `24`"),
            ("* * 0 * *", "day of the month `0`"),
            (
                "* * * 13 *",
                "month `13`: `13` is not one of 1 to 12, or jan to dec",
            ),
            ("* * * * 8", "day of the week `8`"),
            ("* * * * funday", "`funday` is not one of"),
            ("5-1 * * * *", "runs backwards; write 5-59,0-1"),
            ("*/0 * * * *", "the step has to be 1 to 59"),
            ("*/90 * * * *", "the step has to be 1 to 59"),
            ("*/x * * * *", "the step"),
            ("+5 * * * *", "`+5` is not one of"),
            ("1,,2 * * * *", "`` is not one of"),
            ("* * 15W * *", "`W`"),
            ("* * * * 1#6", "1 to 5"),
            ("@reboot", "@hourly"),
        ] {
            let error = expression.parse::<Cron>().unwrap_err().to_string();
            assert!(error.contains(says), "{expression}: {error}");
        }
        assert_eq!("1".repeat(300).parse::<Cron>(), Err(InvalidCron::TooLong));
    }
}
