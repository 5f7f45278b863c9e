//! What holds now of what can be changed while processes run: the file's and the environment's values, and over them those
//! of the database, which one dispatcher changes and all take on.

mod keys;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use common::{audit::Origin, config::ConfigError};
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

pub use self::keys::{KEYS, channel_of, is_changeable};
use crate::{
    config::DispatcherConfig,
    model::{Micros, SettingChange, SettingVersion},
    store::{SettingWritten, Store, StoreError},
};

/// When settings that could not be read are read again.
const AGAIN: Duration = Duration::from_millis(500);

/// Where a value comes from, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The file.
    File,
    /// The environment, or a flag.
    Environment,
    /// It was changed while processes ran.
    Database,
}

impl Source {
    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Database => "database",
        }
    }
}

/// A value that can be changed, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// What holds; none: nothing is set.
    pub value: Option<Value>,
    /// What held if nobody had set anything.
    pub default: Option<Value>,
    /// Who set it.
    pub source: Source,
}

/// All that holds.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The dispatcher's sections. Only what [`is_changeable`] names is looked at after the start.
    pub config: DispatcherConfig,
    /// What is logged.
    pub log_level: String,
    /// What can be changed, by key.
    pub given: BTreeMap<String, Given>,
}

type Resolve = dyn Fn(&[SettingVersion]) -> Result<Effective, ConfigError> + Send + Sync;

/// Puts the database's values over what else is set, and refuses what cannot be, as at the start.
#[derive(Clone)]
pub struct Resolver(Arc<Resolve>);

impl Resolver {
    /// Resolves by this function.
    pub fn new(
        resolve: impl Fn(&[SettingVersion]) -> Result<Effective, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(resolve))
    }

    /// What is set stays, whatever the database says.
    #[must_use]
    pub fn fixed(config: DispatcherConfig) -> Self {
        let effective = Effective {
            config,
            log_level: String::new(),
            given: BTreeMap::new(),
        };
        Self::new(move |_| Ok(effective.clone()))
    }

    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn resolve(&self, changed: &[SettingVersion]) -> Result<Effective, ConfigError> {
        (self.0)(changed)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// Why a setting was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be so.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// Somebody was faster.
    #[error("it was changed meanwhile")]
    Stale,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The settings of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Settings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    resolver: Resolver,
    current: watch::Sender<Arc<Effective>>,
    /// One at a time: what was read before is never taken on after what was read behind it.
    applying: Mutex<()>,
}

impl Settings {
    /// Without what the database says, until the first [`Self::refresh`].
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn new(store: Store, resolver: Resolver) -> Result<Self, ConfigError> {
        let current = watch::Sender::new(Arc::new(resolver.resolve(&[])?));
        Ok(Self(Arc::new(Inner {
            store,
            resolver,
            current,
            applying: Mutex::default(),
        })))
    }

    /// What holds now.
    #[must_use]
    pub fn current(&self) -> Arc<Effective> {
        Arc::clone(&self.0.current.borrow())
    }

    /// Sees every change from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Effective>> {
        self.0.current.subscribe()
    }

    /// Takes on what the database and the file say. What cannot be is refused, and what held holds on.
    ///
    /// # Errors
    /// [`StoreError`]: what the database says is not known.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _applying = self.0.applying.lock().await;
        let changed = self.0.store.settings().await?;
        match self.0.resolver.resolve(&changed) {
            Ok(effective) => {
                let changed = self.current().given != effective.given;
                self.0.current.send_replace(Arc::new(effective));
                if changed {
                    tracing::info!("settings were changed");
                }
            }
            Err(error) => tracing::error!(%error, "settings are refused; what held holds on"),
        }
        Ok(())
    }

    /// Changes one, here before it returns, and within a second wherever this database is used.
    ///
    /// # Errors
    /// [`Refused`]: nothing is changed.
    pub async fn change(&self, change: SettingChange, by: &Origin) -> Result<SettingVersion, Refused> {
        loop {
            let beside = self.0.store.settings().await?;
            let mut all = beside.clone();
            all.retain(|one| one.key != change.key);
            all.push(SettingVersion {
                key: change.key.clone(),
                version: 0,
                value: change.value.clone(),
                changed_by: String::new(),
                changed_at: Micros::now(),
            });
            self.0.resolver.resolve(&all)?;
            match self.0.store.change_setting(change.clone(), beside, by).await? {
                SettingWritten::Stored(changed) => {
                    self.refresh().await?;
                    return Ok(changed);
                }
                SettingWritten::Stale => return Err(Refused::Stale),
                // Each on its own may be what both together are not.
                SettingWritten::Moved => {}
            }
        }
    }

    /// Keeps itself up to date until the process stops.
    pub(crate) async fn run(self, mut revised: watch::Receiver<i64>, stop: CancellationToken) {
        loop {
            let changed = stop.run_until_cancelled(revised.changed()).await;
            if !matches!(changed, Some(Ok(()))) {
                return;
            }
            while let Err(error) = self.refresh().await {
                tracing::debug!(%error, "settings could not be read; what is known holds on");
                if stop
                    .run_until_cancelled(tokio::time::sleep(AGAIN))
                    .await
                    .is_none()
                {
                    return;
                }
            }
        }
    }
}
