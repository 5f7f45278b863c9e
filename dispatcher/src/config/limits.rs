//! What callers may ask for.

use common::config::Bytes;
use serde::Deserialize;

/// Section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests a minute of an end user's token. Default 100.
    pub user_requests_per_minute: u32,
    /// Requests a second of an API key or a token with a service scope. Default 10000.
    pub service_requests_per_second: u32,
    /// Bytes of a request's body. Default `1MiB`.
    pub body_bytes: Bytes,
    /// Bytes of the body of a request for many notifications. Default `8MiB`.
    pub bulk_body_bytes: Bytes,
    /// Items of a bulk request. Default 1000.
    pub bulk_items: usize,
    /// How deep arrays and objects of a body may nest. Default 64.
    pub json_depth: usize,
    /// Deliveries that may wait in the queue, of all tenants; critical ones a tenth more. Default 1000000.
    pub queued_max: u64,
    /// Deliveries of one tenant that may wait in the queue; critical ones a tenth more. Default 100000.
    pub queued_max_per_tenant: u64,
    /// API keys of one tenant that have not ended. Default 1000.
    pub keys_per_tenant: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            user_requests_per_minute: 100,
            service_requests_per_second: 10_000,
            body_bytes: Bytes(1024 * 1024),
            bulk_body_bytes: Bytes(8 * 1024 * 1024),
            bulk_items: 1000,
            json_depth: 64,
            queued_max: 1_000_000,
            queued_max_per_tenant: 100_000,
            keys_per_tenant: 1000,
        }
    }
}
