//! A server under test, described: how it is started, how a client opens a socket on it and gets a topic, and how one
//! publishes. Carillon is one such description (`carillon.toml` beside this file); others are files that `--describe`
//! names. Everything else of this program is the same for all servers.

mod pusher;
mod template;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    pusher::Pusher,
    template::{Template, Values},
};

const CARILLON: &str = include_str!("carillon.toml");

/// One server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// What reports call it.
    pub(crate) name: String,
    /// How it is started; none: it runs already, and `--address` and `--publish` say where.
    pub(crate) start: Option<Start>,
    /// How a client opens a socket.
    pub(crate) socket: Socket,
    /// How one publishes.
    pub(crate) publish: Publish,
    /// Whether it speaks `carillon.v1` with positions, which scenarios that cut sockets need.
    #[serde(default)]
    pub(crate) resume: bool,
    /// Whether tokens are signed, with the secret in `secret_file` or `--secret-file`.
    #[serde(default)]
    pub(crate) tokens: bool,
}

/// How the server is started. In `command`, `environment`, `ready` and `secret_file` one may write `{port}`,
/// `{publish_port}` (both free ports, different ones), `{folder}` (an empty one for this run), `{here}` (where the
/// description lies) and `{sockets}` (how many will come).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    /// Program and arguments. It has to stay in the foreground; its descendants are measured with it.
    pub(crate) command: Vec<Template>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, Template>,
    /// Files to write into `{folder}` first, by name: configuration that needs ports.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, Template>,
    /// A path that answers 2xx on the publish port once it is ready; without one a connection to both ports will do.
    pub(crate) ready: Option<String>,
    /// Whether publishing goes to the socket's port, too.
    #[serde(default)]
    pub(crate) one_port: bool,
    /// The file with the secret of tokens, written by the server.
    pub(crate) secret_file: Option<Template>,
    /// Prints the version, for reports.
    #[serde(default)]
    pub(crate) version: Vec<Template>,
    /// A path on the publish port with metrics in Prometheus's text form.
    pub(crate) metrics: Option<String>,
    /// Whether SIGTERM ends it with exit code 0.
    #[serde(default)]
    pub(crate) clean_exit: bool,
}

/// How a client opens a socket and gets its topics. Templates know `{host}`, `{user}` (the number of the user),
/// `{token}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Socket {
    /// Path (and query) where every socket gets broadcasts.
    pub(crate) path: Template,
    /// Path where a socket gets what is for its user; default: `path`.
    pub(crate) user_path: Option<Template>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Template>,
    /// What is said once the socket is open, step by step; the socket counts as open after the last.
    #[serde(default)]
    pub(crate) dialogue: Vec<Step>,
    /// The same for sockets of users, where it differs.
    pub(crate) user_dialogue: Option<Vec<Step>>,
    /// Subscribes to an explicit topic (`{topic}`), and what the answer begins with.
    pub(crate) subscribe: Option<Step>,
    /// Messages that have to be answered: what they begin with, and the answer (heartbeats of the application).
    #[serde(default)]
    pub(crate) answers: BTreeMap<String, String>,
    /// Whether the client sends binary messages.
    #[serde(default)]
    pub(crate) binary: bool,
    /// Whether messages are a byte stream that may be cut anywhere (NATS).
    #[serde(default)]
    pub(crate) stream: bool,
}

/// Waits for a message that begins with `expect` (empty: does not wait), then sends `send` (empty: nothing).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default)]
    pub(crate) expect: String,
    #[serde(default)]
    pub(crate) send: Template,
}

/// How one publishes. Requests of a kind that is missing cannot be made to this server. Templates know `{host}`,
/// `{payload}` (a JSON object in one line of printable ASCII), `{quoted}` (the same as a JSON string), `{user}`, `{role}`, `{store}`, `{topic}` (numbers),
/// `{token}` (of the publisher), `{extra}` (what a scenario adds: `,"conflate":"k1"`), and `{bytes}` (length of the
/// payload).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// Sent first on each connection (NATS).
    #[serde(default)]
    pub(crate) hello: Template,
    /// What answers one publish; without it `bytes` are not answered.
    pub(crate) ack: Option<String>,
    /// What has to be answered on a connection of `bytes`, and the answer.
    #[serde(default)]
    pub(crate) answers: BTreeMap<String, String>,
    /// Of every HTTP request.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Template>,
    /// Signs HTTP requests as Pusher's API asks for it.
    pub(crate) pusher: Option<Pusher>,
    /// Whether a connection takes no request before the last one is answered (it closes it then, say).
    #[serde(default)]
    pub(crate) one_at_a_time: bool,
    /// Answers in bulk that have this in them count as failed.
    pub(crate) problem: Option<String>,
    /// To everyone who is connected.
    pub(crate) all: Option<Request>,
    /// To one user.
    pub(crate) user: Option<Request>,
    pub(crate) role: Option<Request>,
    pub(crate) store: Option<Request>,
    pub(crate) topic: Option<Request>,
    /// Many messages in one request.
    pub(crate) batch: Option<Bulk>,
    /// Many messages in one request, one a line.
    pub(crate) lines: Option<Bulk>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// HTTP/1.1; each request is answered.
    #[default]
    Http,
    /// Bytes without answers, as NATS takes them: `body` is the whole command.
    Bytes,
}

/// One message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default = "post")]
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) path: Template,
    pub(crate) body: Template,
}

/// Many: bodies of single requests, between these.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulk {
    pub(crate) path: Template,
    pub(crate) content_type: String,
    #[serde(default)]
    pub(crate) before: String,
    pub(crate) between: String,
    #[serde(default)]
    pub(crate) after: String,
}

fn post() -> String {
    "POST".to_owned()
}

impl Target {
    /// Carillon.
    ///
    /// # Errors
    /// Never with the file that is compiled in; a test reads it.
    pub(crate) fn carillon() -> anyhow::Result<Self> {
        toml::from_str(CARILLON).context("the description of Carillon")
    }

    /// Reads a description.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has a key or a `{name}` that nothing here knows.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in the description {}", path.display()))
    }

    /// The folder that `{here}` stands for.
    pub(crate) fn folder(description: Option<&Path>) -> PathBuf {
        description
            .and_then(Path::parent)
            .map_or_else(PathBuf::new, Path::to_path_buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carillons_description_is_read() {
        let carillon = Target::carillon().unwrap();
        assert!(carillon.resume && carillon.tokens);
        assert!(carillon.publish.batch.is_some());
    }

    #[test]
    fn the_peers_descriptions_are_read() {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut names = Vec::new();
        for folder in std::fs::read_dir(peers).unwrap() {
            let Ok(files) = std::fs::read_dir(folder.unwrap().path()) else {
                continue;
            };
            for file in files {
                let path = file.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    let peer = Target::read(&path).unwrap();
                    assert!(
                        peer.start.is_some() && peer.publish.all.is_some() && peer.publish.user.is_some()
                    );
                    names.push(peer.name);
                }
            }
        }
        names.sort();
        let all = [
            "bun",
            "centrifugo",
            "floor",
            "floor-uring",
            "nats",
            "nchan",
            "socketio",
            "sockudo",
            "ws",
        ];
        assert_eq!(names, all);
    }

    #[test]
    fn unknown_keys_and_names_are_refused() {
        let small = "name = \"x\"\n[socket]\npath = \"/ws\"\n[publish]\n";
        toml::from_str::<Target>(small).unwrap();
        assert!(toml::from_str::<Target>(&format!("{small}speed = 1\n")).is_err());
        let error = toml::from_str::<Target>(&small.replace("/ws", "/{nobody}")).unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
