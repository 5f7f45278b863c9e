//! Random templates.

use proptest::prelude::*;
use serde_json::json;

use super::{compile, environment, run, template};
use crate::template::{
    bounds::{FILTERS, TESTS},
    rewrite::rewrite,
};

/// Pieces that templates are made of.
const ALPHABET: [&str; 78] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{{-",
    "-}}",
    "{%+",
    "+%}",
    "if",
    "elif",
    "else",
    "endif",
    "for",
    "in",
    "endfor",
    "raw",
    "endraw",
    "set",
    "and",
    "or",
    "not",
    "is",
    "defined",
    "loop",
    "index",
    "cycle",
    "range",
    "x",
    "l",
    "m",
    "'a'",
    "\"b\"",
    "'",
    "\"",
    "\\",
    "0",
    "1",
    "2.5",
    "9223372036854775807",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "~",
    "|",
    ".",
    ",",
    ":",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "=",
    "==",
    "<",
    ">=",
    "upper",
    "e",
    "join",
    "default",
    "replace",
    "sort",
    "map",
    "length",
    "tojson",
    "slice",
    "\n",
    " ",
    "é",
    "0x",
    "_",
];

fn survives(content: &str) {
    let variables = json!({"x": "abc", "l": [1, "b", [2]], "m": {"a": 1, "b": {"c": "d"}}});
    run(content, variables);
}

fn pieces(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(
        (
            prop::sample::select(&ALPHABET[..]),
            prop::sample::select(&["", " "][..]),
        ),
        0..most,
    )
    .prop_map(|pieces| {
        let mut text: String = pieces
            .into_iter()
            .flat_map(|(piece, blank)| [piece, blank])
            .collect();
        text.truncate(text.floor_char_boundary(4096));
        text
    })
}

/// Expressions that are mostly right, so that they get to minijinja.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(
        &[
            "x",
            "l",
            "m",
            "1",
            "0",
            "-2",
            "2.5",
            "'a'",
            "none",
            "true",
            "loop.index",
            "y",
            "9223372036854775807",
        ][..],
    )
    .prop_map(str::to_owned);
    leaf.prop_recursive(6, 48, 4, |inner| {
        let operator = prop::sample::select(
            &[
                "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or",
            ][..],
        );
        let filter = prop::sample::select(&FILTERS[..]);
        let test = prop::sample::select(&TESTS[..]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
            (inner.clone(), filter.clone()).prop_map(|(a, filter)| format!("({a})|{filter}")),
            (inner.clone(), filter, inner.clone(), inner.clone())
                .prop_map(|(a, filter, b, c)| format!("({a})|{filter}({b}, {c})")),
            (inner.clone(), test.clone()).prop_map(|(a, test)| format!("({a} is {test})")),
            (inner.clone(), test, inner.clone()).prop_map(|(a, test, b)| format!("({a} is not {test}({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a})[{b}:{c}]")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("range({a}, {b}, {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("loop.cycle({a}, {b})")),
            inner.clone().prop_map(|a| format!("not ({a})")),
            inner.prop_map(|a| format!("-({a}).a")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_survive(content in pieces(1500)) {
        survives(&content);
    }

    #[test]
    fn any_tag_survives(inside in pieces(60)) {
        survives(&format!("{{{{ {inside} }}}}"));
        survives(&format!("{{% if {inside} %}}{{% endif %}}"));
        survives(&format!("{{% for y in {inside} %}}{{{{ y }}}}{{% endfor %}}"));
    }

    #[test]
    fn any_expression_survives(a in expression(), b in expression()) {
        survives(&format!("{{{{ {a} }}}}"));
        survives(&format!("{{% for y in {a} %}}{{% if {b} %}}{{{{ {b} }}}}{{% endif %}}{{% endfor %}}"));
    }

    /// What is written anew is taken by minijinja: nothing is let through that it would read otherwise.
    #[test]
    fn what_is_written_compiles(a in expression()) {
        if let Ok(written) = rewrite(&format!("{{{{ {a} }}}}")) {
            let outcome = compile(&environment(), &template(&format!("{{{{ {a} }}}}")));
            prop_assert!(outcome.is_ok(), "{} {:?}", written, outcome.err());
        }
    }
}
