//! Templates as they are stored.

use common::ids::TenantId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Kind, Micros};

/// The language of a template's parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Syntax {
    /// Jinja2: `{{ name }}`, `{% if %}`, `{% for %}`, filters.
    #[default]
    Jinja,
    /// Python's format placeholders: `{name}`.
    Format,
}

/// A template as a caller makes it, its parts in the caller's own syntax.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewTemplate {
    /// Unique in the tenant.
    pub name: String,
    /// Source of the title (S0's `subject`).
    pub title: String,
    /// Source of the content.
    pub content: String,
    /// Source of an HTML part for email.
    pub html: Option<String>,
    /// Channels that a send uses when it names none.
    pub channels: Vec<String>,
    /// Priority that a send uses when it names none.
    pub priority: Option<String>,
    /// Kind that a send uses when it names none.
    pub kind: Option<Kind>,
    /// Declared variables; each must be given when rendering. Empty: none declared, so those that are used.
    pub variables: Vec<String>,
    /// The language of `title`, `content` and `html`.
    #[serde(default)]
    pub syntax: Syntax,
}

/// A stored template's newest version.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Its id.
    pub id: Uuid,
    /// Whose; none for the predefined ones.
    pub tenant: Option<TenantId>,
    /// From 1.
    pub version: u32,
    /// The parts.
    pub body: NewTemplate,
    /// When its first version was made.
    pub created_at: Micros,
    /// When this version was made.
    pub updated_at: Micros,
}
