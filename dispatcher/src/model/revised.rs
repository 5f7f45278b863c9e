//! Kinds of things that every process remembers, and has to read again when somebody changes them.

/// One kind. Its revision grows with every change, in the transaction that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revised {
    /// Pauses of the queue.
    Pauses,
    /// Settings at run time.
    Settings,
    /// API keys.
    Keys,
    /// Rules by which events become notifications.
    Rules,
}

impl Revised {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Pauses, Self::Settings, Self::Keys, Self::Rules];

    /// The name in rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pauses => "pauses",
            Self::Settings => "settings",
            Self::Keys => "keys",
            Self::Rules => "rules",
        }
    }
}

/// How often each kind was changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revisions([i64; Revised::ALL.len()]);

impl Revisions {
    /// Of one kind; 0: never.
    #[must_use]
    pub fn of(&self, kind: Revised) -> i64 {
        self.0[kind as usize]
    }

    /// Notes one kind's.
    pub fn set(&mut self, kind: Revised, revision: i64) {
        self.0[kind as usize] = revision;
    }
}
