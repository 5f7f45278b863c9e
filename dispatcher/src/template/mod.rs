//! Templates: Jinja2 (and `{name}` placeholders) under bounds, strict about missing variables.
//!
//! A template is compiled when it is saved, so that what is stored renders; what is compiled is kept by id and version.

#[cfg(any(test, feature = "test-util"))]
pub(crate) mod bench;
mod bounds;
mod cache;
mod context;
mod engine;
mod error;
mod placeholder;
mod predefined;
mod rewrite;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    cache::Templates,
    engine::{Compiled, Rendered, Snippets, compile, environment},
    error::{InvalidTemplate, RenderError},
    predefined::{find as find_predefined, predefined},
};

/// Variables as a caller gives them.
pub(crate) type Variables = serde_json::Map<String, serde_json::Value>;
