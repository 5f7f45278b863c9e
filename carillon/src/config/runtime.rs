//! What can be changed while the process runs: the file, which is read again when it changes or SIGHUP comes, and the
//! database's values over all.

use std::{
    collections::BTreeSet,
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use common::{
    config::{ConfigError, Loader},
    shutdown, telemetry,
};
use dispatcher::{
    model::SettingVersion,
    settings::{Effective, Given, KEYS, Resolver, Source, channel_of, is_changeable},
};
use serde_json::Value;
use tokio::sync::watch;

use super::{Config, Layers};
use crate::cli::{Options, Service};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The configuration as it is read again. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Runtime(Arc<Inner>);

struct Inner {
    service: Service,
    options: Options,
    environment: Vec<(String, String)>,
    /// The last that could work.
    layers: RwLock<Arc<Layers>>,
    /// Grows with every file that was taken on.
    reloaded: watch::Sender<u64>,
}

impl fmt::Debug for Runtime {
    /// Without the environment, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Reads the configuration for the first time.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub(crate) fn load(
        service: Service,
        options: Options,
        environment: Vec<(String, String)>,
    ) -> Result<(Self, Config), ConfigError> {
        let layers = Layers::read(service, &options, environment.iter().cloned())?;
        let config = Config::of(service, layers.all.clone())?;
        let inner = Inner {
            service,
            options,
            environment,
            layers: RwLock::new(Arc::new(layers)),
            reloaded: watch::Sender::new(0),
        };
        Ok((Self(Arc::new(inner)), config))
    }

    fn layers(&self) -> Arc<Layers> {
        Arc::clone(&self.0.layers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sees every file that is taken on from now on.
    pub(crate) fn reloaded(&self) -> watch::Receiver<u64> {
        self.0.reloaded.subscribe()
    }

    /// What file and environment say now, as far as it could work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        Config::of(self.0.service, self.layers().all.clone())
    }

    /// Reads the file again. What cannot work is refused, and what held holds on.
    fn reload(&self) {
        let (service, environment) = (self.0.service, self.0.environment.iter().cloned());
        let read = Layers::read(service, &self.0.options, environment)
            .and_then(|layers| Ok((Config::of(service, layers.all.clone())?, layers)));
        match read {
            Ok((config, layers)) => {
                *self.0.layers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(layers);
                set_level(&config.log.level);
                self.0.reloaded.send_modify(|count| *count += 1);
                tracing::info!(
                    "the configuration was read again; what can be changed while processes run holds now"
                );
            }
            Err(error) => tracing::error!(%error, "the configuration is refused; what held holds on"),
        }
    }

    /// Reads the file again with SIGHUP and when it changes, until it is dropped.
    pub(crate) async fn watch(self) {
        let mut hangup = match shutdown::hangup() {
            Ok(hangup) => hangup,
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be waited for: the configuration is read at the start only");
                return;
            }
        };
        let mut known = self.stamp();
        loop {
            let asked = tokio::select! {
                asked = hangup.recv() => asked.is_some(),
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = self.stamp();
            // A file that is gone for a moment is being replaced.
            let is_news = now.is_some() && now != known;
            if asked || is_news {
                known = now;
                self.reload();
            }
        }
    }

    /// What changes with the file.
    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let of = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        of(self.0.options.config.as_deref()?)
    }

    /// Puts the database's values over the configuration as it was read last.
    pub(crate) fn resolver(&self) -> Resolver {
        let runtime = self.clone();
        Resolver::new(move |changed| resolve(runtime.0.service, &runtime.layers(), changed))
    }
}

/// What is logged from now on.
pub(crate) fn set_level(level: &str) {
    if let Err(error) = telemetry::set_level(level) {
        tracing::warn!(%error, "what is logged could not be changed");
    }
}

fn resolve(service: Service, layers: &Layers, changed: &[SettingVersion]) -> Result<Effective, ConfigError> {
    let mut loader = layers.all.clone();
    let mut over: BTreeSet<&str> = BTreeSet::new();
    for setting in changed {
        let Some(value) = &setting.value else { continue };
        // Another version of this program may have changed more.
        if is_changeable(&setting.key) {
            let value = toml::Value::try_from(value)
                .map_err(|error| ConfigError::invalid(setting.key.as_str(), error.to_string()))?;
            loader = loader.set(&setting.key, value)?;
            over.insert(&setting.key);
        }
    }
    let config = Config::of(service, loader.clone())?;
    let mut keys: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
    if let Some(toml::Value::Table(channels)) = loader.value("channels") {
        let retries = channels.keys().map(|name| format!("channels.{name}.retry"));
        keys.extend(retries.filter(|key| channel_of(key).is_some() && is_changeable(key)));
    }
    let given = keys
        .into_iter()
        .map(|key| {
            let (all, file, defaults) = (&layers.all, &layers.file, &layers.defaults);
            let source = if over.contains(key.as_str()) {
                Source::Database
            } else if all.value(&key) != file.value(&key) {
                Source::Environment
            } else if file.value(&key) != defaults.value(&key) {
                Source::File
            } else {
                Source::Default
            };
            let given = Given {
                value: shown(&loader, &key),
                default: shown(&layers.defaults, &key),
                source,
            };
            (key, given)
        })
        .collect();
    Ok(Effective {
        log_level: config.log.level.clone(),
        config: config.dispatcher(),
        given,
    })
}

fn shown(loader: &Loader, key: &str) -> Option<Value> {
    // What was read as TOML can be written as JSON.
    loader
        .value(key)
        .and_then(|value| serde_json::to_value(value).ok())
}

#[cfg(test)]
mod tests {
    use dispatcher::model::Micros;
    use serde_json::json;

    use super::*;

    fn options(config: Option<&Path>) -> Options {
        Options {
            config: config.map(Path::to_owned),
            data_dir: None,
            listen: None,
            grpc_listen: None,
            internal_listen: None,
        }
    }

    fn changed(key: &str, value: Value) -> SettingVersion {
        SettingVersion {
            key: key.to_owned(),
            version: 1,
            value: Some(value),
            changed_by: "root".to_owned(),
            changed_at: Micros(0),
        }
    }

    #[test]
    fn s4_7_the_database_holds_over_environment_file_and_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "[limits]\nqueued_max = 5\n[queue]\nmax_attempts = 6\n").unwrap();
        let environment = vec![("CARILLON_LIMITS__QUEUED_MAX".to_owned(), "7".to_owned())];
        let (runtime, _) = Runtime::load(Service::Standalone, options(Some(&file)), environment).unwrap();
        let resolver = runtime.resolver();
        let of = |effective: &Effective, key: &str| {
            let given = &effective.given[key];
            (given.value.clone().unwrap(), given.source)
        };
        let none = resolver.resolve(&[]).unwrap();
        assert_eq!(of(&none, "limits.queued_max"), (json!(7), Source::Environment));
        assert_eq!(of(&none, "queue.max_attempts"), (json!(6), Source::File));
        assert_eq!(of(&none, "queue.tenant_max"), (json!(0), Source::Default));
        let all = [
            changed("limits.queued_max", json!(9)),
            changed(
                "channels.email.retry",
                json!({ "pauses": ["3s"], "max_attempts": 2 }),
            ),
            changed("of.a.newer.version", json!(1)),
        ];
        let over = resolver.resolve(&all).unwrap();
        assert_eq!(of(&over, "limits.queued_max"), (json!(9), Source::Database));
        assert_eq!(over.given["limits.queued_max"].default, Some(json!(1_000_000)));
        assert_eq!(over.config.limits.queued_max, 9);
        let retry = over.config.channels.retry(dispatcher::model::Channel::Email);
        assert_eq!(retry.max_attempts, Some(2));
        for (key, bad) in [
            ("limits.queued_max", json!(0)),
            ("limits.queued_max", json!("many")),
            ("limits.queued_max", json!(null)),
            ("queue.shares", json!([1, 2])),
            ("queue.shares", json!([0, 1, 1, 1])),
            ("queue.rates", json!({ "in_app": 5 })),
            ("queue.retry", json!([])),
            ("log.level", json!("nonsense=loud")),
            ("channels.email.retry", json!({ "base": "1s", "pauses": ["1s"] })),
        ] {
            let error = resolver.resolve(&[changed(key, bad.clone())]).unwrap_err();
            assert!(!error.to_string().is_empty(), "{key} {bad}");
        }
    }

    #[test]
    fn s3_13_a_bad_file_is_refused_and_the_old_one_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "[limits]\nqueued_max = 5\n").unwrap();
        let (runtime, _) = Runtime::load(Service::Standalone, options(Some(&file)), Vec::new()).unwrap();
        let resolver = runtime.resolver();
        let reloads = runtime.reloaded();
        let holds = || resolver.resolve(&[]).unwrap().config.limits.queued_max;
        std::fs::write(&file, "[limits]\nqueued_max = 6\n").unwrap();
        runtime.reload();
        assert_eq!((holds(), *reloads.borrow()), (6, 1));
        for bad in [
            "[limits]\nqueued_max = 0\n",
            "[limits]\nqueued_most = 7\n",
            "not toml",
        ] {
            std::fs::write(&file, bad).unwrap();
            runtime.reload();
            assert_eq!((holds(), *reloads.borrow()), (6, 1), "{bad}");
        }
    }
}
