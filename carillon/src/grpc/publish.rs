//! Publishing: the body of `POST /api/v1/publish`, by the same way.

use common::{
    grpc::{Credentials, status},
    http::{Caller, Problem},
};
use http::HeaderMap;
use hub::http::Publisher;
use proto::{
    json,
    v1::{PublishRequest, PublishResponse, PublishedTopic, publish_service_server::PublishService},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tonic::{Request, Response, Status};

/// Answers the contract's `PublishService`.
#[derive(Debug, Clone)]
pub(super) struct Publishing(pub(super) Publisher);

/// The body that the HTTP API reads.
#[derive(Debug, Serialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Value>,
    data: Box<RawValue>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
}

#[tonic::async_trait]
impl PublishService for Publishing {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let credentials = Credentials::new(metadata.into_headers(), extensions);
        let caller = credentials.caller().await.map_err(status)?;
        let published = self.carry_out(&caller, credentials.metadata(), message).await;
        published.map(Response::new).map_err(status)
    }
}

impl Publishing {
    async fn carry_out(
        &self,
        caller: &Caller,
        metadata: &HeaderMap,
        request: PublishRequest,
    ) -> Result<PublishResponse, Problem> {
        // Refused before what it says is looked at.
        caller.require("publish")?;
        let data = RawValue::from_string(request.data)
            .map_err(|error| Problem::invalid("not_json", "data", format!("is no JSON text: {error}")))?;
        let body = Body {
            to: request.to.as_ref().map(json::target),
            data,
            kind: request.r#type,
            priority: request.priority,
            ttl_ms: request.ttl_ms,
            conflate: request.conflate,
            slow: request.slow,
            history: request.history,
            idempotency_key: request.idempotency_key,
        };
        let body = serde_json::to_vec(&body)
            .map_err(|error| Problem::invalid("invalid_value", "data", error.to_string()))?;
        let answer = self.0.publish(caller, metadata, &body).await?;
        let topics = answer.topics().map(|topic| {
            let (epoch, offset) = topic.position.unzip();
            PublishedTopic {
                topic: topic.topic,
                epoch,
                offset,
                nodes: topic.nodes,
            }
        });
        Ok(PublishResponse {
            id: answer.id().to_string(),
            topics: topics.collect(),
        })
    }
}
