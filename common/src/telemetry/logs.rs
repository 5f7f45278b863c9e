//! Structured logs on standard error.

use std::sync::OnceLock;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log.level: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is in place.
    #[error("logging has begun already")]
    Begun,
    /// The subscriber is gone.
    #[error("logging has ended")]
    Gone,
}

/// What changes the filter of this process's logs.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), LogError> + Send + Sync>;

static FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Begins logging for this process.
///
/// # Errors
/// [`LogError`].
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(&config.level)?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = match config.format {
        LogFormat::Json => {
            let builder = builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let set: SetFilter = Box::new(move |filter| handle.reload(filter).map_err(|_| LogError::Gone));
            builder.try_init().map(|()| set)
        }
        LogFormat::Text => {
            let builder = builder
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let set: SetFilter = Box::new(move |filter| handle.reload(filter).map_err(|_| LogError::Gone));
            builder.try_init().map(|()| set)
        }
    };
    let set = begun.map_err(|_| LogError::Begun)?;
    FILTER.set(set).map_err(|_| LogError::Begun)
}

/// What is logged from now on, as `log.level` says it. Nothing changes where logging has not begun.
///
/// # Errors
/// [`LogError`]: what was logged is logged on.
pub fn set_level(level: &str) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(level)?;
    FILTER.get().map_or(Ok(()), |set| set(filter))
}
