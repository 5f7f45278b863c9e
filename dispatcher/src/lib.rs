//! The dispatcher: takes a notification once, stores it, renders it, and sees it through.
//!
//! In the order of the data's way: [`model`] …

pub mod model;
pub mod store;
pub mod template;
