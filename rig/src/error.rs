//! What can go wrong while something is started or asked.

use std::{path::PathBuf, time::Duration};

/// A failure, with what is needed to look into it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is not on this machine.
    #[error("`{program}` is not installed: run `make setup`")]
    NotInstalled {
        /// Its name.
        program: String,
    },
    /// The operating system refused.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The process ended although it was needed.
    #[error("{name} ended ({status}); {log} says:\n{tail}", log = log.display())]
    Ended {
        /// What it is.
        name: String,
        /// How it ended.
        status: String,
        /// The file that it wrote its outputs to.
        log: PathBuf,
        /// The end of that file.
        tail: String,
    },
    /// Something did not come about in time.
    #[error("not within {within:?}: {what}{}", last.as_ref().map(|last| format!(" ({last})")).unwrap_or_default())]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What was seen at the last look.
        last: Option<Box<Self>>,
    },
    /// Redis answered with an error.
    #[error("redis at {at} answers `{command}` with: {text}")]
    Redis {
        /// Who answered.
        at: std::net::SocketAddr,
        /// The command's first words; its values are not repeated, as they may be secrets.
        command: String,
        /// Redis's own words, with the code first.
        text: String,
    },
    /// PostgreSQL answered with an error.
    #[error("postgres at {at} answers {code}: {text}")]
    Postgres {
        /// Who answered.
        at: std::net::SocketAddr,
        /// The SQLSTATE.
        code: String,
        /// PostgreSQL's own words.
        text: String,
    },
    /// A state of affairs that is not the one that was needed.
    #[error("{0}")]
    Unfit(String),
}

impl Error {
    /// For `map_err` on what the operating system answers.
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }
}
