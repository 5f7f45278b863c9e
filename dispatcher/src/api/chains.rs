//! From planned deliveries to chains: who gets what first, and what follows.

use std::collections::HashMap;

use common::{http::Problem, ids::Name};

use super::arrangement::{Arrangement, StepDraft};
use crate::{
    config::StrategyConfig,
    model::{
        Chain, ChainId, ChainState, Channel, Contact, DeliveryState, Micros, NewDelivery, Reached, Step,
        StepDelivery, StepState, Strategy,
    },
    strategy::{self, Event},
};

/// Channels in the order of their steps.
pub(super) fn in_order(
    arrangement: &Arrangement,
    mut channels: Vec<(String, Channel)>,
) -> Result<Vec<(String, Channel)>, Problem> {
    if arrangement.strategy == Strategy::Escalate {
        if channels.iter().all(|(_, channel)| channel.is_external()) {
            return Err(Problem::invalid(
                "no_receipts",
                "channels",
                "`escalate` begins with `in_app` or `realtime`, whose receipts it waits for; name one of them",
            ));
        }
        channels.sort_by_key(|(_, channel)| channel.is_external());
    }
    Ok(channels)
}

/// What chains are made of.
pub(super) struct Layout<'a> {
    pub(super) arrangement: &'a Arrangement,
    pub(super) config: &'a StrategyConfig,
    /// Who is named.
    pub(super) users: &'a [(Name, Option<Contact>)],
    /// In the order of the steps.
    pub(super) channels: &'a [(String, Channel)],
    pub(super) now: Micros,
    pub(super) begins_at: Micros,
    pub(super) expires_at: Option<Micros>,
}

impl Layout<'_> {
    /// Lays chains out over what was planned for each channel, and gives what enters the queue with the notification.
    pub(super) fn lay_out(
        &self,
        planned: Vec<NewDelivery>,
    ) -> Result<(Vec<NewDelivery>, Vec<Chain>), Problem> {
        let mut by_user: Vec<(Option<Name>, Vec<NewDelivery>)> = Vec::new();
        let mut known = HashMap::new();
        // What no user has (a channel that is not configured) nobody has.
        let planned = planned.into_iter().flat_map(|delivery| {
            let users: Vec<_> = match (&delivery.user, self.users) {
                (None, users @ [_, ..]) => users.iter().map(|(user, _)| Some(user.clone())).collect(),
                (user, _) => vec![user.clone()],
            };
            users.into_iter().map(move |user| NewDelivery {
                user,
                ..delivery.clone()
            })
        });
        for delivery in planned {
            let user = delivery.user.clone();
            let index = *known.entry(user.clone()).or_insert(by_user.len());
            match by_user.get_mut(index) {
                Some((_, deliveries)) => deliveries.push(delivery),
                None => by_user.push((user, vec![delivery])),
            }
        }
        let mut first = Vec::new();
        let chains = by_user
            .into_iter()
            .map(|(user, mut deliveries)| {
                let id = ChainId::generate();
                for (number, delivery) in (1..).zip(&mut deliveries) {
                    if number > ChainId::DELIVERIES {
                        return Err(Problem::invalid(
                            "too_many",
                            "recipients",
                            format!("a chain has at most {} addresses in all", ChainId::DELIVERIES),
                        ));
                    }
                    delivery.id = id.delivery(number);
                }
                let mut chain = Chain {
                    id,
                    user,
                    strategy: self.arrangement.strategy,
                    state: ChainState::Open,
                    reason: None,
                    reached: Reached::Nothing,
                    begins_at: self.begins_at,
                    expires_at: self.expires_at,
                    untold: false,
                    steps: self.steps(&mut deliveries),
                };
                let begun = strategy::apply(&mut chain, Event::Accepted, self.now).begin;
                let begins = |channel| begun.iter().any(|index| chain.steps[*index].channel == channel);
                // The inbox has its row from the beginning, whatever its place is.
                deliveries.retain(|one| one.channel == Channel::InApp || begins(one.channel));
                first.append(&mut deliveries);
                Ok(chain)
            })
            .collect::<Result<_, _>>()?;
        Ok((first, chains))
    }

    /// One recipient's steps; their deliveries get the attempts that the strategy leaves them.
    fn steps(&self, deliveries: &mut [NewDelivery]) -> Vec<Step> {
        let last = self.channels.len().saturating_sub(1);
        let mut after = 0_i64;
        self.channels
            .iter()
            .enumerate()
            .map(|(index, (_, channel))| {
                let said = self
                    .arrangement
                    .steps
                    .iter()
                    .find(|step| step.channel == *channel);
                let attempts = said.and_then(|step| step.attempts).or(self.arrangement.attempts);
                let attempts = attempts.unwrap_or(1);
                let unless = self.waits_for(*channel, said);
                if let Some(unless) = unless {
                    let pause = said.and_then(|step| step.after);
                    after = after.saturating_add(pause.unwrap_or_else(|| self.config.pause(unless)));
                }
                let mine = deliveries.iter_mut().filter(|one| one.channel == *channel);
                Step {
                    channel: *channel,
                    after,
                    unless,
                    attempts,
                    state: StepState::Pending,
                    reason: None,
                    started_at: None,
                    ended_at: None,
                    told: false,
                    deliveries: mine
                        .map(|one| {
                            // Behind the last one there is nothing to go on to: it has the attempts that all others have.
                            if self.arrangement.strategy == Strategy::Failover && index < last {
                                one.max_attempts = attempts;
                            }
                            step_delivery(one)
                        })
                        .collect(),
                }
            })
            .collect()
    }

    /// The receipt that makes a step needless; none for those that begin at once.
    fn waits_for(&self, channel: Channel, said: Option<&StepDraft>) -> Option<Reached> {
        let waits = self.arrangement.strategy == Strategy::Escalate && channel.is_external();
        let named = said.and_then(|step| step.unless).or(self.arrangement.stop_on);
        waits.then(|| named.unwrap_or(Reached::Read))
    }
}

fn step_delivery(planned: &NewDelivery) -> StepDelivery {
    let end = match (planned.channel, planned.state) {
        (_, DeliveryState::Dead) => Some((DeliveryState::Dead, planned.reason.clone())),
        // Its row is there when the notification is visible.
        (Channel::InApp, _) => Some((DeliveryState::Delivered, None)),
        _ => None,
    };
    StepDelivery {
        id: planned.id,
        address: planned.address.clone(),
        max_attempts: planned.max_attempts,
        returns: 0,
        end,
    }
}
