//! The deliveries of a notification, laid out channel by channel.

use common::{
    ids::{DeliveryId, Name},
    target::{Audience, Target},
};

use super::state::ApiState;
use crate::model::{Channel, Contact, DeliveryState, Micros, NewDelivery};

/// Attempts of deliveries that need no provider.
const OWN_ATTEMPTS: u32 = 1;

/// Lays out deliveries channel by channel.
pub(super) struct Planner<'a> {
    pub(super) state: &'a ApiState,
    pub(super) audience: Option<&'a Audience>,
    /// The users that are named, with their contacts where an external channel needs them.
    pub(super) users: &'a [(Name, Option<Contact>)],
    /// Not scheduled for later.
    pub(super) visible: bool,
    pub(super) now: Micros,
    pub(super) due_at: Micros,
    pub(super) deliveries: Vec<NewDelivery>,
    /// External channels that a group's job will walk.
    pub(super) job: Vec<Channel>,
}

impl Planner<'_> {
    fn push(&mut self, channel: Channel, user: Option<Name>, address: Option<String>) {
        self.deliveries.push(NewDelivery {
            id: DeliveryId::generate(),
            channel,
            user,
            address,
            state: DeliveryState::Pending,
            reason: None,
            due_at: self.due_at,
            lease_until: None,
            max_attempts: if channel.is_external() {
                self.state.service.max_attempts(channel)
            } else {
                OWN_ATTEMPTS
            },
        });
    }

    fn dead(&mut self, channel: Channel, user: Option<Name>, address: Option<String>, reason: &'static str) {
        self.push(channel, user, address);
        if let Some(delivery) = self.deliveries.last_mut() {
            delivery.state = DeliveryState::Dead;
            delivery.reason = Some(reason.into());
        }
    }

    /// One for each named user, or one for the group.
    fn own(&mut self, channel: Channel, state: DeliveryState, lease_until: Option<Micros>) {
        let first = self.deliveries.len();
        if self.is_named() {
            for (user, _) in self.users {
                self.push(channel, Some(user.clone()), None);
            }
        } else {
            self.push(channel, None, None);
        }
        if self.visible {
            for delivery in &mut self.deliveries[first..] {
                delivery.state = state;
                delivery.lease_until = lease_until;
            }
        }
    }

    fn is_named(&self) -> bool {
        self.audience
            .is_some_and(|audience| matches!(audience.target, Target::User(_) | Target::Users(_)))
    }

    /// The row of the inbox is the delivery: it is there when it is visible. A topic has no row, and no delivery.
    pub(super) fn in_app(&mut self, has_rows: bool) -> bool {
        if self.audience.is_none() {
            self.dead(Channel::InApp, None, None, "no_address");
        } else if has_rows {
            self.own(Channel::InApp, DeliveryState::Delivered, None);
        }
        has_rows
    }

    /// Held by this node, which publishes it right after the commit; the row is the safety net.
    pub(super) fn realtime(&mut self) -> bool {
        if self.audience.is_none() {
            self.dead(Channel::Realtime, None, None, "no_address");
            return false;
        }
        let lease_until = self.now.plus(self.state.realtime_lease);
        self.own(Channel::Realtime, DeliveryState::Running, Some(lease_until));
        true
    }

    /// One delivery for each address of the body, else for each named user's contact, else a job for the group.
    pub(super) fn external(&mut self, channel: Channel, given: &[String]) -> bool {
        let configured = self.state.service.is_configured(channel);
        let single = match self.users {
            [(user, _)] => Some(user.clone()),
            _ => None,
        };
        if !given.is_empty() {
            for address in given {
                if configured {
                    self.push(channel, single.clone(), Some(address.clone()));
                } else {
                    self.dead(channel, single.clone(), Some(address.clone()), "not_configured");
                }
            }
            return configured;
        }
        if !configured {
            self.dead(channel, single, None, "not_configured");
            return false;
        }
        if self.audience.is_none() {
            self.dead(channel, None, None, "no_address");
            return false;
        }
        if !self.is_named() {
            self.job.push(channel);
            return true;
        }
        let mut any = false;
        for (user, contact) in self.users {
            match contact.as_ref().and_then(|contact| contact.address(channel)) {
                Some(address) => {
                    self.push(channel, Some(user.clone()), Some(address.to_owned()));
                    any = true;
                }
                None => self.dead(channel, Some(user.clone()), None, "no_address"),
            }
        }
        any
    }
}
