//! What needs real Redis servers: the bus and the stream of receipts.

mod bus;
mod faults;
mod receipts;
mod support;
