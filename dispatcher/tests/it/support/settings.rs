//! Settings of a dispatcher that is a test's own, as the executable makes them of its file.

use std::collections::BTreeMap;

use common::config::ConfigError;
use dispatcher::{
    config::DispatcherConfig,
    model::SettingVersion,
    settings::{Effective, Given, Resolver, Source},
};
use serde_json::{Map, Value, json};

/// The database's values over a test's configuration.
pub(super) fn live(base: DispatcherConfig) -> Resolver {
    Resolver::new(move |changed| resolve(&base, changed))
}

fn resolve(base: &DispatcherConfig, changed: &[SettingVersion]) -> Result<Effective, ConfigError> {
    let mut config = base.clone();
    let mut given = BTreeMap::new();
    for setting in changed {
        let Some(value) = &setting.value else { continue };
        let one = alone(&setting.key, value)?;
        match setting.key.as_str() {
            "limits.user_requests_per_minute" => {
                config.limits.user_requests_per_minute = one.limits.user_requests_per_minute;
            }
            "limits.queued_max" => config.limits.queued_max = one.limits.queued_max,
            "queue.rates" => config.queue.rates = one.queue.rates,
            "queue.shares" => config.queue.shares = one.queue.shares,
            "queue.max_attempts" => config.queue.max_attempts = one.queue.max_attempts,
            "channels.email.retry" => config.channels = one.channels,
            "rules.list" => config.rules = one.rules,
            other => panic!("no test changes {other}"),
        }
        let set = Given {
            value: Some(value.clone()),
            default: None,
            source: Source::Database,
        };
        given.insert(setting.key.clone(), set);
    }
    if !given.is_empty() {
        config.validate()?;
    }
    Ok(Effective {
        config,
        log_level: String::new(),
        given,
    })
}

/// A configuration that says this alone.
fn alone(key: &str, value: &Value) -> Result<DispatcherConfig, ConfigError> {
    let nested = key.rsplit('.').fold(value.clone(), |inner, name| {
        Value::Object(Map::from_iter([(name.to_owned(), inner)]))
    });
    let read: Result<DispatcherConfig, _> = serde_json::from_value(json!(nested));
    read.map_err(|error| ConfigError::invalid(key, error.to_string()))
}
