//! Why a template is refused, and why it does not render.

use super::placeholder::InvalidPlaceholder;

/// Why a template was refused when it was saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTemplate {
    /// A syntax error.
    #[error("line {line}: {detail}")]
    Syntax {
        /// `title`, `content` or `html`.
        part: &'static str,
        /// From 1.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// A placeholder that cannot be translated.
    #[error("{source}")]
    Placeholder {
        /// `title`, `content` or `html`.
        part: &'static str,
        /// What is wrong.
        source: InvalidPlaceholder,
    },
    /// A variable that the list of declared ones lacks.
    #[error("`{name}` is used and not declared in `variables`")]
    Undeclared {
        /// `title`, `content` or `html`.
        part: &'static str,
        /// The variable.
        name: String,
    },
    /// A part is too long.
    #[error("has more than 65536 bytes")]
    TooLong {
        /// `title`, `content` or `html`.
        part: &'static str,
    },
}

impl InvalidTemplate {
    /// The part that is wrong.
    #[must_use]
    pub(crate) fn part(&self) -> &'static str {
        match self {
            Self::Syntax { part, .. }
            | Self::Placeholder { part, .. }
            | Self::Undeclared { part, .. }
            | Self::TooLong { part } => part,
        }
    }
}

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// A variable was not given: its path.
    #[error("the template needs the variable `{0}`")]
    Missing(String),
    /// The template took too many steps or wrote too much.
    #[error("rendering took too many steps or wrote more than 262144 bytes")]
    TooMuch,
    /// Anything else, for example arithmetic on a text.
    #[error("{}{detail}", place(*line))]
    Failed {
        /// From 1, 0 where it is not known.
        line: usize,
        /// What went wrong.
        detail: String,
    },
}

fn place(line: usize) -> String {
    match line {
        0 => String::new(),
        line => format!("line {line}: "),
    }
}
