//! What is done in Redis in one step. The sources lie beside this file.

use std::{fmt::Write as _, sync::LazyLock};

use sha1::{Digest, Sha1};

use super::wire::Commands;

/// A script, sent by its digest; every connection loads all of them first.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) source: &'static str,
    digest: LazyLock<String>,
}

impl Script {
    const fn new(source: &'static str, digest: fn() -> String) -> Self {
        Self {
            source,
            digest: LazyLock::new(digest),
        }
    }

    /// The digest by which Redis knows it.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }
}

fn hex(source: &str) -> String {
    Sha1::digest(source.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $($file:literal),+) => {
        $(#[$doc])*
        pub(super) static $name: Script =
            Script::new(concat!($(include_str!($file)),+), || hex(concat!($(include_str!($file)),+)));
    };
}

script!(
    /// Offset, history, publish: a topic that keeps its newest messages.
    WINDOW,
    "scripts/begin.lua",
    "scripts/window.lua",
    "scripts/publish.lua"
);
script!(
    /// Offset, value, publish: a topic that keeps the newest of each key.
    VALUES,
    "scripts/begin.lua",
    "scripts/values.lua",
    "scripts/publish.lua"
);
script!(
    /// Publish alone, with an idempotency key.
    KEYED,
    "scripts/keyed.lua"
);
script!(
    /// The ends of topics of one partition.
    HEADS,
    "scripts/heads.lua"
);
script!(
    /// What can be read again of a topic.
    HISTORY,
    "scripts/history.lua"
);
script!(
    /// A new epoch, if the old one is still that which it is compared with.
    RENEW,
    "scripts/renew.lua"
);

script!(
    /// Users are on a node.
    ENTER,
    "scripts/enter.lua"
);
script!(
    /// Users are on a node no more.
    EXIT,
    "scripts/exit.lua"
);
script!(
    /// Users of a node that has gone are taken out.
    PURGE,
    "scripts/purge.lua"
);

/// Every script.
pub(super) static ALL: [&Script; 9] = [
    &WINDOW, &VALUES, &KEYED, &HEADS, &HISTORY, &RENEW, &ENTER, &EXIT, &PURGE,
];

/// Adds a script's call.
pub(super) fn call(commands: &mut Commands, script: &Script, keys: &[&str], arguments: &[&[u8]]) {
    let count = keys.len().to_string();
    let mut all: Vec<&[u8]> = Vec::with_capacity(3 + keys.len() + arguments.len());
    all.extend([&b"EVALSHA"[..], script.digest().as_bytes(), count.as_bytes()]);
    all.extend(keys.iter().map(|key| key.as_bytes()));
    all.extend(arguments);
    commands.push(&all);
}
