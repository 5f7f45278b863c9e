//! The OpenAPI document, completed by what holds for every operation: descriptions of answers, who is let in, limits. Groups
//! without an operation are left out: what they hold is served by another process.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// Operations of a path.
const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

/// The document's JSON.
pub(crate) fn complete(document: &OpenApi) -> String {
    // A document that the generator made always serialises.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let everywhere = document.get("security").cloned();
    let mut used = HashSet::new();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method).and_then(Value::as_object_mut) {
                // The generator takes the handler's name, which is unique in its module only.
                operation.insert("operationId".to_owned(), json!(operation_id(method, path)));
                operation_of(operation, everywhere.as_ref());
                let tags = operation.get("tags").and_then(Value::as_array);
                used.extend(
                    tags.into_iter()
                        .flatten()
                        .filter_map(Value::as_str)
                        .map(str::to_owned),
                );
            }
        }
    }
    if let Some(tags) = document.get_mut("tags").and_then(Value::as_array_mut) {
        tags.retain(|tag| tag["name"].as_str().is_some_and(|name| used.contains(name)));
    }
    document.to_string()
}

/// `put /api/v1/notifications/{id}/read` is `put_v1_notifications_id_read`.
fn operation_id(method: &str, path: &str) -> String {
    let path = path.strip_prefix("/api").unwrap_or(path);
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

fn operation_of(operation: &mut Map<String, Value>, everywhere: Option<&Value>) {
    let security = operation.get("security").or(everywhere);
    let needs_token = security.and_then(Value::as_array).is_some_and(|schemes| {
        // `[{}]` says that no token is needed.
        !schemes.is_empty()
            && schemes
                .iter()
                .all(|scheme| scheme.as_object().is_some_and(|scheme| !scheme.is_empty()))
    });
    let has_body = operation.contains_key("requestBody");
    // A value that it cannot have, or that has U+0000 in it.
    let has_parameters = operation
        .get("parameters")
        .and_then(Value::as_array)
        .is_some_and(|parameters| parameters.iter().any(|one| one["in"] != "header"));
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    let Some(responses) = responses.as_object_mut() else {
        return;
    };
    if needs_token {
        for status in ["401", "403", "429"] {
            responses.entry(status).or_insert_with(|| json!({}));
        }
        // Whose a key is may not be known for the moment.
        responses.entry("503").or_insert_with(|| json!({ "content": {} }));
    }
    if has_body {
        for status in ["400", "408", "413", "415", "422"] {
            responses.entry(status).or_insert_with(|| json!({}));
        }
    }
    if has_parameters {
        responses.entry("422").or_insert_with(|| json!({}));
    }
    for (status, response) in responses.iter_mut() {
        let Some(response) = response.as_object_mut() else {
            continue;
        };
        let number: u16 = status.parse().unwrap_or_default();
        let words = StatusCode::from_u16(number)
            .ok()
            .and_then(|status| status.canonical_reason());
        let described = response
            .get("description")
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty());
        if !described {
            response.insert("description".to_owned(), json!(words.unwrap_or("Answer")));
        }
        if number >= 400 && number != 503 || (number == 503 && response.contains_key("content")) {
            let problem = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
            response.insert("content".to_owned(), problem);
        }
        if number == 429 {
            let seconds = json!({ "description": "Seconds until it is worth another try", "schema": { "type": "integer" } });
            response.insert("headers".to_owned(), json!({ "Retry-After": seconds }));
        }
    }
}

#[cfg(test)]
mod tests {
    use utoipa::OpenApi as _;

    use super::*;

    #[test]
    fn every_answer_is_described_and_every_refusal_is_a_problem() {
        let (_, document) = super::super::documented().split_for_parts();
        let document: Value = serde_json::from_str(&complete(&document)).unwrap();
        let mut answers = 0;
        let (mut ids, mut used) = (HashSet::new(), HashSet::new());
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in METHODS {
                let Some(operation) = item.get(method) else {
                    continue;
                };
                assert!(
                    ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "{method} {path}"
                );
                used.insert(operation["tags"][0].as_str().unwrap());
                for (status, response) in operation["responses"].as_object().unwrap() {
                    answers += 1;
                    let description = response["description"].as_str().unwrap_or_default();
                    assert!(!description.is_empty(), "{method} {path} {status}");
                    if status.starts_with('4') {
                        assert!(
                            response["content"]["application/problem+json"].is_object(),
                            "{method} {path} {status}"
                        );
                    }
                }
            }
        }
        assert!(answers > 100, "{answers}");
        assert!(document["paths"]["/api/v1/notifications/send"]["post"]["responses"]["429"].is_object());
        assert!(document["paths"]["/health"]["get"]["responses"]["401"].is_null());
        let described = document["tags"].as_array().unwrap().iter();
        let described: HashSet<&str> = described.map(|tag| tag["name"].as_str().unwrap()).collect();
        assert_eq!(described, used);
        let empty: Value = serde_json::from_str(&complete(&super::super::docs::Document::openapi())).unwrap();
        assert_eq!(empty["tags"].as_array().map_or(0, Vec::len), 0);
    }
}
