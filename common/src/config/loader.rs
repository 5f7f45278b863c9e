//! Merging defaults, file, environment and flags into one typed value.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key that does not exist, or a value of the wrong kind.
    #[error("{key}: {reason}")]
    Invalid {
        /// Which key, dotted.
        key: String,
        /// Why.
        reason: String,
    },
    /// Keys without which the process cannot do its work; all of them at once.
    #[error("incomplete for {process}; set:{}", listed(.missing))]
    Incomplete {
        /// What would be started.
        process: &'static str,
        /// Each with its key and what it is for.
        missing: Vec<String>,
    },
}

fn listed(missing: &[String]) -> String {
    missing.iter().map(|missing| format!("\n  {missing}")).collect()
}

impl ConfigError {
    /// A value that cannot work.
    #[must_use]
    pub fn invalid(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            key: key.into(),
            reason: reason.into(),
        }
    }
}

/// Another system's environment variable that sets a key. Our own name wins over it. A variable that sets several keys has
/// an entry for each.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The variable.
    pub variable: &'static str,
    /// The key that it sets, dotted.
    pub key: &'static str,
    /// Translates the value, or refuses it with a reason.
    pub translate: fn(&str) -> Result<Value, String>,
}

/// Prefix of our own variables; a double underscore stands for the dot of the key.
const PREFIX: &str = "CARILLON_";

/// Variables with our prefix that are no keys: the file's name, and the executable that tests run.
const NO_KEYS: [&str; 2] = ["CARILLON_CONFIG", "CARILLON_BIN"];

/// Builds a configuration, layer by layer.
#[derive(Debug, Clone)]
pub struct Loader {
    table: Table,
}

impl Loader {
    /// Begins with the defaults.
    ///
    /// # Errors
    /// When the defaults are not TOML.
    pub fn with_defaults(defaults: &str) -> Result<Self, ConfigError> {
        let table = defaults
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::invalid("defaults", error.to_string()))?;
        Ok(Self { table })
    }

    /// Puts further defaults over it.
    ///
    /// # Errors
    /// When they are not TOML.
    pub fn defaults(mut self, defaults: &str) -> Result<Self, ConfigError> {
        merge(&mut self.table, Self::with_defaults(defaults)?.table);
        Ok(self)
    }

    /// Puts a file over it: TOML, or YAML by its ending `.yaml` or `.yml`.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn file(mut self, path: &Path) -> Result<Self, ConfigError> {
        let refuse = |reason: String| ConfigError::File {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let yaml = path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        let table: Table = if yaml {
            serde_yaml_ng::from_str(&text).map_err(|error| refuse(error.to_string()))?
        } else {
            text.parse()
                .map_err(|error: toml::de::Error| refuse(error.to_string()))?
        };
        merge(&mut self.table, table);
        Ok(self)
    }

    /// Puts the environment over it: first other systems' names, then our own.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the variable.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        aliases: &[Alias],
    ) -> Result<Self, ConfigError> {
        let mut own = Vec::new();
        let mut foreign = Vec::new();
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix(PREFIX) {
                if NO_KEYS.contains(&name.as_str()) {
                    continue;
                }
                if !key.contains("__") {
                    return Err(ConfigError::invalid(
                        name,
                        "there is no such key: a section and a key are joined by __",
                    ));
                }
                own.push((key.to_ascii_lowercase().replace("__", "."), name, value));
            } else {
                let named = aliases
                    .iter()
                    .enumerate()
                    .filter(|(_, alias)| alias.variable == name);
                foreign.extend(named.map(|(rank, _)| (rank, value.clone())));
            }
        }
        // Where two foreign names set one key, the first of the table wins.
        foreign.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        for (rank, value) in foreign {
            let alias = &aliases[rank];
            if value.is_empty() {
                continue;
            }
            let value =
                (alias.translate)(&value).map_err(|reason| ConfigError::invalid(alias.variable, reason))?;
            set(&mut self.table, alias.key, value)?;
        }
        for (key, name, value) in own {
            let value =
                typed(self.value(&key), &value).map_err(|reason| ConfigError::invalid(name, reason))?;
            set(&mut self.table, &key, value)?;
        }
        Ok(self)
    }

    /// Puts one value over it, for example a flag's.
    ///
    /// # Errors
    /// When a part of the key is a value already.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Result<Self, ConfigError> {
        set(&mut self.table, key, value.into())?;
        Ok(self)
    }

    /// The typed result.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the key.
    pub fn build<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(Value::Table(self.table)).map_err(|error| {
            let path = error.path().to_string();
            let reason = error.into_inner().to_string();
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            // An unknown key is reported at its section; name the key itself.
            match reason
                .strip_prefix("unknown field `")
                .and_then(|rest| rest.split('`').next())
            {
                Some(field) if path == "." => ConfigError::invalid(field, "there is no such key"),
                Some(field) if path.ends_with(field) => ConfigError::invalid(path, "there is no such key"),
                Some(field) => ConfigError::invalid(format!("{path}.{field}"), "there is no such key"),
                None => ConfigError::invalid(path, reason),
            }
        })
    }

    /// What stands at a key now.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let mut value = self.table.get(parts.next()?)?;
        for part in parts {
            value = value.as_table()?.get(part)?;
        }
        Some(value)
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn set(table: &mut Table, key: &str, value: Value) -> Result<(), ConfigError> {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut at = table;
    for part in parts {
        at = at
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| ConfigError::invalid(key, "there is no such key"))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

/// Reads a variable's text as the kind of value that stands there now; where none stands, as text.
fn typed(now: Option<&Value>, text: &str) -> Result<Value, String> {
    Ok(match now {
        Some(Value::Integer(_)) => text
            .parse()
            .map(Value::Integer)
            .unwrap_or_else(|_| Value::String(text.to_owned())),
        Some(Value::Float(_)) => Value::Float(text.parse().map_err(|_| format!("`{text}` is not a number"))?),
        Some(Value::Boolean(_)) => Value::Boolean(truth(text)?),
        Some(Value::Array(_)) => list(text)?,
        Some(Value::Table(_)) => return Err("is a section; set its keys one by one".to_owned()),
        _ => Value::String(text.to_owned()),
    })
}

/// A list: JSON, or texts separated by commas.
fn list(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| format!("is not a list: {error}"));
    }
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Ok(Value::Array(
        parts.map(|part| Value::String(part.to_owned())).collect(),
    ))
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

impl Alias {
    /// Takes the text as it is.
    ///
    /// # Errors
    /// Never.
    pub fn text(text: &str) -> Result<Value, String> {
        Ok(Value::String(text.to_owned()))
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// For any other text.
    pub fn number(text: &str) -> Result<Value, String> {
        text.parse()
            .map(Value::Integer)
            .map_err(|_| format!("`{text}` is not a whole number"))
    }

    /// Takes a list.
    ///
    /// # Errors
    /// For a broken JSON list.
    pub fn list(text: &str) -> Result<Value, String> {
        list(text)
    }

    /// Takes yes or no.
    ///
    /// # Errors
    /// For any other text.
    pub fn truth(text: &str) -> Result<bool, String> {
        truth(text)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        a: Section,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        number: u16,
        #[serde(default)]
        text: Option<String>,
        list: Vec<String>,
        flag: bool,
    }

    const DEFAULTS: &str = "[a]\nnumber = 1\nlist = []\nflag = false\n";
    const ALIASES: &[Alias] = &[
        Alias {
            variable: "FIRST",
            key: "a.text",
            translate: Alias::text,
        },
        Alias {
            variable: "SECOND",
            key: "a.text",
            translate: Alias::text,
        },
        Alias {
            variable: "SECOND",
            key: "a.flag",
            translate: |_| Ok(Value::Boolean(true)),
        },
    ];

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Loader::with_defaults(DEFAULTS)
            .unwrap()
            .environment(variables, ALIASES)?
            .build()
    }

    #[test]
    fn layers_win_in_order() {
        let config = load(&[
            ("CARILLON_A__NUMBER", "7"),
            ("CARILLON_A__LIST", "x, y"),
            ("CARILLON_A__FLAG", "yes"),
            ("SECOND", "second"),
            ("FIRST", "first"),
        ])
        .unwrap();
        assert_eq!((config.a.number, config.a.flag), (7, true));
        assert_eq!(config.a.list, ["x", "y"]);
        assert_eq!(config.a.text.as_deref(), Some("first"));
        let own = load(&[("FIRST", "first"), ("CARILLON_A__TEXT", "own")]).unwrap();
        assert_eq!(own.a.text.as_deref(), Some("own"));
        let both = load(&[("SECOND", "second")]).unwrap();
        assert_eq!((both.a.text.as_deref(), both.a.flag), (Some("second"), true));
        let over: Config = Loader::with_defaults(DEFAULTS)
            .unwrap()
            .defaults("[a]\nnumber = 9\n")
            .unwrap()
            .build()
            .unwrap();
        assert_eq!((over.a.number, over.a.flag), (9, false));
    }

    #[test]
    fn what_is_missing_is_said_at_once() {
        let error = ConfigError::Incomplete {
            process: "a hub",
            missing: vec!["a.x: for x".to_owned(), "a.y: for y".to_owned()],
        };
        assert_eq!(
            error.to_string(),
            "incomplete for a hub; set:\n  a.x: for x\n  a.y: for y"
        );
    }

    #[test]
    fn errors_name_the_key() {
        for (variables, name) in [
            (&[("CARILLON_A__NUMBER", "x")][..], "a.number"),
            (&[("CARILLON_A__NUMBER", "70000")], "a.number"),
            (&[("CARILLON_A__TYPO", "1")], "a.typo"),
            (&[("CARILLON_B__X", "1")], "b"),
            (&[("CARILLON_A__FLAG", "maybe")], "CARILLON_A__FLAG"),
        ] {
            let error = load(variables).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}:")), "{error}");
        }
    }

    #[test]
    fn files_are_toml_or_yaml() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("c.toml", "[a]\nnumber = 5\n"), ("c.yaml", "a:\n  number: 5\n")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let config: Config = Loader::with_defaults(DEFAULTS)
                .unwrap()
                .file(&path)
                .unwrap()
                .build()
                .unwrap();
            assert_eq!(config.a.number, 5);
        }
        let missing = folder.path().join("none.toml");
        assert!(matches!(
            Loader::with_defaults(DEFAULTS).unwrap().file(&missing),
            Err(ConfigError::File { .. })
        ));
    }
}
