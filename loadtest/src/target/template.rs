//! Text with `{names}` in it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// A text with holes, taken apart once. `{{` is a brace; so is a `{` that no name follows, as in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(Hole),
}

/// What a hole may be filled with. Missing values render as nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) publish_port: u16,
    pub(crate) folder: &'a str,
    pub(crate) here: &'a str,
    pub(crate) token: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) extra: &'a str,
    pub(crate) sockets: u32,
    pub(crate) user: u32,
    pub(crate) role: u32,
    pub(crate) store: u32,
    pub(crate) topic: u32,
}

macro_rules! holes {
    ($($name:literal => $hole:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Hole { $($hole,)* }

        impl Hole {
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$hole),)*
                    _ => None,
                }
            }
        }
    };
}

holes! {
    "host" => Host,
    "port" => Port,
    "publish_port" => PublishPort,
    "folder" => Folder,
    "here" => Here,
    "token" => Token,
    "payload" => Payload,
    "quoted" => Quoted,
    "extra" => Extra,
    "sockets" => Sockets,
    "user" => User,
    "role" => Role,
    "store" => Store,
    "topic" => Topic,
    "bytes" => Bytes,
}

impl Template {
    /// Appends the text with its holes filled.
    pub(crate) fn render_into(&self, values: &Values<'_>, out: &mut String) {
        for part in &self.parts {
            let hole = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Hole(hole) => hole,
            };
            let number = match hole {
                Hole::Host => {
                    out.push_str(values.host);
                    continue;
                }
                Hole::Folder => {
                    out.push_str(values.folder);
                    continue;
                }
                Hole::Here => {
                    out.push_str(values.here);
                    continue;
                }
                Hole::Token => {
                    out.push_str(values.token);
                    continue;
                }
                Hole::Payload => {
                    out.push_str(values.payload);
                    continue;
                }
                Hole::Quoted => {
                    quoted(values.payload, out);
                    continue;
                }
                Hole::Extra => {
                    out.push_str(values.extra);
                    continue;
                }
                Hole::Port => u64::from(values.port),
                Hole::PublishPort => u64::from(values.publish_port),
                Hole::Sockets => u64::from(values.sockets),
                Hole::User => u64::from(values.user),
                Hole::Role => u64::from(values.role),
                Hole::Store => u64::from(values.store),
                Hole::Topic => u64::from(values.topic),
                Hole::Bytes => values.payload.len() as u64,
            };
            // Writing to a string cannot fail.
            write!(out, "{number}").ok();
        }
    }

    /// The text with its holes filled.
    pub(crate) fn render(&self, values: &Values<'_>) -> String {
        let mut out = String::with_capacity(self.source.len() + 64);
        self.render_into(values, &mut out);
        out
    }

    /// Whether it is the empty text.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

/// Appends printable ASCII without backslashes as a JSON string.
fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            out.push_str("\\\"");
        }
        out.push_str(part);
    }
    out.push('"');
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = source.as_str();
        while let Some(brace) = rest.find('{') {
            text.push_str(&rest[..brace]);
            rest = &rest[brace + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                text.push('{');
                rest = after;
                continue;
            }
            let name_end = rest
                .find(|c: char| !c.is_ascii_lowercase() && c != '_')
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at(name_end);
            // `{"to": …` begins an object, not a hole.
            let Some(after) = after.strip_prefix('}').filter(|_| !name.is_empty()) else {
                text.push('{');
                continue;
            };
            let hole = Hole::named(name)
                .ok_or_else(|| format!("there is nothing called {{{name}}}; write {{{{ for a brace"))?;
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Hole(hole));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { source, parts })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let values = Values {
            host: "127.0.0.1:1",
            user: 7,
            payload: r#"{"a":"b"}"#,
            ..Values::default()
        };
        Template::try_from(text.to_owned()).unwrap().render(&values)
    }

    #[test]
    fn holes_are_filled_and_braces_stay() {
        assert_eq!(
            rendered(r#"{"to":{"user":"u{user}"},"data":{payload}}"#),
            r#"{"to":{"user":"u7"},"data":{"a":"b"}}"#
        );
        assert_eq!(
            rendered("PUB u.{user} {bytes}\r\n{payload}\r\n"),
            "PUB u.7 9\r\n{\"a\":\"b\"}\r\n"
        );
        assert_eq!(rendered("{{user}} {} {host"), "{user}} {} {host");
        assert_eq!(rendered(r#"{"data":{payload}}"#), r#"{"data":{"a":"b"}}"#);
        assert_eq!(rendered(r#"{"data":{quoted}}"#), r#"{"data":"{\"a\":\"b\"}"}"#);
        assert_eq!(rendered(""), "");
    }

    #[test]
    fn an_unknown_name_is_named() {
        let error = Template::try_from("/{nobody}".to_owned()).unwrap_err();
        assert!(error.contains("{nobody}"), "{error}");
    }

    #[test]
    fn a_template_survives_being_written_and_read() {
        let template = Template::try_from("a{user}b{{".to_owned()).unwrap();
        let text = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<Template>(&text).unwrap(), template);
    }
}
