//! From a checked body to what is stored: template, contacts, deliveries, rows of the inbox.

use std::sync::Arc;

use common::{
    http::Problem,
    ids::{Name, NotificationId},
    target::{Audience, Target},
    token::Identity,
    topic::TopicKind,
};
use serde_json::{Map, Value, json};

use super::{
    address::{check_list, check_webhooks},
    chains::{self, Layout},
    draft::{Draft, TemplateReference},
    planner::Planner,
    references::References,
    state::ApiState,
    words::{parse_channels, priority},
};
use crate::{
    model::{
        Channel, Content, GroupJob, InboxFilter, InboxRoute, Kind, Lane, NewNotification, Strategy, Template,
    },
    template::{RenderError, Rendered},
};

/// A notification that is ready to be accepted.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) notification: NewNotification,
    /// S1's `results`: by the caller's channel name, whether it was accepted for sending.
    pub(crate) results: Vec<(String, bool)>,
    /// The version of the template that it was made with.
    pub(crate) template_version: Option<u32>,
}

/// Plans a notification. Nothing is stored.
pub(crate) async fn plan(state: &ApiState, caller: &Identity, draft: Draft) -> Result<Plan, Problem> {
    let mut references = References::default();
    references
        .add_templates(state, caller, std::iter::once(&draft))
        .await?;
    let outline = Outline::of(state, draft, &references)?;
    references
        .add_contacts(state, caller, std::iter::once(&outline))
        .await?;
    outline.plan(state, caller, &references)
}

/// Plans many notifications, each for itself. What they refer to is looked up once for all of them. An error is the
/// store's, and of no single one.
pub(crate) async fn plan_all(
    state: &ApiState,
    caller: &Identity,
    drafts: Vec<Result<Draft, Problem>>,
) -> Result<Vec<Result<Plan, Problem>>, Problem> {
    let mut references = References::default();
    references
        .add_templates(state, caller, drafts.iter().flatten())
        .await?;
    let mut outlines = Vec::with_capacity(drafts.len());
    for draft in drafts {
        outlines.push(draft.and_then(|draft| Outline::of(state, draft, &references)));
        rest_after(outlines.len()).await;
    }
    references
        .add_contacts(state, caller, outlines.iter().flatten())
        .await?;
    let mut plans = Vec::with_capacity(outlines.len());
    for outline in outlines {
        plans.push(outline.and_then(|outline| outline.plan(state, caller, &references)));
        rest_after(plans.len()).await;
    }
    Ok(plans)
}

/// Lets others have the thread now and then: a thousand templates take milliseconds.
async fn rest_after(done: usize) {
    if done.is_multiple_of(64) {
        tokio::task::yield_now().await;
    }
}

/// A draft with its template rendered and its channels known: what contacts it needs can be said.
#[derive(Debug)]
pub(super) struct Outline {
    draft: Draft,
    template: Option<Arc<Template>>,
    rendered: Option<Rendered>,
    channels: Vec<(String, Channel)>,
    /// Whom it names, without those who are left out.
    users: Vec<Name>,
}

impl Outline {
    fn of(state: &ApiState, draft: Draft, references: &References) -> Result<Self, Problem> {
        let template = match &draft.template {
            Some(reference) => chosen(reference, &draft, references)?,
            None => None,
        };
        let rendered = template
            .as_ref()
            .map(|template| rendered(state, template, draft.variables.0, &draft.variables.1))
            .transpose()?;
        let channels = chains::in_order(&draft.arrangement, channels(&draft, template.as_deref())?)?;
        check_webhooks(&draft.addresses, &channels, |url| {
            state.service.check_webhook(url)
        })?;
        check_list(&draft.addresses, &channels)?;
        let users = named_users(&draft);
        Ok(Self {
            draft,
            template,
            rendered,
            channels,
            users,
        })
    }

    /// The users whose contacts say where an external channel reaches them.
    pub(super) fn contacts_needed(&self, state: &ApiState) -> &[Name] {
        let needed = self.channels.iter().any(|(_, channel)| {
            channel.is_external()
                && state.service.is_configured(*channel)
                && self.draft.addresses.of(*channel).is_empty()
        });
        if needed { &self.users } else { &[] }
    }

    fn plan(self, state: &ApiState, caller: &Identity, references: &References) -> Result<Plan, Problem> {
        let Self {
            draft,
            template,
            rendered,
            channels,
            users,
        } = self;
        let (title, content, html) = match rendered {
            Some(Rendered { title, content, html }) => (title, content, html.or(draft.html)),
            None => (
                required("title", draft.title)?,
                required("content", draft.content)?,
                draft.html,
            ),
        };
        let body = template.as_ref().map(|template| &template.body);
        let (priority, lane) = match (draft.priority, body.and_then(|body| body.priority.as_ref())) {
            (Some(given), _) => given,
            (None, Some(word)) => priority(Value::String(word.clone()))?,
            (None, None) => (json!("normal"), Lane::Medium),
        };
        let kind = draft
            .kind
            .or_else(|| body.and_then(|body| body.kind))
            .unwrap_or(Kind::Info);

        let inbox = match &draft.audience {
            Some(audience) if channels.iter().any(|(_, channel)| *channel == Channel::InApp) => {
                routes(audience, caller)
            }
            _ => Vec::new(),
        };
        let users: Vec<_> = users
            .into_iter()
            .map(|user| {
                let contact = references.contact(&user);
                (user, contact)
            })
            .collect();
        let mut planner = Planner {
            state,
            audience: draft.audience.as_ref(),
            users: &users,
            visible: draft.visible_at <= draft.now,
            now: draft.now,
            due_at: draft.visible_at,
            deliveries: Vec::new(),
            job: Vec::new(),
        };
        let mut results = Vec::with_capacity(channels.len());
        for (name, channel) in &channels {
            let accepted = match channel {
                Channel::InApp => planner.in_app(!inbox.is_empty()),
                Channel::Realtime => planner.realtime(),
                external => planner.external(*external, &draft.addresses.of(*external)),
            };
            results.push((name.clone(), accepted));
        }
        let Planner {
            mut deliveries, job, ..
        } = planner;
        let mut laid_out = Vec::new();
        if draft.arrangement.strategy != Strategy::All {
            (deliveries, laid_out) = Layout {
                arrangement: &draft.arrangement,
                config: &state.strategy,
                users: &users,
                channels: &channels,
                now: draft.now,
                begins_at: draft.visible_at,
                expires_at: draft.expires_at,
            }
            .lay_out(deliveries)?;
        }
        // Chains are decided by what clients say, not by what hubs have written.
        let receipt = draft.receipt || (!laid_out.is_empty() && draft.audience.is_some());
        let job = draft
            .audience
            .clone()
            .filter(|_| !job.is_empty())
            .map(|audience| GroupJob {
                audience,
                channels: job,
            });
        let notification = NewNotification {
            id: NotificationId::generate(),
            tenant: caller.tenant.clone(),
            sender: caller.user.as_str().to_owned(),
            audience: draft.audience,
            content: Content {
                title,
                content,
                html,
                kind,
                priority,
                category: draft.category,
                data: draft.data,
                source: draft.source,
                template: template.as_ref().map(|template| template.body.name.clone()),
                group_key: draft.group_key,
                collapse_key: draft.collapse_key,
                receipt,
            },
            lane,
            strategy: draft.arrangement.strategy,
            channels: channels.into_iter().map(|(name, _)| name).collect(),
            inbox,
            deliveries,
            chains: laid_out,
            job,
            created_at: draft.now,
            visible_at: draft.visible_at,
            expires_at: draft.expires_at,
            idempotency: Vec::new(),
        };
        Ok(Plan {
            notification,
            results,
            template_version: template.map(|template| template.version),
        })
    }
}

fn required(field: &'static str, text: Option<String>) -> Result<String, Problem> {
    text.filter(|text| !text.is_empty()).ok_or_else(|| {
        Problem::invalid(
            "missing_field",
            field,
            format!("`{field}` is needed where no template is named"),
        )
    })
}

/// The template that the body names: the tenant's own by id or name, else a predefined one. S3's example names one
/// beside title and content: where it does not exist, these are sent.
fn chosen(
    reference: &TemplateReference,
    draft: &Draft,
    references: &References,
) -> Result<Option<Arc<Template>>, Problem> {
    let found = references.template(&reference.name);
    if found.is_none() && !(draft.title.is_some() && draft.content.is_some()) {
        return Err(Problem::invalid(
            "unknown_template",
            reference.field,
            "there is no such template; create it with POST /api/v1/templates, or send title and content",
        ));
    }
    Ok(found)
}

/// A template with values, which came in the field of this name.
pub(super) fn rendered(
    state: &ApiState,
    template: &Template,
    field: &'static str,
    variables: &Map<String, Value>,
) -> Result<Rendered, Problem> {
    let compiled = state
        .templates()
        .compiled(template)
        .map_err(|error| Problem::invalid("invalid_template", "template", error.to_string()))?;
    compiled.render(variables).map_err(|error| match &error {
        RenderError::Missing(path) => Problem::invalid(
            "template_variable_missing",
            format!("{field}.{path}"),
            error.to_string(),
        ),
        RenderError::TooMuch => Problem::invalid("template_too_much", field, error.to_string()),
        RenderError::Failed { .. } => {
            let name = &template.body.name;
            Problem::invalid("template_failed", field, format!("template `{name}`: {error}"))
        }
    })
}

/// The channels: the body's, the template's, or the defaults, and whether they make sense with target and addresses.
fn channels(draft: &Draft, template: Option<&Template>) -> Result<Vec<(String, Channel)>, Problem> {
    let of_template = template
        .map(|template| template.body.channels.clone())
        .filter(|names| !names.is_empty());
    let channels = match (&draft.channels, of_template) {
        (Some(channels), _) => channels.clone(),
        (None, Some(names)) => parse_channels("channels", names)?,
        (None, None) => vec![
            ("in_app".to_owned(), Channel::InApp),
            ("realtime".to_owned(), Channel::Realtime),
        ],
    };
    let external = channels.iter().any(|(_, channel)| channel.is_external());
    match &draft.audience {
        Some(audience) if external && has_topic(&audience.target) => Err(Problem::invalid(
            "channel_not_for_topic",
            "channels",
            "a topic is live only: `in_app` and `realtime`; nobody knows who would have to get an email",
        )),
        Some(_) => Ok(channels),
        // Robots and webhooks with a destination of their own would do without; this version has none to configure.
        None if draft.addresses.is_empty() => Err(Problem::invalid(
            "no_target",
            "to",
            "say for whom: `to`, `user_id`, `role`, `store_id`, or an address in `recipient`",
        )),
        None if external => Ok(channels),
        None => Err(Problem::invalid(
            "no_channel",
            "channels",
            "an address alone needs a channel that takes it, for example `email`",
        )),
    }
}

fn has_topic(target: &Target) -> bool {
    match target {
        Target::Topic(_) => true,
        Target::AllOf(members) | Target::AnyOf(members) => members.iter().any(has_topic),
        _ => false,
    }
}

/// The users that are named and not left out.
fn named_users(draft: &Draft) -> Vec<Name> {
    let Some(audience) = &draft.audience else {
        return Vec::new();
    };
    let mut users = match &audience.target {
        Target::User(user) => vec![user.clone()],
        Target::Users(users) => users.clone(),
        _ => return Vec::new(),
    };
    users.retain(|user| !audience.except.covers(user.as_str(), ""));
    users
}

/// Rows of the inbox. A topic has none: nobody can tell afterwards who was subscribed.
fn routes(audience: &Audience, caller: &Identity) -> Vec<InboxRoute> {
    let mut except = audience.except.users.clone();
    except.extend(audience.except.user.clone());
    let named = matches!(audience.target, Target::User(_) | Target::Users(_));
    let expression = matches!(audience.target, Target::AllOf(_) | Target::AnyOf(_));
    audience
        .target
        .routes(&caller.tenant)
        .into_iter()
        .filter(|route| {
            let topic = std::iter::once(&route.key)
                .chain(&route.require)
                .any(|key| key.kind() == TopicKind::Topic);
            let left_out = named
                && route
                    .key
                    .name()
                    .is_some_and(|user| except.iter().any(|name| name.as_str() == user));
            !topic && !left_out
        })
        .map(|route| InboxRoute {
            key: route.key,
            filter: (expression || (!named && !except.is_empty())).then(|| InboxFilter {
                require: route.require,
                except: except.clone(),
            }),
        })
        .collect()
}
