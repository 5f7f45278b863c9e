//! The gRPC contract, `carillon/v1/*.proto`, and what is generated from it; in [`json`] what its values are in the bodies of
//! the HTTP API, which mean the same. A crate of its own, so that nothing else has it built again.

pub mod json;

/// Package `carillon.v1`.
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("carillon.v1");
}

/// The contract as an encoded `FileDescriptorSet`, with what it imports.
pub const CONTRACT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));
