//! What needs real Redis servers: the bus, the stream of receipts.

mod bus;
mod faults;
mod receipts;
mod support;
