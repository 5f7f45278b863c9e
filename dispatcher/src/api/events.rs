//! From events to notifications that are ready to be accepted: the rules of the tenant, and then the way of every request.

use std::collections::BTreeSet;

use common::{
    http::{Problem, parse_json},
    ids::{Name, TenantId},
    token::Identity,
};

use super::{
    body::NotificationBody,
    draft,
    plan::{self, Plan},
    problems::store_problem,
    rules::Rules,
    state::ApiState,
};
use crate::{
    events::{NOTIFICATION, Rule, RuleFailed, variables},
    model::{Event, Micros},
    template::{RenderError, Variables},
};

/// Rules that one event may match: more is a mistake in them.
const MAX_MATCHES: usize = 20;

/// Why an event becomes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The rule that it failed at; none: no single one.
    pub(crate) rule: Option<String>,
    /// What is wrong.
    pub(crate) problem: Box<Problem>,
}

/// What a rule makes of an event.
#[derive(Debug)]
pub(crate) struct Made {
    /// None: the event is the notification itself.
    pub(crate) rule: Option<String>,
    pub(crate) version: Option<u32>,
    pub(crate) plan: Plan,
}

/// The caller that rules speak for: it may create notifications for the tenant's own, and nothing else.
fn speaker(tenant: &TenantId) -> Result<Identity, Problem> {
    let user =
        Name::new("events").map_err(|error| Problem::invalid("invalid_name", "sender", error.to_string()))?;
    Ok(Identity {
        tenant: tenant.clone(),
        user,
        roles: Vec::new(),
        stores: Vec::new(),
        topics: Vec::new(),
        scopes: BTreeSet::from(["notifications:write".to_owned()]),
        expires_at: i64::MAX,
    })
}

/// Plans events of a tenant by the rules that it has now. An event to which no rule applies becomes nothing; one of which a
/// notification cannot be made is refused as a whole. An error is the store's, and of no single event.
pub(crate) async fn plan_events(
    state: &ApiState,
    tenant: &TenantId,
    events: &[&Event],
) -> Result<Vec<Result<Vec<Made>, Refusal>>, Problem> {
    let rules = state
        .rules()
        .of(&state.service, tenant)
        .await
        .map_err(store_problem)?;
    plan_by(state, tenant, &rules, events).await
}

/// The same by given rules.
pub(crate) async fn plan_by(
    state: &ApiState,
    tenant: &TenantId,
    rules: &Rules,
    events: &[&Event],
) -> Result<Vec<Result<Vec<Made>, Refusal>>, Problem> {
    let speaker = speaker(tenant)?;
    let now = Micros::now();
    let mut drafts = Vec::new();
    // For each event its rules, whose drafts follow each other; none: the event is a notification itself.
    let mut outlines: Vec<Result<Vec<Option<&Rule>>, Refusal>> = Vec::with_capacity(events.len());
    for event in events {
        let outline = match bodies(rules, event) {
            Ok(bodies) => {
                let (rules, bodies): (Vec<_>, Vec<_>) = bodies.into_iter().unzip();
                drafts.extend(bodies.into_iter().map(|body| draft::draft(body, &speaker, now)));
                Ok(rules)
            }
            Err(refusal) => Err(refusal),
        };
        outlines.push(outline);
    }
    let mut plans = plan::plan_all(state, &speaker, drafts).await?.into_iter();
    Ok(outlines
        .into_iter()
        .map(|outline| {
            let rules = outline?;
            let plans: Vec<_> = plans.by_ref().take(rules.len()).collect();
            rules
                .into_iter()
                .zip(plans)
                .map(|(rule, plan)| {
                    let name = rule.map(|rule| rule.name().to_owned());
                    let mut plan = plan.map_err(|problem| Refusal {
                        rule: name.clone(),
                        problem: Box::new(problem),
                    })?;
                    if let Some(name) = &name {
                        plan.notification.sender = format!("rule:{name}");
                    }
                    Ok(Made {
                        rule: name,
                        version: rule.map(Rule::version),
                        plan,
                    })
                })
                .collect()
        })
        .collect())
}

/// The bodies that rules make of an event.
fn bodies<'a>(rules: &'a Rules, event: &Event) -> Result<Vec<(Option<&'a Rule>, NotificationBody)>, Refusal> {
    if event.kind == NOTIFICATION {
        let data = match event.data.get("event_type") {
            // Of a seed's body, the members are the event's.
            Some(_) => event.data.get("data").unwrap_or(&event.data),
            None => &event.data,
        };
        let body = read(data.to_string().as_bytes()).map_err(|problem| Refusal {
            rule: None,
            problem: Box::new(problem),
        })?;
        return Ok(vec![(None, body)]);
    }
    let about: Vec<&Rule> = rules
        .iter()
        .map(|rule| &**rule)
        .filter(|rule| rule.is_about(&event.kind))
        .collect();
    if about.is_empty() {
        return Ok(Vec::new());
    }
    let variables = variables(event);
    let mut bodies = Vec::with_capacity(about.len());
    for rule in about {
        let refuse = |problem| Refusal {
            rule: Some(rule.name().to_owned()),
            problem: Box::new(problem),
        };
        if rule
            .holds(&variables)
            .map_err(|failed| refuse(problem(&failed)))?
        {
            bodies.push((Some(rule), body(rule, &variables).map_err(refuse)?));
        }
    }
    if bodies.len() > MAX_MATCHES {
        let detail = format!(
            "{} rules apply to one event; at most {MAX_MATCHES} may",
            bodies.len()
        );
        return Err(Refusal {
            rule: None,
            problem: Box::new(Problem::invalid("too_many_rules", "event", detail)),
        });
    }
    Ok(bodies)
}

fn body(rule: &Rule, variables: &Variables) -> Result<NotificationBody, Problem> {
    let value = rule.notification(variables).map_err(|failed| problem(&failed))?;
    read(value.to_string().as_bytes())
}

/// The body of a notification, as a rule makes it.
pub(super) fn read(json: &[u8]) -> Result<NotificationBody, Problem> {
    let body: NotificationBody = parse_json(json)?;
    for (name, given) in [
        ("idempotency_key", body.idempotency_key.is_some()),
        ("dry_run", body.dry_run.is_some()),
    ] {
        if given {
            return Err(Problem::invalid(
                "not_of_a_rule",
                name,
                "an event is taken in once by its own name; leave it out",
            ));
        }
    }
    Ok(body)
}

/// What an expression came to, as other refusals are told.
fn problem(failed: &RuleFailed) -> Problem {
    let code = match &failed.error {
        RenderError::Missing(_) => "event_field_missing",
        RenderError::TooMuch => "rule_too_much",
        RenderError::Failed { .. } => "rule_failed",
    };
    let detail = match &failed.error {
        RenderError::Missing(path) => format!(
            "the event has no `{path}`; where it may be missing, the rule says `{path}|default(none)`"
        ),
        other => other.to_string(),
    };
    Problem::invalid(code, failed.field.clone(), detail)
}
