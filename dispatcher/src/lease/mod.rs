//! From the claim of a delivery to the end of it: what the queue and realtime do with what they hold.
//!
//! `hold` knows the leases of this process and `room` the places that they take; `retry` decides what follows an attempt
//! by the channel's `policy`;
//! `settle` stores it.

mod hold;
mod policy;
mod retry;
mod room;
mod settle;

pub(crate) use self::{
    hold::{Lease, Leases},
    policy::{Retries, RetryPolicy},
    retry::{Ended, Next, decide, wait},
    room::{Room, Tenants, reserved},
    settle::{Done, Settler},
};
