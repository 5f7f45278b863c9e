//! What a request of a fallback transport asks for.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use common::{
    http::{Problem, parse_query},
    ids::Name,
    protocol::{Command, MAX_ITEMS},
    token::Identity,
};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

/// Where a client comes back with what the last event's id said; browsers send it by themselves.
const LAST_EVENT_ID: &str = "last-event-id";

/// Longest wait of a poll in seconds.
const MAX_WAIT: u64 = 60;

/// Wait of a poll that does not say.
const DEFAULT_WAIT: u64 = 25;

#[derive(Debug, Default, Deserialize)]
struct Query {
    #[serde(default)]
    topics: Option<String>,
    #[serde(default)]
    positions: Option<String>,
    #[serde(default)]
    wait: Option<String>,
}

/// Topics and positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Explicit topics, each once.
    pub(super) topics: Vec<Name>,
    /// Positions by public name.
    pub(super) positions: BTreeMap<String, String>,
    /// How long a poll waits.
    pub(super) wait: Duration,
}

impl Asked {
    pub(super) fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let query: Query = parse_query(uri)?;
        let wait = match query.wait.as_deref().map(str::parse::<u64>) {
            None => DEFAULT_WAIT,
            Some(Ok(wait)) if wait <= MAX_WAIT => wait,
            Some(_) => return Err(invalid("wait", "give whole seconds from 0 to 60")),
        };
        let last_event = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
        let positions = match (last_event, query.positions) {
            (Some(id), _) => positions(
                "Last-Event-ID",
                id.to_str().unwrap_or_default(),
                "send the id of the last event as it came",
            )?,
            (None, Some(given)) if !given.is_empty() => positions(
                "positions",
                &given,
                "give a JSON object of positions by topic, percent-encoded",
            )?,
            _ => BTreeMap::new(),
        };
        Ok(Self {
            topics: query.topics.as_deref().map_or_else(|| Ok(Vec::new()), topics)?,
            positions,
            wait: Duration::from_secs(wait),
        })
    }

    /// Whether the caller may have the topics.
    pub(super) fn check(&self, identity: &Identity, public: &[String], max: usize) -> Result<(), Problem> {
        if self.topics.len() > max {
            let detail = format!("a session has at most {max} topics");
            return Err(Problem::invalid("too_many_topics", "topics", detail));
        }
        let forbidden = |topic: &&Name| !identity.may_subscribe(topic.as_str(), public);
        if let Some(topic) = self.topics.iter().find(forbidden) {
            let detail = format!("the token's topics do not allow `{topic}`");
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden_topic", detail).field("topics"));
        }
        Ok(())
    }

    /// Topics that begin where they stand.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &Name> {
        self.topics
            .iter()
            .filter(|topic| !self.positions.contains_key(&public_name(topic)))
    }

    /// The same as commands.
    pub(super) fn commands(&self) -> Vec<Command> {
        let mut commands: Vec<Command> = self.fresh().cloned().map(Command::Subscribe).collect();
        if !self.positions.is_empty() {
            let positions = self.positions.iter();
            commands.push(Command::Resume(
                positions
                    .map(|(topic, at)| (topic.clone(), at.parse().ok()))
                    .collect(),
            ));
        }
        commands
    }
}

/// How frames name an explicit topic.
pub(super) fn public_name(topic: &Name) -> String {
    format!("topic:{topic}")
}

fn invalid(field: &str, detail: &str) -> Problem {
    Problem::invalid("invalid_value", field, detail)
}

fn positions(field: &str, text: &str, detail: &str) -> Result<BTreeMap<String, String>, Problem> {
    let read = serde_json::from_str::<BTreeMap<String, String>>(text);
    let positions = read.map_err(|_| invalid(field, detail))?;
    if positions.len() > MAX_ITEMS {
        return Err(invalid(field, "give at most 1000 positions"));
    }
    Ok(positions)
}

/// `a,b`, or a JSON array.
fn topics(text: &str) -> Result<Vec<Name>, Problem> {
    let names: Vec<String> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| {
            invalid(
                "topics",
                "give names with commas between, or a JSON array of texts",
            )
        })?
    } else if text.is_empty() {
        Vec::new()
    } else {
        text.split(',').map(str::to_owned).collect()
    };
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(names.len());
    for name in names {
        let topic = Name::new(&name)
            .map_err(|_| invalid("topics", "a name has 1 to 256 bytes, and no U+0000 among them"))?;
        if seen.insert(name) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, last_event: Option<&str>) -> Result<Asked, Problem> {
        let uri = format!("/api/v1/sse?{query}").parse().unwrap();
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event {
            headers.insert(LAST_EVENT_ID, id.parse().unwrap());
        }
        Asked::read(&uri, &headers)
    }

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| Name::new(name).unwrap()).collect()
    }

    #[test]
    fn a_request_says_what_a_client_would() {
        let asked = parse("", None).unwrap();
        assert_eq!(asked.commands(), []);
        assert_eq!(asked.wait, Duration::from_secs(25));
        let asked = parse(
            "topics=a,b,a&wait=0&positions=%7B%22topic:b%22:%22a:1:0%22%7D",
            None,
        )
        .unwrap();
        assert_eq!(asked.topics, names(&["a", "b"]));
        assert_eq!(
            asked.commands(),
            [
                Command::Subscribe(names(&["a"]).remove(0)),
                Command::Resume(vec![("topic:b".to_owned(), "a:1:0".parse().ok())]),
            ]
        );
        let asked = parse("topics=%5B%22a,b%22%5D", None).unwrap();
        assert_eq!(asked.topics, names(&["a,b"]));
        // The last event is newer than what the page's address says.
        let asked = parse(
            "positions=%7B%22user%22:%22old%22%7D",
            Some(r#"{"tenant":"new"}"#),
        )
        .unwrap();
        assert!(asked.positions.keys().eq(["tenant"]));
        assert_eq!(
            parse("topics=&positions=", Some("")).unwrap(),
            parse("", None).unwrap()
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, last_event, field) in [
            ("wait=x", None, "wait"),
            ("wait=61", None, "wait"),
            ("wait=-1", None, "wait"),
            ("topics=a,,b", None, "topics"),
            ("topics=%5B1%5D", None, "topics"),
            ("topics=%5B", None, "topics"),
            ("positions=x", None, "positions"),
            ("positions=%5B%5D", None, "positions"),
            ("positions=%7B%22user%22:1%7D", None, "positions"),
            ("", Some("x"), "Last-Event-ID"),
        ] {
            let problem = parse(query, last_event).unwrap_err();
            assert_eq!(
                (problem.code, problem.field.as_deref()),
                ("invalid_value", Some(field)),
                "{query}"
            );
        }
        let many: BTreeMap<String, String> = (0..1001).map(|n| (n.to_string(), String::new())).collect();
        let many = serde_json::to_string(&many).unwrap();
        assert_eq!(
            parse("", Some(&many)).unwrap_err().field.as_deref(),
            Some("Last-Event-ID")
        );
    }
}
