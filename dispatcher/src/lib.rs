//! The dispatcher: takes a notification once, stores it, renders it, and sees it through.
//!
//! In the order of the data's way: [`model`] …

pub mod api;
pub mod config;
pub mod model;
pub mod store;
pub mod template;
pub mod channels;
pub mod metrics;
pub mod queue;
pub mod receipts;
pub mod service;
mod dispatcher;
mod realtime;

pub use self::dispatcher::{Dispatcher, Parts};
