//! The dispatcher: takes a notification once, stores it, renders it, and sees it through.
//!
//! In the order of the data's way: [`api`] validates a request and makes it a [`model`] value, with [`template`]s
//! rendered; [`service`] hands it to the [`store`] and, once committed, tells sockets and workers; `realtime` puts frames
//! on the bus; the [`queue`] claims deliveries and sends them by their [`channels`]; [`receipts`] stores what readers do.
//! [`Dispatcher`] wires it all from [`config`], and [`metrics`] has every metric's name.

pub mod api;
pub mod channels;
pub mod config;
mod dispatcher;
pub mod metrics;
pub mod model;
pub mod queue;
mod realtime;
pub mod receipts;
pub mod service;
pub mod store;
pub mod template;

pub use self::dispatcher::{Dispatcher, Parts};
