//! gRPC as both services answer it: who is calling, until when, and what is said where it goes wrong.

mod credentials;
mod deadline;
mod preface;
mod status;

pub use self::{
    credentials::Credentials,
    deadline::{Deadline, deadline_exceeded},
    preface::preface,
    status::status,
};
