//! Values with units, as people write them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time: `250ms`, `30s`, `5m`, `1h`, `30d`, or a sum such as `1m30s`. A bare number is seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub usize);

/// A text that is no value of the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct InvalidValue {
    text: String,
    wanted: &'static str,
}

const SPAN: &str = "a time such as 250ms, 30s, 5m, 1h or 30d";
const BYTES: &str = "a size such as 65536, 64KiB or 1MiB";

impl FromStr for Span {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refuse = || InvalidValue {
            text: text.to_owned(),
            wanted: SPAN,
        };
        if let Ok(seconds) = text.parse::<u64>() {
            return Ok(Self(Duration::from_secs(seconds)));
        }
        let mut total = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .filter(|at| *at > 0)
                .ok_or_else(refuse)?;
            let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit_ms: u64 = match &rest[..letters] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(refuse()),
            };
            rest = &rest[letters..];
            let part = Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(refuse)?);
            total = total.checked_add(part).ok_or_else(refuse)?;
        }
        if text.is_empty() {
            Err(refuse())
        } else {
            Ok(Self(total))
        }
    }
}

impl FromStr for Bytes {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refuse = || InvalidValue {
            text: text.to_owned(),
            wanted: BYTES,
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: usize = text[..digits].parse().map_err(|_| refuse())?;
        let unit = match text[digits..].trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(refuse()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() == 0 {
            write!(f, "{}s", self.0.as_secs())
        } else {
            write!(f, "{}ms", self.0.as_millis())
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0 as u64)
    }
}

struct Visitor<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = InvalidValue>> de::Visitor<'_> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor(std::marker::PhantomData, SPAN))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor(std::marker::PhantomData, BYTES))
    }
}

/// Reads an optional number that has no default. The environment gives it as text, as nothing says there what it should be.
///
/// # Errors
/// For what is no number, or does not fit.
pub fn number_or_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + FromStr,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(i64),
        Text(String),
    }
    let refuse = |given: &dyn fmt::Display| {
        let kind = std::any::type_name::<T>();
        de::Error::custom(format_args!("`{given}` is not a whole number of the kind {kind}"))
    };
    match Option::<Given>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Given::Number(number)) => T::try_from(number).map(Some).map_err(|_| refuse(&number)),
        Some(Given::Text(text)) => text.parse().map(Some).map_err(|_| refuse(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_as_people_write_them() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("30d", 2_592_000_000),
            ("5", 5000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().0.as_millis(), ms, "{text}");
        }
        for text in ["", "s", "5x", "-1s", "1.5s", "99999999999999999999s", "5 s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("64KiB".parse::<Bytes>().unwrap().0, 65536);
        assert!("64KB".parse::<Bytes>().is_err());
    }

    #[test]
    fn a_number_without_a_default_may_come_as_text() {
        #[derive(Debug, Deserialize)]
        struct Config {
            #[serde(default, deserialize_with = "number_or_text")]
            small: Option<u8>,
        }
        let read = |text: &str| toml::from_str::<Config>(text).map(|config| config.small);
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("small = 3").unwrap(), Some(3));
        assert_eq!(read("small = \"3\"").unwrap(), Some(3));
        for bad in [
            "small = 300",
            "small = -1",
            "small = \"x\"",
            "small = \"\"",
            "small = 1.5",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
