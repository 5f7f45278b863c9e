//! `{name}` placeholders (S1, S4) as Jinja2 source.
//!
//! Only a brace pair that holds a name (`{a}`, `{a.b}`, `{a[0]}`) is a placeholder, so that JSON and CSS may stand in a
//! text. `{{` and `}}` write one brace, as in Python, except where a `}` closes a literal `{`.

/// Why a text with placeholders cannot be a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPlaceholder {
    /// Python's conversions and format specifications are not supported; text that looks like one is refused.
    #[error("`{{{0}}}` has a format specification, which is not supported; double the braces if it is text")]
    Specification(String),
}

/// Translates a text with placeholders to Jinja2.
///
/// # Errors
/// [`InvalidPlaceholder`] for a placeholder with a conversion or a format specification.
pub(crate) fn to_jinja(source: &str) -> Result<String, InvalidPlaceholder> {
    let mut out = String::with_capacity(source.len() + 32);
    let mut rest = source;
    // Literal braces that are open: their `}` is literal, also where two stand together.
    let mut open = 0_usize;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..];
        let after = &brace[1..];
        rest = if brace.starts_with('{') {
            if let Some(after) = after.strip_prefix('{') {
                literal(&mut out, '{');
                after
            } else if let Some((path, after)) = placeholder(after)? {
                out.push_str("{{ ");
                out.push_str(&path);
                out.push_str(" }}");
                after
            } else {
                literal(&mut out, '{');
                open += 1;
                after
            }
        } else {
            literal(&mut out, '}');
            if open > 0 {
                open -= 1;
                after
            } else {
                after.strip_prefix('}').unwrap_or(after)
            }
        };
    }
    match rest.strip_suffix('\n') {
        // Jinja2 takes the last line end of a source away.
        Some(rest) => {
            out.push_str(rest);
            out.push_str(r"{{ '\n' }}");
        }
        None => out.push_str(rest),
    }
    Ok(out)
}

/// Writes a brace so that Jinja2 never takes it for a part of its own delimiters.
fn literal(out: &mut String, brace: char) {
    out.push_str("{{ '");
    out.push(brace);
    out.push_str("' }}");
}

/// The Jinja2 path of the placeholder that `text` begins with, and what follows its brace.
fn placeholder(text: &str) -> Result<Option<(String, &str)>, InvalidPlaceholder> {
    let Some(end) = text.find(['}', '{']) else {
        return Ok(None);
    };
    let (inner, after) = text.split_at(end);
    let Some(after) = after.strip_prefix('}') else {
        return Ok(None);
    };
    if let Some(path) = path(inner) {
        return Ok(Some((path, after)));
    }
    if let Some(at) = inner.find([':', '!'])
        && path(&inner[..at]).is_some()
        && is_specification(&inner[at..])
    {
        return Err(InvalidPlaceholder::Specification(inner.to_owned()));
    }
    Ok(None)
}

fn path(text: &str) -> Option<String> {
    let mut path = String::with_capacity(text.len() + 4);
    let mut rest = take_identifier(text, &mut path)?;
    while !rest.is_empty() {
        if let Some(member) = rest.strip_prefix('.') {
            path.push('.');
            rest = take_identifier(member, &mut path)?;
        } else {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            let numeric = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
            let plain = index
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
            if index.is_empty() || !plain {
                return None;
            }
            if numeric {
                path.push_str(&format!("[{index}]"));
            } else {
                path.push_str(&format!("['{index}']"));
            }
            rest = after;
        }
    }
    Some(path)
}

fn take_identifier<'a>(text: &'a str, path: &mut String) -> Option<&'a str> {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let name = &text[..end];
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    path.push_str(name);
    Some(&text[end..])
}

/// Whether a text beginning with `:` or `!` is a conversion (`!r`) or a specification (`:>10`, `:.2f`, `:,`).
fn is_specification(text: &str) -> bool {
    let text = match text.strip_prefix('!') {
        Some(conversion) => match conversion.strip_prefix(['r', 's', 'a']) {
            Some("") => return true,
            Some(rest) => rest,
            None => return false,
        },
        None => text,
    };
    let Some(spec) = text.strip_prefix(':') else {
        return false;
    };
    !spec.is_empty()
        && spec
            .trim_end_matches(|c: char| "bcdeEfFgGnosxX%".contains(c))
            .len()
            + 1
            >= spec.len()
        && spec
            .trim_end_matches(|c: char| "bcdeEfFgGnosxX%".contains(c))
            .chars()
            .all(|c| c.is_ascii_digit() || "<>=^+- #,_.".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(source: &str) -> String {
        let jinja = to_jinja(source).unwrap();
        let context =
            minijinja::context! { a => "A", b => minijinja::context! { c => "C" }, l => vec![1, 2] };
        minijinja::Environment::new().render_str(&jinja, context).unwrap()
    }

    #[test]
    fn names_are_filled_and_everything_else_is_text() {
        for (source, rendered) in [
            ("x {a} y", "x A y"),
            ("{a}{b.c}{l[1]}{b[c]}", "AC2C"),
            ("{{a}}", "{a}"),
            ("{{{a}}}", "{A}"),
            (r#"{"k": 1}"#, r#"{"k": 1}"#),
            (r#"{"k": {"n": "{a}"}}"#, r#"{"k": {"n": "A"}}"#),
            ("p { color: red }", "p { color: red }"),
            ("p{color:red}", "p{color:red}"),
            ("{}", "{}"),
            ("{ a }", "{ a }"),
            ("{% if x %}{# c #}", "{% if x %}{# c #}"),
            ("100%} {", "100%} {"),
            ("{a", "{a"),
            ("a}} b}", "a} b}"),
            ("您的订单 {a} 已确认", "您的订单 A 已确认"),
        ] {
            assert_eq!(render(source), rendered, "{source}");
        }
    }

    #[test]
    fn specifications_are_refused() {
        for source in ["{a:.2f}", "{a!r}", "{a:>10}", "{a:,}", "{a!s:5}"] {
            assert!(to_jinja(source).is_err(), "{source}");
        }
    }

    proptest! {
        #[test]
        fn doubled_braces_are_text(text in "[{}%#a-c.:! \\n'\"\\\\-]{0,30}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(render(&doubled), text);
        }

        #[test]
        fn whatever_is_translated_compiles(text in "[{}%#a-c0\\[\\].:! \\n'\"-]{0,40}") {
            if let Ok(jinja) = to_jinja(&text) {
                let environment = minijinja::Environment::new();
                prop_assert!(environment.template_from_str(&jinja).is_ok(), "{}", jinja);
            }
        }
    }
}
