use super::*;

fn parse(json: &str) -> Result<Audience, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn keys(json: &str) -> Vec<(String, Vec<String>)> {
    let tenant = TenantId::new("t").unwrap();
    let routes = parse(json).unwrap().target.routes(&tenant);
    let text = |key: &TopicKey| key.as_str().to_owned();
    routes
        .iter()
        .map(|route| (text(&route.key), route.require.iter().map(text).collect()))
        .collect()
}

#[test]
fn simple_targets_are_one_topic() {
    for (json, key) in [
        (r#"{"user":"u1"}"#, "t:u:u1"),
        (r#"{"role":"r:x"}"#, "t:r:r%3Ax"),
        (r#"{"store":"s"}"#, "t:s:s"),
        (r#"{"topic":"n"}"#, "t:t:n"),
        (r#"{"tenant":true}"#, "t:a"),
        (r#"{"everyone":true}"#, ":e"),
    ] {
        assert_eq!(keys(json), [(key.to_owned(), vec![])]);
    }
    assert_eq!(keys(r#"{"users":["a","b","a"]}"#).len(), 2);
}

#[test]
fn all_of_is_routed_by_the_narrowest() {
    let json = r#"{"all_of":[{"tenant":true},{"role":"manager"},{"store":"12"}]}"#;
    assert_eq!(
        keys(json),
        [(
            "t:s:12".to_owned(),
            vec!["t:r:manager".to_owned(), "t:a".to_owned()]
        )]
    );
}

#[test]
fn any_of_is_one_publish_for_each_member() {
    let json = r#"{"any_of":[{"role":"a"},{"all_of":[{"role":"b"},{"store":"1"}]},{"role":"a"}],"except":{"user":"u"}}"#;
    assert_eq!(
        keys(json),
        [
            ("t:r:a".to_owned(), vec![]),
            ("t:s:1".to_owned(), vec!["t:r:b".to_owned()])
        ]
    );
    assert!(parse(json).unwrap().except.covers("u", "s"));
    assert_eq!(
        parse(json)
            .unwrap()
            .target
            .any_members(&TenantId::new("t").unwrap())
            .len(),
        2
    );
}

#[test]
fn bad_targets_say_why() {
    for (json, why) in [
        ("{}", "exactly one"),
        (r#"{"user":"a","role":"b"}"#, "exactly one"),
        (r#"{"user":""}"#, "256 bytes"),
        (r#"{"tenant":false}"#, "only be true"),
        (r#"{"users":[]}"#, "nobody"),
        (
            r#"{"all_of":[{"any_of":[{"user":"a"}]}]}"#,
            "inside an expression",
        ),
        (r#"{"all_of":[{"users":["a"]}]}"#, "inside an expression"),
        (
            r#"{"any_of":[{"user":"a","except":{"user":"b"}}]}"#,
            "inside an expression",
        ),
        (r#"{"usr":"a"}"#, "unknown field"),
        (r#"["a"]"#, "an object"),
        (r#"{"all_of":[["a"]]}"#, "an object"),
        (r#"{"user":"a","except":["b"]}"#, "an object"),
    ] {
        let error = parse(json).unwrap_err();
        assert!(error.contains(why), "{json}: {error}");
    }
}

#[test]
fn everyone_inside_an_expression_is_seen() {
    let json = r#"{"any_of":[{"role":"a"},{"all_of":[{"everyone":true}]}]}"#;
    assert!(parse(json).unwrap().target.reaches_everyone());
    assert!(!parse(r#"{"tenant":true}"#).unwrap().target.reaches_everyone());
}

#[test]
fn bodies_round_trip() {
    for json in [
        r#"{"users":["a","b"]}"#,
        r#"{"all_of":[{"role":"m"},{"store":"1"}],"except":{"session":"s1"}}"#,
        r#"{"tenant":true}"#,
    ] {
        assert_eq!(serde_json::to_string(&parse(json).unwrap()).unwrap(), json);
    }
}

/// `count` users, the first of them numbered `first`.
fn users(first: usize, count: usize) -> Vec<serde_json::Value> {
    (first..first + count)
        .map(|number| serde_json::json!({"user": format!("u{number}")}))
        .collect()
}

#[test]
fn members_are_bounded_wherever_they_stand() {
    let names = |count: usize| (0..count).map(|number| format!("u{number}")).collect::<Vec<_>>();
    let all_of = |first, count| serde_json::json!({"all_of": users(first, count)});
    for (most, more, field) in [
        (
            serde_json::json!({"users": names(1000)}),
            serde_json::json!({"users": names(1001)}),
            "users",
        ),
        (
            serde_json::json!({"tenant": true, "except": {"users": names(1000)}}),
            serde_json::json!({"tenant": true, "except": {"users": names(1001)}}),
            "users",
        ),
        (all_of(0, 1000), all_of(0, 1001), "all_of"),
        (
            serde_json::json!({"any_of": users(0, 1000)}),
            serde_json::json!({"any_of": users(0, 1001)}),
            "any_of",
        ),
        (
            serde_json::json!({"any_of": [all_of(0, 500), all_of(500, 500)]}),
            serde_json::json!({"any_of": [all_of(0, 500), all_of(500, 500), {"user": "x"}]}),
            "any_of",
        ),
    ] {
        assert!(parse(&most.to_string()).is_ok(), "{field}");
        let error = parse(&more.to_string()).unwrap_err();
        assert!(
            error.contains(&format!("`{field}` has more than 1000")),
            "{error}"
        );
    }
    let error = parse(r#"{"any_of":[{"all_of":[]}]}"#).unwrap_err();
    assert!(error.contains("`all_of` names nobody"), "{error}");
}
