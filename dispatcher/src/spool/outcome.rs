//! What became of frames that went out on spooling: kept beside the entry, so that the deliveries are stored as they ended.

use std::collections::HashMap;

use common::ids::DeliveryId;
use fred::types::Value;
use tokio::sync::mpsc;

use super::link::{Call, Link, LinkError, list, text};
use crate::model::{Channel, DeliveryState, NewDelivery, NewNotification, Reason};

/// Outcomes that may wait for Redis; beyond, deliveries are told by the queue, which finds the frame sent.
const WAITING: usize = 8192;

/// Outcomes that are written together.
const TOGETHER: usize = 512;

/// The end of a frame's delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) delivery: DeliveryId,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<Reason>,
}

impl Outcome {
    fn words(&self) -> [String; 2] {
        let state = self.state.as_str();
        let text = match &self.reason {
            Some(reason) => format!("{state} {reason}"),
            None => state.to_owned(),
        };
        [self.delivery.to_string(), text]
    }
}

/// Where ends are told. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes(mpsc::Sender<Outcome>);

impl Outcomes {
    /// Starts to write them down.
    pub(super) fn start(link: Link) -> Self {
        let (sender, mut waiting) = mpsc::channel::<Outcome>(WAITING);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(TOGETHER);
            while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
                let names = link.names();
                let call = Call::new(
                    include_str!("scripts/outcome.lua"),
                    &[&names.entries, &names.outcomes],
                );
                let call = batch
                    .drain(..)
                    .flat_map(|outcome| outcome.words())
                    .fold(call, Call::with);
                if let Err(error) = link.run(call).await {
                    tracing::debug!(%error, "what became of frames is not kept");
                }
            }
        });
        Self(sender)
    }

    /// Tells an end; at most once, as the queue finds it out again.
    pub(crate) fn tell(&self, outcome: Outcome) {
        if outcome.state.is_terminal() && self.0.try_send(outcome).is_err() {
            tracing::debug!("what became of a frame finds no room");
        }
    }
}

/// Gives deliveries of frames their ends, as far as they are known; the others are for the queue, as nobody holds them any
/// more. The deliveries whose ends were used.
///
/// # Errors
/// [`LinkError`].
pub(super) async fn fill_in(link: &Link, all: &mut [NewNotification]) -> Result<Vec<String>, LinkError> {
    let frames: Vec<String> = all
        .iter()
        .flat_map(|new| &new.deliveries)
        .filter(|one| is_frame(one))
        .map(|one| one.id.to_string())
        .collect();
    if frames.is_empty() {
        return Ok(frames);
    }
    let mut words = vec![link.names().outcomes.as_str()];
    words.extend(frames.iter().map(String::as_str));
    let found = list(link.ask("HMGET", &words).await?);
    let found: HashMap<String, String> = frames
        .into_iter()
        .zip(found)
        .filter_map(|(delivery, value): (String, Value)| Some((delivery, text(&value)?)))
        .collect();
    for one in all
        .iter_mut()
        .flat_map(|new| &mut new.deliveries)
        .filter(|one| is_frame(one))
    {
        end(one, found.get(&one.id.to_string()).map(String::as_str));
    }
    Ok(found.into_keys().collect())
}

fn is_frame(delivery: &NewDelivery) -> bool {
    delivery.channel == Channel::Realtime && delivery.state == DeliveryState::Running
}

fn end(delivery: &mut NewDelivery, outcome: Option<&str>) {
    let (state, reason) = match outcome {
        Some(text) => text
            .split_once(' ')
            .map_or((text, None), |(state, reason)| (state, Some(reason))),
        None => ("", None),
    };
    delivery.lease_until = None;
    match DeliveryState::parse(state) {
        Some(state) if state.is_terminal() => {
            delivery.state = state;
            delivery.reason = reason.map(|reason| Reason::Owned(reason.to_owned()));
        }
        _ => delivery.state = DeliveryState::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Micros;

    fn frame() -> NewDelivery {
        NewDelivery {
            id: DeliveryId::generate(),
            channel: Channel::Realtime,
            user: None,
            address: None,
            state: DeliveryState::Running,
            reason: None,
            due_at: Micros(1),
            lease_until: Some(Micros(2)),
            max_attempts: 1,
        }
    }

    #[test]
    fn an_end_comes_back_as_it_was_told() {
        for (state, reason) in [
            (DeliveryState::Delivered, None),
            (DeliveryState::Skipped, Some("nobody_online")),
        ] {
            let mut one = frame();
            let outcome = Outcome {
                delivery: one.id,
                state,
                reason: reason.map(Reason::Borrowed),
            };
            let [id, text] = outcome.words();
            assert_eq!(id, one.id.to_string());
            end(&mut one, Some(&text));
            assert_eq!(
                (one.state, one.reason.as_deref(), one.lease_until),
                (state, reason, None)
            );
        }
    }

    #[test]
    fn what_is_not_known_is_for_the_queue() {
        for unknown in [None, Some("running"), Some("?")] {
            let mut one = frame();
            end(&mut one, unknown);
            assert_eq!((one.state, one.lease_until), (DeliveryState::Pending, None));
        }
    }
}
