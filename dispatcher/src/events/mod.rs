//! Events of other systems: reading them, and the rules that say which become notifications, and which. Rules are compiled and
//! rendered under the bounds of templates.

mod builtin;
mod compiled;
mod context;
mod read;

/// The type of an event whose data is the notification itself, for which no rule is asked.
pub(crate) const NOTIFICATION: &str = "carillon.notification";

#[cfg(feature = "kafka")]
pub(crate) use self::read::message;
pub(crate) use self::{
    builtin::builtin,
    compiled::{InvalidRule, Rule, RuleFailed},
    context::variables,
    read::value,
};
