use proptest::prelude::*;
use serde_json::json;

use super::*;

fn headers<'a>(pairs: &'a [(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
    pairs
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect()
}

const REQUIRED: [(&str, &str); 4] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "A234-1234-1234"),
    ("ce_source", "https://github.com/cloudevents/spec/pull"),
    ("ce_type", "com.github.pull_request.opened"),
];

#[test]
fn s3_4_a_seeds_body_is_read() {
    let body =
        json!({"event_type": "document.indexed", "document_id": "d1", "user_id": "u1", "tenant_id": "acme"});
    let event = message(body.to_string().as_bytes(), []).unwrap();
    assert_eq!(event.kind, "document.indexed");
    assert_eq!(event.tenant.as_deref(), Some("acme"));
    assert_eq!((event.id, event.source), (None, None));
    assert_eq!(event.data, body);
    let named = json!({"event_type": "a", "event_id": 7, "source": "billing"});
    let event = value(named).unwrap();
    assert_eq!(
        (event.id.as_deref(), event.source.as_deref()),
        (Some("7"), Some("billing"))
    );
}

#[test]
fn a_structured_event_is_read_with_every_kind_of_data() {
    let base = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "tenantid": "acme", "n": 3, "b": true, "x": null});
    for (more, data) in [
        (json!({}), json!(null)),
        (json!({"data": {"a": 1}}), json!({"a": 1})),
        (json!({"data": "{\"a\": 1}"}), json!("{\"a\": 1}")),
        (
            json!({"data": "{\"a\": 1}", "datacontenttype": "application/json"}),
            json!("{\"a\": 1}"),
        ),
        (
            json!({"data": "<a/>", "datacontenttype": "text/xml"}),
            json!("<a/>"),
        ),
        (json!({"data_base64": "eyJhIjoxfQ=="}), json!({"a": 1})),
        (
            json!({"data_base64": "eyJhIjoxfQ==", "datacontenttype": "application/x+JSON; charset=utf-8"}),
            json!({"a": 1}),
        ),
        (
            json!({"data_base64": "aGk=", "datacontenttype": "text/plain"}),
            json!("hi"),
        ),
        (
            json!({"data_base64": "/w==", "datacontenttype": "image/png"}),
            json!("/w=="),
        ),
    ] {
        let mut event = base.clone();
        let (Value::Object(members), Value::Object(more)) = (&mut event, more) else {
            panic!("objects");
        };
        members.extend(more);
        let bytes = event.to_string();
        for kind in [
            Some("application/cloudevents+json; charset=utf-8"),
            Some("Application/CloudEvents+JSON"),
            None,
        ] {
            let given: Vec<(&str, &[u8])> = kind
                .iter()
                .map(|kind| ("Content-Type", kind.as_bytes()))
                .collect();
            let read = message(bytes.as_bytes(), given).unwrap();
            assert_eq!(read.data, data, "{bytes}");
            assert_eq!(read.tenant.as_deref(), Some("acme"));
        }
    }
}

#[test]
fn a_binary_event_is_read_and_its_headers_are_decoded_once() {
    let mut given = REQUIRED.to_vec();
    given.extend([("content-type", "application/json"), ("ce_subject", "Euro € %20")]);
    let event = message(br#"{"tenant_id":"acme","a":1}"#, headers(&given)).unwrap();
    assert_eq!(event.kind, "com.github.pull_request.opened");
    assert_eq!(
        event.subject.as_deref(),
        Some("Euro € %20"),
        "Kafka's headers are plain UTF-8"
    );
    assert_eq!(event.tenant.as_deref(), Some("acme"));
    for (written, read) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("\"a \\\"b\\\" %25\"", "a \"b\" %"),
        ("%2525", "%25"),
        ("plain", "plain"),
    ] {
        let http = REQUIRED.map(|(name, value)| (name.replace('_', "-"), value));
        let mut given: Vec<(&str, &[u8])> = http
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        given.push(("ce-subject", written.as_bytes()));
        let event = message(b"", given).unwrap();
        assert_eq!(event.subject.as_deref(), Some(read), "{written}");
        assert_eq!(event.data, Value::Null);
    }
}

#[test]
fn what_is_no_event_is_refused_with_a_code() {
    let ce = |more: Value| {
        let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
        let (Value::Object(members), Value::Object(more)) = (&mut event, more) else {
            panic!("objects");
        };
        members.extend(more);
        event.to_string()
    };
    for (body, code) in [
        (String::new(), "empty"),
        ("{".to_owned(), "invalid_json"),
        ("[]".to_owned(), "invalid_event"),
        ("{}".to_owned(), "missing_event_type"),
        (r#"{"event_type": 5}"#.to_owned(), "missing_event_type"),
        (r#"{"event_type": ""}"#.to_owned(), "invalid_attribute"),
        (
            r#"{"event_type": "a", "x": "\u0000"}"#.to_owned(),
            "invalid_value",
        ),
        (
            json!({"event_type": "a".repeat(257)}).to_string(),
            "invalid_attribute",
        ),
        (ce(json!({"specversion": "0.3"})), "unsupported_version"),
        (ce(json!({"id": ""})), "invalid_attribute"),
        (ce(json!({"id": null})), "missing_attribute"),
        (ce(json!({"source": "a b"})), "invalid_attribute"),
        (ce(json!({"time": "yesterday"})), "invalid_attribute"),
        (ce(json!({"Upper": "x"})), "invalid_attribute"),
        (ce(json!({"a_b": "x"})), "invalid_attribute"),
        (ce(json!({"ext": {"a": 1}})), "invalid_attribute"),
        (ce(json!({"ext": 1.5})), "invalid_attribute"),
        (ce(json!({"data": 1, "data_base64": "aGk="})), "invalid_event"),
        (ce(json!({"data_base64": "?"})), "invalid_event"),
        (
            ce(json!({"data": {"a": 1}, "datacontenttype": "text/plain"})),
            "invalid_event",
        ),
    ] {
        assert_eq!(message(body.as_bytes(), []).unwrap_err().code, code, "{body}");
    }
    for (more, code) in [
        (("ce_id", ""), "invalid_attribute"),
        (("ce_datacontenttype", "text/plain"), "invalid_header"),
        (
            ("content-type", "application/cloudevents-batch+json"),
            "unsupported_content_type",
        ),
        (
            ("content-type", "application/cloudevents+protobuf"),
            "unsupported_content_type",
        ),
        (("ce-subject", "%C0%A0"), "invalid_header"),
        (("ce-subject", "%2"), "invalid_header"),
        (("ce-subject", "%zz"), "invalid_header"),
        (("ce-subject", "\"a\"b\""), "invalid_header"),
    ] {
        let mut given = REQUIRED.to_vec();
        given.push(more);
        assert_eq!(
            message(b"{}", headers(&given)).unwrap_err().code,
            code,
            "{more:?}"
        );
    }
}

/// As the HTTP binding says: space, quote, percent and everything outside of U+0021 to U+007E.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'%' => format!("%{byte:02X}"),
            0x21..=0x7e => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}

proptest! {
    #[test]
    fn any_header_is_what_was_encoded(text in "\\PC{1,60}") {
        prop_assert_eq!(header_value("ce-x", encoded(&text).as_bytes()), Ok(text));
    }

    #[test]
    fn no_bytes_panic(payload: Vec<u8>, name in "(ce[-_])?[a-z-]{0,12}", value: Vec<u8>) {
        let given = [(name.as_str(), value.as_slice()), ("ce_specversion", b"1.0".as_slice())];
        // Whatever it answers: it answers.
        drop(message(&payload, given));
        drop(message(&payload, []));
    }

    #[test]
    fn a_structured_event_keeps_its_name(id in "[^\\x00]{1,40}", kind in "[a-z.]{1,40}", text in ".{0,40}") {
        let body = json!({"specversion": "1.0", "id": id, "source": "/s", "type": kind, "data": {"text": text.replace('\0', "")}});
        let event = value(body.clone()).unwrap();
        prop_assert_eq!(event.id.as_deref(), Some(id.as_str()));
        prop_assert_eq!(&event.kind, &kind);
        prop_assert_eq!(&event.data, &body["data"]);
    }
}
