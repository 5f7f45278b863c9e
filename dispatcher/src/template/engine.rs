//! Compiling and rendering, with minijinja under bounds.

use std::{
    collections::{BTreeSet, HashSet},
    fmt, io,
    sync::Arc,
};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, value::Value};

use super::{
    Variables, bounds,
    context::Context,
    error::{InvalidTemplate, RenderError},
    placeholder,
    rewrite::rewrite,
};
use crate::model::{NewTemplate, Syntax};

/// Steps that one part may take; a loop over 1000 items of a table takes some 20,000.
const FUEL: u64 = 500_000;
/// Bytes that one rendered part may have.
const MAX_OUTPUT: usize = 256 * 1024;
/// Bytes of source that one part may have.
pub(crate) const MAX_SOURCE: usize = 64 * 1024;

/// What a template says with its variables filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub content: String,
    /// HTML, with escaped variables.
    pub html: Option<String>,
}

/// A template ready to render. Rendering is `&self`.
pub(crate) struct Compiled {
    environment: Environment<'static>,
    has_html: bool,
    declared: Vec<String>,
    used: Vec<String>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled")
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// The parts, by the names that decide how they are escaped.
const TITLE: (&str, &str) = ("title", "title.txt");
const CONTENT: (&str, &str) = ("content", "content.txt");
const HTML: (&str, &str) = ("html", "html.html");

/// Checks and compiles a template.
///
/// # Errors
/// [`InvalidTemplate`] says which part is wrong and why.
pub(crate) fn compile(
    base: &Environment<'static>,
    template: &NewTemplate,
) -> Result<Compiled, InvalidTemplate> {
    let mut environment = base.clone();
    let mut used = BTreeSet::new();
    let parts = [
        (TITLE, Some(&template.title)),
        (CONTENT, Some(&template.content)),
        (HTML, template.html.as_ref()),
    ];
    for ((part, name), source) in parts {
        let Some(source) = source else { continue };
        if source.len() > MAX_SOURCE {
            return Err(InvalidTemplate::TooLong { part });
        }
        let source = match template.syntax {
            Syntax::Jinja => source.clone(),
            Syntax::Format => placeholder::to_jinja(source)
                .map_err(|source| InvalidTemplate::Placeholder { part, source })?,
        };
        let source = rewrite(&source).map_err(|refused| InvalidTemplate::Syntax {
            part,
            line: refused.line,
            detail: format!("syntax error: {}", refused.detail),
        })?;
        environment
            .add_template_owned(name, source)
            .map_err(|error| InvalidTemplate::Syntax {
                part,
                line: error.line().unwrap_or_default(),
                detail: describe(&error),
            })?;
        for variable in variables_of(&environment, name, false) {
            if !template.variables.is_empty() && !template.variables.contains(&variable) {
                return Err(InvalidTemplate::Undeclared { part, name: variable });
            }
            used.insert(variable);
        }
    }
    Ok(Compiled {
        environment,
        has_html: template.html.is_some(),
        declared: template.variables.clone(),
        used: used.into_iter().collect(),
    })
}

/// The environment that every template is compiled in: strict, bounded, without a loader. It knows no filter, test or
/// function but those of [`bounds`], and takes what [`rewrite`] has written.
#[must_use]
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    bounds::install(&mut environment);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    // Its reports hold variables' values, and look every name up, which `Context` would take for the template's doing.
    environment.set_debug(false);
    environment.set_auto_escape_callback(|name| {
        if name == HTML.1 {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    environment
}

fn variables_of(environment: &Environment<'static>, name: &str, nested: bool) -> BTreeSet<String> {
    let globals: HashSet<&str> = environment.globals().map(|(name, _)| name).collect();
    let found = environment
        .get_template(name)
        .map(|template| template.undeclared_variables(nested));
    found
        .unwrap_or_default()
        .into_iter()
        .filter(|name| !globals.contains(name.as_str()))
        .collect()
}

fn describe(error: &minijinja::Error) -> String {
    error.detail().map_or_else(
        || error.kind().to_string(),
        |detail| format!("{}: {detail}", error.kind()),
    )
}

impl Compiled {
    /// The variables that callers have to know of: the declared ones, else those that are used.
    #[must_use]
    pub(crate) fn variables(&self) -> &[String] {
        if self.declared.is_empty() {
            &self.used
        } else {
            &self.declared
        }
    }

    /// Fills the variables in.
    ///
    /// # Errors
    /// [`RenderError::Missing`] when a declared variable, or one that the template comes upon, is not there.
    pub(crate) fn render(&self, variables: &Variables) -> Result<Rendered, RenderError> {
        bounds::check_variables(variables)?;
        if let Some(missing) = self.declared.iter().find(|name| !variables.contains_key(*name)) {
            return Err(RenderError::Missing(missing.clone()));
        }
        Ok(Rendered {
            title: self.render_part(TITLE.1, variables)?,
            content: self.render_part(CONTENT.1, variables)?,
            html: if self.has_html {
                Some(self.render_part(HTML.1, variables)?)
            } else {
                None
            },
        })
    }

    fn render_part(&self, name: &'static str, variables: &Variables) -> Result<String, RenderError> {
        render(&self.environment, name, variables)
    }
}

/// Renders one template of an environment.
fn render(
    environment: &Environment<'static>,
    name: &str,
    variables: &Variables,
) -> Result<String, RenderError> {
    let context = Arc::new(Context::new(variables));
    let template = environment.get_template(name).map_err(|error| failed(&error))?;
    let mut out = Bounded::default();
    match template.render_captured_to(Value::from_dyn_object(Arc::clone(&context)), &mut out) {
        // A template can spell it, and no database keeps it.
        Ok(_) if out.bytes.contains(&0) => Err(RenderError::Failed {
            line: 0,
            detail: "the text holds the character U+0000".to_owned(),
        }),
        // Only whole characters are ever written, so the bytes are a text.
        Ok(_) => Ok(String::from_utf8(out.bytes).unwrap_or_default()),
        Err(_) if out.full => Err(RenderError::TooMuch),
        Err(error) => Err(match error.kind() {
            ErrorKind::OutOfFuel => RenderError::TooMuch,
            ErrorKind::UndefinedError => context
                .missing(&variables_of(environment, name, true), variables)
                .map_or_else(|| failed(&error), RenderError::Missing),
            _ => failed(&error),
        }),
    }
}

/// Sources that are rendered one by one with the same variables, under the same bounds as a template's parts.
pub(crate) struct Snippets {
    environment: Environment<'static>,
    names: Vec<String>,
}

impl fmt::Debug for Snippets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snippets").field(&self.names.len()).finish()
    }
}

impl Snippets {
    /// None so far.
    pub(crate) fn new(base: &Environment<'static>) -> Self {
        Self {
            environment: base.clone(),
            names: Vec::new(),
        }
    }

    /// Compiles a source. Answers the number to render it by.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn add(&mut self, source: &str) -> Result<usize, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("has more than {MAX_SOURCE} bytes"));
        }
        let source = rewrite(source).map_err(|refused| format!("syntax error: {}", refused.detail))?;
        let number = self.names.len();
        let name = format!("{number}.txt");
        self.environment
            .add_template_owned(name.clone(), source)
            .map_err(|error| describe(&error))?;
        self.names.push(name);
        Ok(number)
    }

    /// Renders one.
    ///
    /// # Errors
    /// [`RenderError`].
    pub(crate) fn render(&self, number: usize, variables: &Variables) -> Result<String, RenderError> {
        bounds::check_variables(variables)?;
        let name = self.names.get(number).map_or("", String::as_str);
        render(&self.environment, name, variables)
    }
}

fn failed(error: &minijinja::Error) -> RenderError {
    RenderError::Failed {
        line: error.line().unwrap_or_default(),
        detail: describe(error),
    }
}

/// A text that stops taking bytes at [`MAX_OUTPUT`].
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn template(content: &str, variables: &[&str]) -> NewTemplate {
        NewTemplate {
            name: "t".to_owned(),
            title: "T".to_owned(),
            content: content.to_owned(),
            html: None,
            channels: Vec::new(),
            priority: None,
            kind: None,
            variables: variables.iter().map(|name| (*name).to_owned()).collect(),
            syntax: Syntax::Jinja,
        }
    }

    fn variables(value: serde_json::Value) -> Variables {
        match value {
            serde_json::Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn render(content: &str, values: serde_json::Value) -> Result<String, RenderError> {
        let compiled = compile(&environment(), &template(content, &[])).unwrap();
        compiled
            .render(&variables(values))
            .map(|rendered| rendered.content)
    }

    #[test]
    fn values_print_as_they_were_given() {
        for (content, values, rendered) in [
            (
                "{{symbol}} {{quantity}} {{price}}",
                json!({"symbol":"AAPL","quantity":100,"price":150.25}),
                "AAPL 100 150.25",
            ),
            ("{{x|default('-')}}", json!({}), "-"),
            ("{% if x is defined %}a{% else %}b{% endif %}", json!({}), "b"),
            (
                "{% for i in l %}{{ i.n }},{% endfor %}",
                json!({"l":[{"n":1},{"n":2}]}),
                "1,2,",
            ),
            ("{{ u.name }}", json!({"u":{"name":"<b>"}}), "<b>"),
            ("{{ range(2)|list }}", json!({}), "[0, 1]"),
            ("{{ b }} {{ n }}", json!({"b":true,"n":null}), "True None"),
            ("{{ o|tojson }}", json!({"o":{"a":[1]}}), r#"{"a": [1]}"#),
        ] {
            assert_eq!(render(content, values).as_deref(), Ok(rendered), "{content}");
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        for (content, values, path) in [
            ("{{ a }} {{ b }}", json!({"a":1}), "b"),
            ("{{ a|upper }}", json!({}), "a"),
            ("{{ x|default('') }}{{ u.name }}", json!({"u":{}}), "u.name"),
            ("{% for i in l %}{{ i }}{% endfor %}", json!({}), "l"),
            ("{% if a %}{% endif %}", json!({}), "a"),
            ("{{ u.name.first }}", json!({"u":{}}), "u.name.first"),
            ("{{ u.name }}", json!({}), "u"),
        ] {
            assert_eq!(
                render(content, values),
                Err(RenderError::Missing(path.to_owned())),
                "{content}"
            );
        }
    }

    #[test]
    fn declared_variables_bind_both_ways() {
        let compiled = compile(
            &environment(),
            &template("{% if false %}{{ a }}{% endif %}", &["a"]),
        )
        .unwrap();
        assert_eq!(
            compiled.render(&Variables::new()),
            Err(RenderError::Missing("a".to_owned()))
        );
        let refused = compile(&environment(), &template("{{ a }}{{ b }}", &["a"])).unwrap_err();
        assert_eq!(
            refused,
            InvalidTemplate::Undeclared {
                part: "content",
                name: "b".to_owned()
            }
        );
    }

    #[test]
    fn html_alone_is_escaped() {
        let mut template = template("{{ x }}", &[]);
        template.html = Some("<p>{{ x }}</p>".to_owned());
        template.title = "{{ x }}".to_owned();
        let rendered = compile(&environment(), &template)
            .unwrap()
            .render(&variables(json!({"x":"<script>"})))
            .unwrap();
        assert_eq!(rendered.title, "<script>");
        assert_eq!(rendered.content, "<script>");
        assert_eq!(rendered.html.as_deref(), Some("<p>&lt;script&gt;</p>"));
    }

    #[test]
    fn syntax_errors_name_part_and_line() {
        let error = compile(&environment(), &template("a\n{{ b", &[])).unwrap_err();
        assert!(
            matches!(
                error,
                InvalidTemplate::Syntax {
                    part: "content",
                    line: 2,
                    ..
                }
            ),
            "{error:?}"
        );
        for content in ["{{ a|nofilter }}", "{% include 'x' %}"] {
            assert!(
                compile(&environment(), &template(content, &[])).is_err(),
                "{content}"
            );
        }
    }

    #[test]
    fn work_and_output_are_bounded() {
        for content in [
            "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
            "{{ 'a' * 300000 }}",
            "{% for i in range(400) %}{{ 'a' * 1000 }}{% endfor %}",
        ] {
            assert_eq!(render(content, json!({})), Err(RenderError::TooMuch), "{content}");
        }
    }
}
