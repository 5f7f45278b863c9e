//! Templates and variables that mean harm.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Outcome, RenderError, is_refused, run};

#[test]
fn chains_are_refused_before_they_recurse() {
    for (link, count) in [
        ("-", 5000),
        ("not ", 5000),
        ("1+", 20_000),
        ("x~", 20_000),
        ("1*", 20_000),
        ("1**", 16_000),
        ("x or ", 10_000),
        ("x and ", 10_000),
        ("x == ", 10_000),
        ("x in ", 10_000),
        ("x if x else ", 5000),
        ("x if ", 5000),
        ("(", 20_000),
        ("[", 20_000),
        ("{1:", 20_000),
        ("x[", 20_000),
        ("range(", 9000),
        ("x|join(", 9000),
    ] {
        assert!(
            is_refused(&format!("{{{{ {}1 }}}}", link.repeat(count))),
            "{link}"
        );
        assert!(
            is_refused(&format!("{{% if {}1 %}}{{% endif %}}", link.repeat(count))),
            "{link}"
        );
        assert!(
            is_refused(&format!("{{% for i in {}1 %}}{{% endfor %}}", link.repeat(count))),
            "{link}"
        );
    }
    for (link, count) in [
        (".a", 20_000),
        ("|e", 20_000),
        ("[0]", 20_000),
        ("[x]", 16_000),
        ("[:1]", 16_000),
        ("()", 20_000),
        (" is odd", 9000),
    ] {
        assert!(
            is_refused(&format!("{{{{ x{} }}}}", link.repeat(count))),
            "{link}"
        );
    }
    for (open, count) in [
        ("{% if x %}", 5000),
        ("{% for i in x %}", 4000),
        ("{% if x %}{% for i in x %}", 2000),
    ] {
        assert!(is_refused(&open.repeat(count)), "{open}");
    }
    assert!(is_refused(&format!(
        "{{% if x %}}{}{{% endif %}}",
        "{% elif x %}".repeat(5000)
    )));
}

#[test]
fn what_is_just_allowed_fits_into_a_quarter_of_a_stack() {
    let deepest = [
        format!("x{}", ".a".repeat(23)),
        format!("x{}", "|e".repeat(23)),
        format!("x{}", "[0]".repeat(9)),
        format!("x{}", "|default(x)".repeat(22)),
        format!("{}x{}", "(".repeat(9), "|e)".repeat(9)),
        format!("{}x{}", "[".repeat(9), "]".repeat(9)),
        format!("{}x{}", "{1:".repeat(9), "}".repeat(9)),
        format!("{}x{}", "x[".repeat(9), "]".repeat(9)),
        format!("{}x{}", "x|default(".repeat(9), ")".repeat(9)),
        format!("{}x{}", "(1 + ".repeat(9), ")".repeat(9)),
        format!("{}x{}", "(x or not x and x < ".repeat(4), ")".repeat(4)),
        format!("{}x", "x if x else ".repeat(9)),
        format!("{}x", "x or ".repeat(22)),
        format!("{}x", "x ~ ".repeat(100)),
        format!("{}1", "1 + ".repeat(100)),
    ];
    for expression in deepest {
        for content in [
            format!("{{{{ {expression} }}}}"),
            format!(
                "{}{{% if x %}}{}{{{{ {expression} }}}}{{% endif %}}{}",
                "{% for i in [1] %}".repeat(9),
                "{% elif x %}".repeat(32),
                "{% endfor %}".repeat(9)
            ),
            format!(
                "{}{}{{% else %}}{{{{ {expression} }}}}{}",
                "{% if not x %}".repeat(10),
                "{% elif not x %}".repeat(32),
                "{% endif %}".repeat(10)
            ),
        ] {
            let outcome = run(&content, json!({"x": "a"}));
            assert!(
                !matches!(outcome, Outcome::Refused(_)),
                "{expression}: {outcome:?}"
            );
        }
    }
}

#[test]
fn no_template_takes_memory_or_time() {
    let long = "a".repeat(200_000);
    let list: Vec<_> = (0..10_000).collect();
    let variables = json!({"x": long, "l": list[..2000], "s": "abc", "big": 1_000_000_000_000_u64});
    let nested = "{% for a in [[x,x,x,x]] %}{% for b in [[a,a,a,a]] %}{% for c in [[b,b,b,b]] %}{{ c|string|length }}{% endfor %}{% endfor %}{% endfor %}";
    let dictionary = format!("{{{{ {{{}}} }}}}", "l: 1, ".repeat(9000));
    let name = format!("{{{{ {} }}}}", "a".repeat(60_000));
    for content in [
        &dictionary,
        &name,
        "{{ x|slice(1000000000)|list|length }}",
        "{{ x|batch(1000000000, 'f')|list|length }}",
        "{% set n = namespace(v=x) %}{% for i in range(30) %}{% set n.v = n.v ~ n.v %}{% endfor %}{{ n.v|length }}",
        "{% set x = x ~ x %}{{ x }}",
        "{% set x %}{{ x }}{% endset %}{{ x }}",
        "{% with x = x ~ x %}{{ x }}{% endwith %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% filter upper %}{{ x }}{% endfilter %}",
        "{% call x() %}{% endcall %}",
        "{% autoescape false %}{{ x }}{% endautoescape %}",
        "{% include 'content.txt' %}",
        "{% extends 'content.txt' %}",
        "{% import 'content.txt' as x %}",
        "{% block a %}{% endblock %}",
        "{% for i in l recursive %}{{ loop(l) }}{% endfor %}",
        "{{ 'x\ny'|indent(1000000000) }}",
        "{{ [1]|tojson(1000000000) }}",
        "{{ [1]|tojson(indent=1000000000) }}",
        "{{ 'a' * 100000000 }}",
        "{{ ('a' * 100000000)|length }}",
        "{{ [1] * 100000000 }}",
        "{{ (1,) * 100000000 }}",
        "{{ x|replace('a', x)|length }}",
        "{{ x|replace('', x)|length }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ x|center(1000000000) }}",
        "{{ l|join(x)|length }}",
        "{{ l|join(d=x)|length }}",
        "{{ range(100000)|join(x)|length }}",
        "{{ range(100000)|list|length }}",
        "{{ range(1000000000) }}",
        "{{ (x ~ x)|length }}",
        "{{ (x + x)|length }}",
        "{{ [x, x]|length }}",
        "{{ {1: x, 2: x}|length }}",
        "{{ l|map('replace', 'a', x)|list|length }}",
        "{{ l|map('default', x)|join(s)|length if false else l|map('string')|map('replace', '1', x)|list|length }}",
        "{{ l|sort(attribute='a,a,a,a,a,a,a,a')|length }}",
        "{% for i in range(1000) %}{% for j in range(1000) %}{% if 'b' in x %}{% endif %}{% endfor %}{% endfor %}",
        "{% for i in range(10000) %}{% if x == x ~ '' %}{% endif %}{% endfor %}",
        "{% for i in range(10000) %}{% if l|sort == l|unique|list %}{% endif %}{% endfor %}",
        "{% for i in range(100000) %}{{ x|upper|lower|title|trim|length }}{% endfor %}",
        "{% for i in l %}{% for j in l %}{% for k in l %}{% if i == j == k %}{% endif %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ x|replace('a', '%')|urlencode|length }}",
        "{{ x|replace('a', '\"')|tojson|length }}",
        "{{ 9 ** 9 ** 9 ** 9 ** 9 }}",
        "{{ big ** big }}",
        "{{ {x: 1}[x] }}",
        "{% for i in range(2) %}{{ loop.cycle() }}{% endfor %}",
        "{{ x[1:5:-1] }}",
        "{% for i in range(10000) %}{{ x[199999] }}{{ x.199999 }}{% endfor %}",
        "{% for i in range(100) %}{% for j in range(1000) %}{% if l|last and l|length %}{% endif %}{% endfor %}{% endfor %}",
        "{% for y in [range(10000)|reverse] %}{% for i in range(10000) %}{% if y[9998] and y|first and y|last is defined %}{% endif %}{% endfor %}{% endfor %}",
        "{{ {l: 1} }}",
        "{{ range(10001) }}",
        "{% for i in [1] %}{{ loop.cycle(a=1) }}{{ 1 // 0 }}{% endfor %}",
        "{{ debug() }}",
        "{{ x|pprint }}",
        "{{ 1 is divisibleby(0) }}{{ 1 // 0 }}",
        "{{ 1 % 0 }}",
        "{{ __x }}",
        "{{ x|_cat(x) }}",
        "{% for range in [[1]] %}{% endfor %}",
        nested,
    ] {
        let started = Instant::now();
        let outcome = run(content, variables.clone());
        assert!(!matches!(outcome, Outcome::Rendered(_)), "{content}: {outcome:?}");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{content}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn numbers_at_the_edge_do_not_panic() {
    let edges = [
        "0",
        "1",
        "9223372036854775807",
        "170141183460469231731687303715884105727",
        "0.5",
        "s",
        "none",
        "true",
    ];
    for a in edges {
        for b in edges {
            for content in [
                format!("{{{{ range({a}, {b}) }}}}{{{{ range(-{a}, {b}, -{b}) }}}}"),
                format!("{{{{ range({a}, -{b}, -{b}) }}}}"),
                format!("{{{{ s[-{a}:{b}] }}}}{{{{ l[{a}:-{b}] }}}}"),
                format!("{{{{ {a} // {b} }}}}"),
                format!("{{{{ (-{a} - 1) % (-{b}) }}}}"),
                format!("{{{{ (-{a} - 1) // (-{b}) }}}}"),
                format!("{{{{ {a} ** {b} }}}}"),
                format!("{{{{ {a} / {b} }}}}"),
                format!("{{{{ {a} is divisibleby({b}) }}}}"),
                format!("{{{{ (-{a} - 1)|abs }}}}"),
                format!("{{{{ {a}|round(-{b}) }}}}"),
                format!("{{{{ {a}|round({b}) }}}}"),
                format!("{{{{ {a}|round(-2147483648, 'ceil') }}}}{{{{ {a}|round(2147483647, 'floor') }}}}"),
                format!("{{{{ s|int(base={a}) }}}}"),
                format!("{{{{ s|truncate({a}) }}}}"),
                format!("{{{{ s|split('', {a})|length }}}}"),
                format!("{{{{ l[{a}] }}}}{{{{ l[-{a}] }}}}"),
            ] {
                run(&content, json!({"s": "abc", "l": [1, 2, 3]}));
            }
        }
    }
}

#[test]
fn variables_are_bounded() {
    let long = "a".repeat(300_000);
    let many: Vec<_> = (0..20_000).collect();
    for (variables, name) in [
        (json!({"a": 1, "b": long}), "`b`"),
        (json!({"many": many}), "`many`"),
        (json!({"a": "a".repeat(200_000), "b": "a".repeat(100_000)}), "`b`"),
    ] {
        let Outcome::Failed(RenderError::Failed { detail, .. }) = run("x", variables) else {
            panic!("taken: {name}");
        };
        assert!(detail.contains(name), "{detail}");
    }
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    assert!(matches!(
        run("x", json!({"deep": deep})),
        Outcome::Failed(RenderError::Failed { .. })
    ));
}
