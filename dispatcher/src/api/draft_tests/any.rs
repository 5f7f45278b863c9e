//! Any body: it is read or refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::read;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("email")),
        Just(json!("2001-09-10T00:00:00Z")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(FIELDS), inner), 0..4).prop_map(|fields| {
                Value::Object(
                    fields
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

const FIELDS: &[&str] = &[
    "to",
    "title",
    "content",
    "message",
    "subject",
    "kind",
    "type",
    "priority",
    "channels",
    "channel",
    "user_id",
    "user_ids",
    "role",
    "store_id",
    "recipient",
    "recipients",
    "target",
    "metadata",
    "data",
    "email",
    "user",
    "users",
    "all_of",
    "any_of",
    "except",
    "delay",
    "schedule_at",
    "expires_at",
    "template",
    "variables",
    "tenant_id",
    "other",
];

proptest! {
    #[test]
    fn no_body_breaks_the_reader(fields in prop::collection::vec((prop::sample::select(FIELDS), any_json()), 0..6)) {
        let body = Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        match read(&body) {
            Ok(draft) => {
                let target = draft.audience.map(|audience| audience.target);
                prop_assert!(target.as_ref().is_none_or(|target| !target.reaches_everyone()));
                let named = body["to"]["tenant"] == true;
                prop_assert!(named || target != Some(common::target::Target::Tenant), "{body}");
            }
            Err(problem) => prop_assert!(problem.status.is_client_error(), "{:?}", problem),
        }
    }
}
