//! Configuration: defaults (a commented file that is loaded), then a file, then the environment, then flags.
//!
//! Each concern has its struct beside the code that it configures; here are those of this crate and the loader. Every
//! struct refuses unknown keys, and an error names the key.

mod grpc;
mod loader;
mod sections;
mod topics;
mod values;

pub use self::{
    grpc::GrpcConfig,
    loader::{Alias, ConfigError, Loader},
    sections::{AuthConfig, AuthKey, BusConfig, LogConfig, LogFormat, ServerConfig},
    topics::{TopicRule, topic_policies},
    values::{Bytes, Span, number_or_text},
};
