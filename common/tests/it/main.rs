//! What needs real Redis servers.

mod receipts;
