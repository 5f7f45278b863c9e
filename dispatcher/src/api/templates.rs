//! Templates: made by callers in the spellings of S0 and S3, and the predefined ones of S1.

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{Caller, JsonBody, Problem},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    draft,
    extract::{Segment, TemplateWriter},
    problems::store_problem,
    references,
    state::ApiState,
    words,
};
use crate::{
    model::{Kind, NewTemplate, Syntax, Template},
    template::{InvalidTemplate, predefined},
};

/// Variables that one template may declare.
const MAX_VARIABLES: usize = 200;

/// A template to make.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TemplateBody {
    /// Unique in the tenant, at most 256 bytes.
    name: Option<String>,
    /// Source of the title.
    title: Option<String>,
    /// Alias of `title`.
    subject: Option<String>,
    /// Source of the text.
    content: Option<String>,
    /// Source of an HTML part for email; variables in it are escaped.
    html: Option<String>,
    /// Channels that a send uses when it names none.
    channels: Option<Vec<String>>,
    /// One of `channels`.
    channel: Option<String>,
    /// One of `channels`.
    channel_type: Option<String>,
    /// Priority that a send uses when it names none.
    priority: Option<Value>,
    /// Kind that a send uses when it names none.
    kind: Option<String>,
    /// Alias of `kind`.
    #[serde(rename = "type")]
    kind_alias: Option<String>,
    /// Names of the variables. Where given, each that is used has to be in it, and each in it has to be given when sending.
    variables: Option<Vec<String>>,
    /// `jinja` (default): `{{ name }}`; or `format`: `{name}`.
    syntax: Option<String>,
    /// Has to be the caller's own.
    tenant_id: Option<String>,
}

/// A template as answers show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TemplateView {
    /// Taken by `template_id`.
    #[schema(format = "uuid")]
    id: String,
    /// Taken by `template_name`.
    name: String,
    /// `active`.
    status: &'static str,
    /// From 1.
    version: u32,
    /// Source of the title.
    title: String,
    /// Source of the title.
    subject: String,
    /// Source of the text.
    content: String,
    /// Source of the HTML part.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    /// Channels that a send uses when it names none.
    channels: Vec<String>,
    /// The first of them.
    channel: Option<String>,
    /// The first of them.
    channel_type: Option<String>,
    /// Priority that a send uses when it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
    /// Kind that a send uses when it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    /// The declared variables, else those that are used.
    variables: Vec<String>,
    /// Of title, text and HTML.
    syntax: Syntax,
    /// When its first version was made.
    created_at: String,
    /// When this version was made.
    updated_at: String,
}

impl TemplateView {
    fn of(template: Template, variables: Vec<String>) -> Self {
        let body = template.body;
        Self {
            id: template.id.to_string(),
            name: body.name,
            status: "active",
            version: template.version,
            subject: body.title.clone(),
            title: body.title,
            content: body.content,
            html: body.html,
            channel: body.channels.first().cloned(),
            channel_type: body.channels.first().cloned(),
            channels: body.channels,
            priority: body.priority,
            kind: body.kind,
            variables,
            syntax: body.syntax,
            created_at: template.created_at.rfc3339(),
            updated_at: template.updated_at.rfc3339(),
        }
    }

    fn stored(state: &ApiState, template: Template) -> Self {
        let variables = state
            .templates()
            .compiled(&template)
            .map(|compiled| compiled.variables().to_vec());
        let declared = template.body.variables.clone();
        Self::of(template, variables.unwrap_or(declared))
    }
}

/// Create a template
///
/// It is compiled at once: a syntax error or an undeclared variable is refused. Needs the scope `templates:write`.
#[utoipa::path(
    post, path = "/api/v1/templates", tag = "templates", request_body = TemplateBody,
    responses((status = 201, body = TemplateView), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    TemplateWriter(caller): TemplateWriter,
    origin: Origin,
    JsonBody(body, _): JsonBody<TemplateBody>,
) -> Result<(StatusCode, Json<TemplateView>), Problem> {
    if body
        .tenant_id
        .as_deref()
        .is_some_and(|tenant| tenant != caller.tenant.as_str())
    {
        return Err(draft::tenant_mismatch());
    }
    let new = new_template(body)?;
    let compiled = state.templates().check(&new).map_err(|error| invalid(&error))?;
    let template = state
        .store()
        .create_template(&caller.tenant, new, &origin)
        .await
        .map_err(store_problem)?;
    Ok((
        StatusCode::CREATED,
        Json(TemplateView::of(template, compiled.variables().to_vec())),
    ))
}

fn new_template(body: TemplateBody) -> Result<NewTemplate, Problem> {
    let needed = |field: &'static str, text: Option<String>| {
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| Problem::invalid("missing_field", field, format!("a template needs `{field}`")))
    };
    let name = needed("name", words::short("name", body.name)?)?;
    let title = draft::one([("title", body.title), ("subject", body.subject)])?.map(|(_, title)| title);
    let channels = draft::one([
        ("channels", body.channels),
        ("channel", body.channel.map(|name| vec![name])),
        ("channel_type", body.channel_type.map(|name| vec![name])),
    ])?;
    let channels = channels
        .map(|(field, names)| words::parse_channels(field, names))
        .transpose()?
        .unwrap_or_default();
    let kind = draft::one([("kind", body.kind), ("type", body.kind_alias)])?;
    let priority = body
        .priority
        .map(words::priority)
        .transpose()?
        .map(|(given, _)| match given {
            Value::String(word) => word,
            number => number.to_string(),
        });
    Ok(NewTemplate {
        name,
        title: needed("title", title)?,
        content: needed("content", body.content)?,
        html: body.html,
        channels: channels.into_iter().map(|(name, _)| name).collect(),
        priority,
        kind: kind
            .map(|(field, name)| words::parse_kind(field, &name))
            .transpose()?,
        variables: variables(body.variables.unwrap_or_default())?,
        syntax: match body.syntax.as_deref() {
            None | Some("jinja" | "jinja2") => Syntax::Jinja,
            Some("format") => Syntax::Format,
            Some("go") => {
                return Err(Problem::invalid(
                    "not_supported_yet",
                    "syntax",
                    "Go templates come with a later version",
                ));
            }
            Some(_) => return Err(Problem::invalid("invalid_value", "syntax", "`jinja` or `format`")),
        },
    })
}

fn variables(names: Vec<String>) -> Result<Vec<String>, Problem> {
    if names.len() > MAX_VARIABLES {
        return Err(Problem::invalid(
            "too_many",
            "variables",
            format!("at most {MAX_VARIABLES} variables"),
        ));
    }
    for (index, name) in names.iter().enumerate() {
        let fits = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !fits {
            return Err(Problem::invalid(
                "invalid_name",
                format!("variables[{index}]"),
                "a variable's name has letters, digits and `_`, and does not begin with a digit",
            ));
        }
    }
    Ok(names)
}

fn invalid(error: &InvalidTemplate) -> Problem {
    let code = match error {
        InvalidTemplate::Undeclared { .. } => "template_variable_undeclared",
        InvalidTemplate::TooLong { .. } => "too_long",
        InvalidTemplate::Syntax { .. } | InvalidTemplate::Placeholder { .. } => "template_syntax",
    };
    Problem::invalid(code, error.part(), error.to_string())
}

/// List the tenant's templates
#[utoipa::path(get, path = "/api/v1/templates", tag = "templates", responses((status = 200, body = Vec<TemplateView>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<Json<Vec<TemplateView>>, Problem> {
    let templates = state
        .store()
        .templates(&caller.tenant)
        .await
        .map_err(store_problem)?;
    Ok(Json(
        templates
            .into_iter()
            .map(|template| TemplateView::stored(&state, template))
            .collect(),
    ))
}

/// Get a template
#[utoipa::path(
    get, path = "/api/v1/templates/{id}", tag = "templates",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, body = TemplateView), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<TemplateView>, Problem> {
    let template = references::find(&state, &caller, &id).await?;
    let template = template.ok_or_else(|| Problem::not_found("there is no such template"))?;
    Ok(Json(TemplateView::stored(&state, template)))
}

/// A predefined template.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PredefinedView {
    title: String,
    content: String,
    channels: Vec<String>,
    priority: Option<String>,
}

/// The predefined templates.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PredefinedList {
    /// By name.
    #[schema(value_type = Object)]
    templates: Map<String, Value>,
    count: usize,
}

/// List the predefined templates
///
/// Each tenant has these eight; their variables are written `{name}`.
#[utoipa::path(get, path = "/api/v1/notifications/templates", tag = "templates", responses((status = 200, body = PredefinedList)))]
pub(crate) async fn list_predefined(_caller: Caller) -> Json<PredefinedList> {
    let templates: Map<String, Value> = predefined()
        .iter()
        .map(|template| {
            let body = template.body.clone();
            let view = PredefinedView {
                title: body.title,
                content: body.content,
                channels: body.channels,
                priority: body.priority,
            };
            // Texts and lists of texts always serialise.
            (body.name, serde_json::to_value(view).unwrap_or_default())
        })
        .collect();
    Json(PredefinedList {
        count: templates.len(),
        templates,
    })
}
