//! A cluster on this machine, and what befalls it.
//!
//! `plan`: which fault when; `stage`: Redis, hubs, nginx; `inject`: faults, one after the other; `reasons`: why the hubs
//! told sessions to resync, by their own logs.

mod fault;
mod inject;
mod plan;
mod reasons;
mod stage;

pub(crate) use self::{
    fault::Fault,
    inject::{Happening, Injector},
    plan::Plan,
    reasons::Reasons,
    stage::Stage,
};
