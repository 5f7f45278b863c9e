//! A rule that can be asked: its expressions compiled, its notification a shape to be filled in.

use minijinja::Environment;
use serde_json::{Map, Value};

use crate::{
    model::EventRule,
    template::{RenderError, Snippets, Variables},
};

/// Bytes of a rule's notification as JSON.
const MAX_BYTES: usize = 64 * 1024;
/// Texts with expressions of one rule.
const MAX_EXPRESSIONS: usize = 64;
/// Bytes of a condition.
const MAX_CONDITION: usize = 4096;
/// Lists and objects inside each other.
const MAX_DEPTH: usize = 16;
/// Bytes of the type that a rule is about.
const MAX_EVENT: usize = 256;

/// Why a rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub(crate) struct InvalidRule {
    /// Which field.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

/// An expression of a rule that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {error}")]
pub(crate) struct RuleFailed {
    /// Which field has the expression.
    pub(crate) field: String,
    /// What went wrong.
    pub(crate) error: RenderError,
}

/// A value that is filled in from an event.
#[derive(Debug)]
enum Shape {
    /// As it stands.
    Plain(Value),
    /// A text with expressions in it.
    Text(usize),
    /// An expression alone: the value itself, as JSON, and as it would be written.
    Value {
        json: usize,
        written: usize,
    },
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// A rule that can be asked.
#[derive(Debug)]
pub(crate) struct Rule {
    rule: EventRule,
    snippets: Snippets,
    condition: Option<usize>,
    notification: Shape,
}

fn invalid(field: impl Into<String>, detail: impl Into<String>) -> InvalidRule {
    InvalidRule {
        field: field.into(),
        detail: detail.into(),
    }
}

impl Rule {
    /// Checks and compiles a rule.
    ///
    /// # Errors
    /// [`InvalidRule`] names the field.
    pub(crate) fn compile(base: &Environment<'static>, rule: EventRule) -> Result<Self, InvalidRule> {
        check_event(&rule.body.event)?;
        if rule.body.notification.is_empty() {
            return Err(invalid("notification", "says nothing"));
        }
        let bytes = serde_json::to_string(&rule.body.notification).map_or(0, |text| text.len());
        if bytes > MAX_BYTES {
            return Err(invalid(
                "notification",
                format!("has more than {MAX_BYTES} bytes"),
            ));
        }
        let mut snippets = Snippets::new(base);
        let condition = match &rule.body.when {
            None => None,
            Some(text) if text.len() > MAX_CONDITION => {
                return Err(invalid("when", format!("has more than {MAX_CONDITION} bytes")));
            }
            Some(text) => {
                if text.contains("%}") {
                    return Err(invalid("when", "is an expression, without `{%` and `%}`"));
                }
                let source = format!("{{% if {text} %}}1{{% endif %}}");
                Some(snippets.add(&source).map_err(|detail| invalid("when", detail))?)
            }
        };
        let mut left = MAX_EXPRESSIONS;
        let members = &rule.body.notification;
        let notification = object(&mut snippets, &mut left, "notification", members, 0)?;
        Ok(Self {
            rule,
            snippets,
            condition,
            notification,
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.rule.name
    }

    /// From 1; 0 for one of the configuration.
    pub(crate) fn version(&self) -> u32 {
        self.rule.version
    }

    /// What it says.
    pub(crate) fn said(&self) -> &EventRule {
        &self.rule
    }

    /// Whether it is on, and about events of this type.
    pub(crate) fn is_about(&self, kind: &str) -> bool {
        let event = self.rule.body.event.as_str();
        self.rule.body.enabled
            && match event.strip_suffix('*') {
                Some(begin) => kind.starts_with(begin),
                None => kind == event,
            }
    }

    /// Whether its condition holds. A condition on what the event does not have does not.
    ///
    /// # Errors
    /// [`RuleFailed`].
    pub(crate) fn holds(&self, variables: &Variables) -> Result<bool, RuleFailed> {
        let Some(condition) = self.condition else {
            return Ok(true);
        };
        match self.snippets.render(condition, variables) {
            Ok(text) => Ok(!text.is_empty()),
            Err(RenderError::Missing(_)) => Ok(false),
            Err(error) => Err(RuleFailed {
                field: "when".to_owned(),
                error,
            }),
        }
    }

    /// The body of the notification that an event becomes.
    ///
    /// # Errors
    /// [`RuleFailed`] names the field.
    pub(crate) fn notification(&self, variables: &Variables) -> Result<Value, RuleFailed> {
        self.fill(&self.notification, "notification", variables)
    }

    fn fill(&self, shape: &Shape, field: &str, variables: &Variables) -> Result<Value, RuleFailed> {
        let failed = |error| RuleFailed {
            field: field.to_owned(),
            error,
        };
        match shape {
            Shape::Plain(value) => Ok(value.clone()),
            Shape::Text(number) => self
                .snippets
                .render(*number, variables)
                .map(Value::String)
                .map_err(failed),
            Shape::Value { json, written } => {
                let text = self.snippets.render(*json, variables).map_err(failed)?;
                if text == "null" {
                    // What is not there is written as null, too; said to be `none` it is left out, else it is missing.
                    self.snippets.render(*written, variables).map_err(failed)?;
                }
                serde_json::from_str(&text).map_err(|error| {
                    failed(RenderError::Failed {
                        line: 0,
                        detail: format!("is no value that a notification could have: {error}"),
                    })
                })
            }
            Shape::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.fill(item, &format!("{field}[{index}]"), variables))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Shape::Object(members) => {
                let mut filled = Map::with_capacity(members.len());
                for (name, member) in members {
                    let value = self.fill(member, &format!("{field}.{name}"), variables)?;
                    // What an expression leaves open is not said.
                    if !(value.is_null() && matches!(member, Shape::Value { .. })) {
                        filled.insert(name.clone(), value);
                    }
                }
                Ok(Value::Object(filled))
            }
        }
    }
}

fn check_event(event: &str) -> Result<(), InvalidRule> {
    let begin = event.strip_suffix('*').unwrap_or(event);
    if event.is_empty() || event.len() > MAX_EVENT {
        return Err(invalid("event", format!("has 1 to {MAX_EVENT} bytes")));
    }
    if begin.contains('*') || begin.contains('\0') {
        return Err(invalid(
            "event",
            "is a type, or the begin of several with `*` at its end",
        ));
    }
    Ok(())
}

fn shape(
    snippets: &mut Snippets,
    left: &mut usize,
    field: &str,
    value: &Value,
    depth: usize,
) -> Result<Shape, InvalidRule> {
    if depth > MAX_DEPTH {
        return Err(invalid(field, format!("is nested more than {MAX_DEPTH} deep")));
    }
    match value {
        Value::String(text) if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) => {
            *left = left.checked_sub(1).ok_or_else(|| {
                invalid(
                    field,
                    format!(
                        "is the {}th text with expressions; a rule has at most {MAX_EXPRESSIONS}",
                        MAX_EXPRESSIONS + 1
                    ),
                )
            })?;
            let add = |source: &str, snippets: &mut Snippets| {
                snippets.add(source).map_err(|detail| invalid(field, detail))
            };
            match expression(text) {
                Some(expression) => {
                    // It has to stand by itself before it is put into brackets.
                    let written = add(&format!("{{{{ {expression} }}}}"), snippets)?;
                    let json = add(&format!("{{{{ ({expression})|tojson }}}}"), snippets)?;
                    Ok(Shape::Value { json, written })
                }
                None => add(text, snippets).map(Shape::Text),
            }
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| shape(snippets, left, &format!("{field}[{index}]"), item, depth + 1))
            .collect::<Result<_, _>>()
            .map(Shape::List),
        Value::Object(members) => object(snippets, left, field, members, depth),
        plain => Ok(Shape::Plain(plain.clone())),
    }
}

fn object(
    snippets: &mut Snippets,
    left: &mut usize,
    field: &str,
    members: &Map<String, Value>,
    depth: usize,
) -> Result<Shape, InvalidRule> {
    members
        .iter()
        .map(|(name, member)| {
            let field = format!("{field}.{name}");
            Ok((name.clone(), shape(snippets, left, &field, member, depth + 1)?))
        })
        .collect::<Result<_, _>>()
        .map(Shape::Object)
}

/// The expression of a text that is nothing but one.
fn expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner).trim();
    (!inner.is_empty() && !inner.contains("{{") && !inner.contains("}}")).then_some(inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{model::RuleBody, template::environment};

    fn rule(event: &str, when: Option<&str>, notification: Value) -> Result<Rule, InvalidRule> {
        let Value::Object(notification) = notification else {
            panic!("a notification is an object");
        };
        let body = RuleBody {
            event: event.to_owned(),
            when: when.map(str::to_owned),
            notification,
            enabled: true,
        };
        let rule = EventRule {
            name: "r".to_owned(),
            version: 1,
            body,
        };
        Rule::compile(&environment(), rule)
    }

    fn vars(value: Value) -> Variables {
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    #[test]
    fn s3_4_a_value_keeps_its_kind_and_a_text_is_written() {
        let rule = rule(
            "a",
            None,
            json!({
                "user_id": "{{ user }}", "data": {"amount": "{{ amount }}", "none": "{{ x|default(none) }}"},
                "title": "{{ user }} paid {{ amount }}", "recipients": ["{{ mails[0] }}", "b@example.com"],
                "content": "plain", "variables": "{{ all }}", "priority": 2, "recipient": "{{ mail|default(none) }}",
            }),
        )
        .unwrap();
        let made = rule
            .notification(&vars(json!({
                "user": "u1", "amount": 12.5, "mails": ["a@example.com"], "all": {"k": [1, true, null, "</b>"]},
            })))
            .unwrap();
        assert_eq!(
            made,
            json!({
                "user_id": "u1", "data": {"amount": 12.5}, "title": "u1 paid 12.5",
                "recipients": ["a@example.com", "b@example.com"], "content": "plain",
                "variables": {"k": [1, true, null, "</b>"]}, "priority": 2,
            })
        );
    }

    #[test]
    fn s3_4_conditions_hold_or_do_not() {
        for (when, event, holds) in [
            ("amount > 100", json!({"amount": 101}), true),
            ("amount > 100", json!({"amount": 100}), false),
            ("amount > 100", json!({}), false),
            ("kind == 'a' or kind == 'b'", json!({"kind": "b"}), true),
            ("user.vip", json!({"user": {"vip": true}}), true),
            ("user.vip", json!({"user": {}}), false),
            ("x is defined", json!({}), false),
            ("'a' in tags", json!({"tags": ["a"]}), true),
        ] {
            let rule = rule("a", Some(when), json!({"title": "t"})).unwrap();
            assert_eq!(rule.holds(&vars(event)), Ok(holds), "{when}");
        }
        let failing = rule("a", Some("a + 1 > 2"), json!({"title": "t"})).unwrap();
        let failed = failing.holds(&vars(json!({"a": "text"}))).unwrap_err();
        assert_eq!(failed.field, "when");
    }

    #[test]
    fn what_an_event_says_is_never_read_as_an_expression() {
        let rule = rule("a", None, json!({"title": "{{ a }}", "content": "x {{ a }}"})).unwrap();
        let made = rule.notification(&vars(json!({"a": "{{ 1 + 1 }}"}))).unwrap();
        assert_eq!(made, json!({"title": "{{ 1 + 1 }}", "content": "x {{ 1 + 1 }}"}));
    }

    #[test]
    fn types_are_told_apart() {
        let about =
            |event: &str, kind: &str| rule(event, None, json!({"title": "t"})).unwrap().is_about(kind);
        assert!(about("a.b", "a.b") && !about("a.b", "a.b.c") && !about("a.b", "a"));
        assert!(about("a.*", "a.b") && !about("a.*", "ab") && about("*", "x"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
        let many: Vec<Value> = (0..65).map(|_| json!("{{ a }}")).collect();
        for (event, when, notification, field) in [
            ("", None, json!({"title": "t"}), "event"),
            ("a*b", None, json!({"title": "t"}), "event"),
            ("a", Some("1 +"), json!({"title": "t"}), "when"),
            ("a", Some("true %}{% if true"), json!({"title": "t"}), "when"),
            ("a", None, json!({}), "notification"),
            (
                "a",
                None,
                json!({"to": {"user": "{{ a b }}"}}),
                "notification.to.user",
            ),
            (
                "a",
                None,
                json!({"title": "x {{ a|nofilter }}"}),
                "notification.title",
            ),
            (
                "a",
                None,
                json!({"title": "{{ a)|upper|tojson }}{{ (b }}"}),
                "notification.title",
            ),
            ("a", None, json!({"title": "{{ a) ~ (b }}"}), "notification.title"),
            (
                "a",
                None,
                json!({"recipients": many}),
                "notification.recipients[64]",
            ),
            ("a", None, json!({"title": "a".repeat(70_000)}), "notification"),
        ] {
            assert_eq!(rule(event, when, notification).unwrap_err().field, field);
        }
        assert!(
            rule("a", None, json!({"data": deep}))
                .unwrap_err()
                .detail
                .contains("deep")
        );
    }

    #[test]
    fn work_is_bounded() {
        let rule = rule(
            "a",
            Some("(range(10000)|list)|length > 1"),
            json!({"title": "{{ 'a' * 300000 }}"}),
        )
        .unwrap();
        let failed = rule.notification(&Map::new()).unwrap_err();
        assert_eq!(failed.error, RenderError::TooMuch);
    }
}
