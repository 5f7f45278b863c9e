//! What a template sees of its variables.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Variables, bounds::Budget};
use minijinja::value::{Enumerator, Object, Serde, Value};

/// The variables, remembering the last one that was looked for: that is the one a strict failure is about.
#[derive(Debug)]
pub(super) struct Context {
    values: BTreeMap<String, Value>,
    budget: Value,
    last: Mutex<Option<String>>,
}

impl Context {
    pub(super) fn new(variables: &Variables) -> Self {
        let values = variables
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(Serde(value))))
            .collect();
        Self {
            values,
            budget: Budget::value(),
            last: Mutex::new(None),
        }
    }

    /// The path of the variable that was missing: the last one looked for, or a member of it that it lacks.
    pub(super) fn missing(&self, paths: &BTreeSet<String>, variables: &Variables) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let Some(value) = variables.get(&last) else {
            return Some(last);
        };
        let lacks = |path: &str| {
            let mut value = Some(value);
            for member in path.split('.') {
                value = value.and_then(|value| value.get(member));
            }
            value.is_none()
        };
        let path = paths.iter().find(|path| {
            path.strip_prefix(&last)
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(lacks)
        });
        Some(path.cloned().unwrap_or(last))
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == Budget::NAME {
            return Some(self.budget.clone());
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.to_owned());
        self.values.get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.values.keys().map(|key| Value::from(key.as_str())).collect())
    }
}
