//! The example calls of the reference documents, body by body as they are written there. Each test bears its row's id.

mod queue;
mod s0;
mod s1;
mod s3;
mod s4;
