//! Templates: Jinja2 (and `{name}` placeholders) under bounds, strict about missing variables.
//!
//! A template is compiled when it is saved, so that what is stored renders; what is compiled is kept by id and version.

mod cache;
mod engine;
mod placeholder;
mod predefined;

pub use self::{
    cache::Templates,
    engine::{Compiled, InvalidTemplate, RenderError, Rendered, Variables, compile, environment},
    placeholder::{InvalidPlaceholder, to_jinja},
    predefined::{find as find_predefined, predefined},
};
