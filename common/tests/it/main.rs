//! The bus over real Redis servers.

mod bus;
mod faults;
mod support;
