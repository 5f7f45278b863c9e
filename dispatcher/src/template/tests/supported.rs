//! What notifications need, and how errors are told.

use serde_json::{Map, json};

use super::{InvalidTemplate, Outcome, RenderError, compile, environment, is_refused, run, template};

#[test]
fn what_notifications_need_works() {
    let variables = || {
        json!({
            "name": "ann", "n": 3, "price": 150.25, "html": "<b>", "none": null, "ok": true,
            "items": [{"name": "tea", "price": 2, "tags": ["a"]}, {"name": "jam", "price": 3.5, "tags": []}],
            "m": {"b": 1, "a": 2}, "k": "b", "text": "one two three",
        })
    };
    for (content, rendered) in [
        (
            "{{ name|upper }} {{ name|capitalize }} {{ text|title }}",
            "ANN Ann One Two Three",
        ),
        (
            "{{ n + 1 }} {{ n - 5 }} {{ n * 2 }} {{ n / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }}",
            "4 -2 6 1.5 3 -4 2 1024",
        ),
        (
            "{{ price * 2 }} {{ price|round(1) }} {{ price|int }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }}",
            "300.5 150.2 150 7 9",
        ),
        (
            "{{ 'a' + 'b' }} {{ 'a' ~ n ~ none }} {{ '-' * 5 }}",
            "ab a3None -----",
        ),
        ("{{ ([1] + [2, 3])|join('/') }}", "1/2/3"),
        (
            "{% for i in items %}{{ loop.index }}/{{ loop.length }} {{ i.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "1/2 tea, 2/2 jam",
        ),
        (
            "{% for i in items if i.price > 2 %}{{ i.name }}{% else %}none{% endfor %}",
            "jam",
        ),
        ("{% for i in [] %}x{% else %}none{% endfor %}", "none"),
        (
            "{% for k, v in m|dictsort %}{{ k }}={{ v }};{% endfor %}{% for k, v in m|items %}{{ v }}{% endfor %}",
            "a=2;b=1;21",
        ),
        (
            "{% for i in items %}{{ loop.cycle('odd', 'even') }} {% endfor %}",
            "odd even ",
        ),
        (
            "{% if n > 1 and n < 5 or false %}a{% elif n == 9 %}b{% else %}c{% endif %}",
            "a",
        ),
        (
            "{% if 1 < n <= 3 %}a{% endif %}{% if 'tea' in text %}b{% endif %}{% if 'one' in text %}c{% endif %}",
            "ac",
        ),
        (
            "{% if n not in [1, 2] %}a{% endif %}{% if 'a' in m %}b{% endif %}{% if not ok %}c{% endif %}",
            "ab",
        ),
        (
            "{{ missing|default('-') }} {{ missing is defined }} {{ name is string }} {{ n is odd }} {{ 4 is divisibleby 2 }} {{ n is not none }}",
            "- False True True True True",
        ),
        ("{{ name if ok else 'x' }} {{ 'y' if n == 2 else 'z' }}", "ann z"),
        (
            "{{ m[k] }} {{ m['a'] }} {{ items[0].name }} {{ items[n - 2].name }} {{ {'b': 'bee'}[k] }}",
            "1 2 tea jam bee",
        ),
        (
            "{{ text[0] }}{{ text[-1] }}{{ items.1.name }}{{ items[9]|default('-') }}{{ (items|reverse)[0].name }}{{ m['zz']|default('.') }}",
            "oejam-jam.",
        ),
        (
            "{{ text[:3] }} {{ text[-5:] }} {{ text[4:7] }} {{ items[1:]|length }}",
            "one three two 1",
        ),
        (
            "{{ items|map(attribute='name')|join(', ') }} {{ items|sum(attribute='price') }} {{ items|length }}",
            "tea, jam 5.5 2",
        ),
        (
            "{{ items|sort(attribute='price', reverse=true)|map(attribute='name')|first }}",
            "jam",
        ),
        (
            "{{ items|selectattr('price', 'gt', 2)|map(attribute='name')|join }}",
            "jam",
        ),
        (
            "{{ [3, 1, 2]|sort|join }} {{ [3, 1]|min }} {{ [1, 1, 2]|unique|join }} {{ [1, 2]|reverse|join }} {{ 'abc'|reverse }}",
            "123 1 12 21 cba",
        ),
        (
            "{{ text|replace('one', '1') }} {{ text|split|last }} {{ ' a '|trim }} {{ text|truncate(7) }} {{ 'a b'|urlencode }}",
            "1 two three three a one ... a%20b",
        ),
        (
            "{{ items[0]|tojson }} {{ '5'|int + 1 }} {{ '1.5'|float }} {{ -3|abs }}",
            r#"{"name": "tea", "price": 2, "tags": ["a"]} 6 1.5 3"#,
        ),
        (
            "a {#- c {{ -#} b {%- raw %} {{ x }} {% endraw -%} d {{- ' e' -}} f",
            "ab {{ x }} d ef",
        ),
        ("{{ 'it''s'|length if false else \"}}\" }}", ""),
        ("{{ '}}' }}{{ \"%}\" }}{{ 'a\\n\\'b' }}", "}}%}a\n'b"),
        ("{{ {'a': {'b': 1}}['a']['b'] }}", "1"),
        (
            "{{ not true }} {{ not not n }} {{ -n }} {{ (-n)|abs }}",
            "False True -3 3",
        ),
        ("{{ html }} {{ html|e }} {{ html ~ '!' }}", "<b> &lt;b&gt; <b>!"),
        (
            "{{ none }} {{ ok }} {{ true and none is none }}",
            "None True True",
        ),
        ("{{\n n\n}}\nx\n", "3\nx"),
    ] {
        let outcome = run(content, variables());
        if rendered.is_empty() {
            assert!(matches!(outcome, Outcome::Refused(_)), "{content}: {outcome:?}");
        } else {
            assert_eq!(outcome, Outcome::Rendered(rendered.to_owned()), "{content}");
            // minijinja alone, unbounded, says the same. It has no `truncate`.
            if !content.contains("truncate") {
                let plain =
                    minijinja::Environment::new().render_str(content, minijinja::value::Serde(variables()));
                assert_eq!(plain.unwrap(), rendered, "{content}");
            }
        }
    }
}

#[test]
fn html_stays_escaped_through_operators_and_filters() {
    for (content, rendered) in [
        ("{{ x ~ x }}", "&lt;i&gt;&lt;i&gt;"),
        ("{{ x + x }}{{ x[:1] }}", "&lt;i&gt;&lt;i&gt;&lt;"),
        ("{{ [x, x]|join('<') }}", "&lt;i&gt;&lt;&lt;i&gt;"),
        (
            "{{ x|replace('i', '<') }}{{ x|upper }}{{ x|truncate(1, '<') }}",
            "&lt;&lt;&gt;&lt;I&gt;&lt;",
        ),
        ("{{ (x|e) ~ x }}", "&amp;lt;i&amp;gt;&lt;i&gt;"),
    ] {
        let compiled = compile(&environment(), &template(content)).unwrap();
        let mut variables = Map::new();
        variables.insert("x".to_owned(), json!("<i>"));
        assert_eq!(
            compiled.render(&variables).unwrap().html.as_deref(),
            Some(rendered),
            "{content}"
        );
    }
    assert!(is_refused("{{ x|safe }}"));
}

#[test]
fn errors_keep_their_lines() {
    for (content, expected) in [
        ("a\n{{ 'b\nc'\n }}\n{{ 1 // 0 }}", 5),
        (
            "{% if x %}\n{# a\n #}{% raw %}\n{% endraw %}{{ 'a' - 1 }}{% endif %}",
            4,
        ),
    ] {
        let Outcome::Failed(RenderError::Failed { line, .. }) = run(content, json!({"x": 1})) else {
            panic!("rendered: {content}");
        };
        assert_eq!(line, expected, "{content}");
    }
    for (content, expected) in [
        ("a\n{{ x|nothing }}", 2),
        ("a\n\n{% if x %}\n", 3),
        ("{{ x\n", 1),
        ("\n{% endif %}", 2),
    ] {
        let Outcome::Refused(InvalidTemplate::Syntax { line, .. }) = run(content, json!({"x": 1})) else {
            panic!("taken: {content}");
        };
        assert_eq!(line, expected, "{content}");
    }
}
