//! Rules from events to notifications that every tenant has.

use common::config::ConfigError;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    events::Rule,
    model::{EventRule, RuleBody},
    template::environment,
};

/// Section `[rules]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// Whether the five rules of the reference document are there: `document.indexed`, `task.completed`, `user.registered`,
    /// `payment.success`, `conversation.message.sent`. Default true.
    pub builtin: bool,
    /// Rules of its own that a tenant may have. Default 200.
    pub per_tenant: usize,
    /// Further rules; one with the name of a built-in one takes its place.
    pub list: Vec<ConfiguredRule>,
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self {
            builtin: true,
            per_tenant: 200,
            list: Vec::new(),
        }
    }
}

/// An entry `[[rules.list]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredRule {
    /// A tenant's rule of the same name takes its place.
    pub name: String,
    /// The type of the events.
    pub event: String,
    /// A condition.
    #[serde(default)]
    pub when: Option<String>,
    /// The notification.
    pub notification: Map<String, Value>,
    /// Default true.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

fn enabled() -> bool {
    true
}

impl RulesConfig {
    /// The further rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = EventRule> + '_ {
        self.list.iter().cloned().map(|rule| EventRule {
            name: rule.name,
            version: 0,
            body: RuleBody {
                event: rule.event,
                when: rule.when,
                notification: rule.notification,
                enabled: rule.enabled,
            },
        })
    }

    /// Refuses rules that could not be used.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let base = environment();
        for (index, rule) in self.rules().enumerate() {
            let key = |field: &str| format!("rules.list[{index}].{field}");
            if rule.name.is_empty() || self.list[..index].iter().any(|other| other.name == rule.name) {
                return Err(ConfigError::invalid(key("name"), "has to be there, and once"));
            }
            Rule::compile(&base, rule)
                .map_err(|error| ConfigError::invalid(key(&error.field), error.detail))?;
        }
        Ok(())
    }
}
