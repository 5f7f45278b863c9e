//! What messages consist of: a stamp in JSON such as a shop sends about its orders. Names, numbers and times vary from
//! message to message and within one, as they do in earnest: a filler that repeats itself would flatter compression, one of
//! random letters would hide it.

use std::fmt::Write;

use crate::stamp::{STAMP, Stamp};

/// Bytes of the smallest payload, which has nothing but a stamp.
pub(crate) const LEAST: usize = BEGIN.len() + STAMP + END.len();

const BEGIN: &str = "{\"stamp\":\"";
const END: &str = "\"}";

/// Payloads that a job has at hand, and how many bytes of them at the most (but for the first).
const COUNT: usize = 64;
const BYTES: usize = 4 * 1024 * 1024;

const EVENTS: [&str; 6] = ["placed", "paid", "packed", "shipped", "delivered", "returned"];
const FIRST_NAMES: [&str; 24] = [
    "Amara",
    "Benedikt",
    "Chiara",
    "Dmitri",
    "Elif",
    "Farid",
    "Greta",
    "Hiroshi",
    "Ines",
    "Jonas",
    "Katarzyna",
    "Liam",
    "Maria",
    "Noor",
    "Oluwaseun",
    "Priya",
    "Quentin",
    "Rosa",
    "Sven",
    "Thandiwe",
    "Ursula",
    "Viktor",
    "Wen",
    "Yusuf",
];
const LAST_NAMES: [&str; 24] = [
    "Almeida",
    "Bergmann",
    "Castellano",
    "Dubois",
    "Eriksson",
    "Ferreira",
    "Gupta",
    "Haddad",
    "Ito",
    "Jovanovic",
    "Kowalska",
    "Lindqvist",
    "Mbeki",
    "Nakamura",
    "Okafor",
    "Petrov",
    "Quispe",
    "Rossi",
    "Schneider",
    "Tanaka",
    "Ueda",
    "Vasquez",
    "Wagner",
    "Yilmaz",
];
const KINDS: [&str; 12] = [
    "Copper",
    "Enamelled",
    "Folding",
    "Green",
    "Heavy",
    "Knitted",
    "Large",
    "Oak",
    "Recycled",
    "Small",
    "Travel",
    "Woollen",
];
const THINGS: [&str; 16] = [
    "blanket",
    "bookshelf",
    "bread knife",
    "chair",
    "coffee grinder",
    "desk lamp",
    "flask",
    "garden hose",
    "kettle",
    "notebook",
    "rucksack",
    "scarf",
    "shoe rack",
    "teapot",
    "toolbox",
    "umbrella",
];
const WORDS: [&str; 20] = [
    "please",
    "leave",
    "the",
    "parcel",
    "with",
    "neighbour",
    "on",
    "second",
    "floor",
    "ring",
    "twice",
    "before",
    "noon",
    "side",
    "door",
    "is",
    "open",
    "until",
    "call",
    "first",
];

/// The payloads of a job, prepared but for their stamps, so that publishing costs no more than copying one.
#[derive(Debug)]
pub(crate) struct Payloads {
    /// What stands behind the stamp.
    rests: Vec<String>,
}

impl Payloads {
    /// Payloads of `size` bytes, or of [`LEAST`] where that is more.
    pub(crate) fn new(size: usize, mut rng: fastrand::Rng) -> Self {
        let count = (BYTES / size.max(1)).clamp(1, COUNT);
        let rests = (0..count)
            .map(|_| rest(size.saturating_sub(LEAST), &mut rng))
            .collect();
        Self { rests }
    }

    /// Appends the payload of a message. Its neighbours have others.
    pub(crate) fn write(&self, run: u32, stamp: Stamp, out: &mut String) {
        out.push_str(BEGIN);
        stamp.write(run, out);
        out.push_str(&self.rests[stamp.number as usize % self.rests.len()]);
    }
}

fn one<'a>(of: &[&'a str], rng: &mut fastrand::Rng) -> &'a str {
    of[rng.usize(..of.len())]
}

fn price(rng: &mut fastrand::Rng) -> String {
    format!("{}.{:02}", rng.u32(1..300), rng.u32(..100))
}

/// The end of the stamp, `len` bytes of fields, and the end of the object. An order, as far as it goes; then its items;
/// and a note that fills up.
fn rest(len: usize, rng: &mut fastrand::Rng) -> String {
    let mut fields = String::with_capacity(len);
    for field in order(rng) {
        if fields.len() + field.len() > len {
            break;
        }
        fields.push_str(&field);
    }
    let mut before = ",\"items\":[";
    loop {
        let item = item(rng);
        if fields.len() + before.len() + item.len() + 1 > len {
            break;
        }
        fields.push_str(before);
        fields.push_str(&item);
        before = ",";
    }
    if before == "," {
        fields.push(']');
    }
    note(len - fields.len(), rng, &mut fields);
    format!("\"{fields}}}")
}

fn order(rng: &mut fastrand::Rng) -> [String; 6] {
    let (first, last) = (one(&FIRST_NAMES, rng), one(&LAST_NAMES, rng));
    [
        format!(",\"event\":\"{}\"", one(&EVENTS, rng)),
        format!(",\"order\":{}", rng.u32(100_000..1_000_000)),
        format!(
            ",\"at\":\"2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z\"",
            rng.u32(1..13),
            rng.u32(1..29),
            rng.u32(..24),
            rng.u32(..60),
            rng.u32(..60),
            rng.u32(..1000)
        ),
        format!(
            ",\"customer\":{{\"id\":\"{:016x}\",\"name\":\"{first} {last}\",\"email\":\"{}.{}@example.com\"}}",
            rng.u64(..),
            first.to_ascii_lowercase(),
            last.to_ascii_lowercase()
        ),
        format!(
            ",\"shipment\":{{\"carrier\":null,\"tracking\":\"{:012}\",\"weight\":{}}}",
            rng.u64(..1_000_000_000_000),
            price(rng)
        ),
        format!(",\"total\":{},\"currency\":\"EUR\"", price(rng)),
    ]
}

fn item(rng: &mut fastrand::Rng) -> String {
    format!(
        "{{\"sku\":\"{:06}\",\"title\":\"{} {}\",\"quantity\":{},\"price\":{},\"in_stock\":{}}}",
        rng.u32(..1_000_000),
        one(&KINDS, rng),
        one(&THINGS, rng),
        rng.u32(1..6),
        price(rng),
        rng.bool()
    )
}

/// Fills `len` bytes: by a field of words, or, where that does not fit, by white space.
fn note(len: usize, rng: &mut fastrand::Rng, out: &mut String) {
    const FIELD: &str = ",\"note\":\"";
    let end = out.len() + len;
    if len > FIELD.len() {
        out.push_str(FIELD);
        while out.len() < end {
            // Writing to a string cannot fail.
            write!(out, "{} ", one(&WORDS, rng)).ok();
        }
        out.truncate(end - 1);
        out.push('"');
    }
    out.extend(std::iter::repeat_n(' ', end - out.len()));
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use serde_json::Value;

    use super::*;
    use crate::stamp::{Stamps, Topic};

    fn written(size: usize, number: u32) -> String {
        let mut text = String::new();
        let stamp = Stamp {
            topic: Topic::ALL,
            number,
            at_us: 1_763_640_000_123_456,
        };
        Payloads::new(size, fastrand::Rng::with_seed(1)).write(0xabc, stamp, &mut text);
        text
    }

    #[test]
    fn payloads_are_json_of_the_size_asked_for_with_a_stamp() {
        for size in (0..1500).chain([4096, 70_000]) {
            let text = written(size, 7);
            assert_eq!(text.len(), size.max(LEAST), "{text}");
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value["stamp"].is_string(), "{text}");
            let (stamp, _) = Stamps::new(0xabc).next(text.as_bytes(), 0).unwrap();
            assert_eq!((stamp.topic, stamp.number), (Topic::ALL, 7));
            // Descriptions put it into lines and strings.
            assert!(text.is_ascii() && !text.contains(['\\', '\r', '\n']), "{text}");
        }
    }

    #[test]
    fn neighbours_differ_beyond_their_stamps() {
        let [one, next] = [1, 2].map(|number| written(1024, number)[LEAST..].to_owned());
        assert_ne!(one, next);
        let same = one.bytes().zip(next.bytes()).filter(|(a, b)| a == b).count();
        assert!(same < 700, "{same} of {} bytes are the same", one.len());
    }

    #[test]
    fn a_kilobyte_compresses_as_json_does() {
        for number in 0..20 {
            let text = written(1024, number);
            let mut out = Vec::with_capacity(2048);
            Compress::new(Compression::default(), false)
                .compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync)
                .unwrap();
            assert!((350..700).contains(&out.len()), "{} bytes of {text}", out.len());
        }
    }
}
