//! A connection that hears: sharded channels of the topics that this node wants from one server.
//!
//! Reading never waits for anybody. Every confirmation is counted. When nothing was heard for a while, a message is sent to
//! the node itself through the bus: a connection on which it does not come back is made anew, whatever TCP says of it.

mod connection;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use self::connection::Connection;
use super::{
    hearing::{Hearing, Order, State},
    link::{Link, Place},
};
use crate::backoff::Backoff;

/// A connection that held for so long was a good one.
const STEADY: Duration = Duration::from_secs(10);

const RECONNECT: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(2),
};

/// The listener of a place. It ends when `orders` has no sender.
pub(super) struct Listener {
    pub(super) place: Place,
    pub(super) hearing: Arc<Hearing>,
    pub(super) state: Arc<State>,
    pub(super) orders: mpsc::Receiver<Order>,
}

impl Listener {
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let connecting = Link::connect(&self.place, &self.hearing.dialing);
            let error = match connecting.await {
                Ok(link) => {
                    let serial = self.hearing.next_serial();
                    let parts = (&*self.hearing, &*self.state, &self.place);
                    let began = Instant::now();
                    let ended = Connection::new(parts, link, serial).serve(&mut self.orders).await;
                    self.state.serial.store(0, Ordering::Release);
                    self.state.restored.store(false, Ordering::Release);
                    match ended {
                        Ok(()) => return,
                        Err(error) => {
                            // Who is cut off again and again comes back more and more slowly.
                            if began.elapsed() > STEADY {
                                failures = 0;
                            }
                            self.hearing.metrics.reconnects.inc();
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            failures += 1;
            if failures == 1 {
                tracing::warn!(server = %self.place, %error, "a subscription to Redis is lost, or cannot be made");
            }
            self.hearing.unsettle();
            if !self.turn_away(RECONNECT.delay(failures, fastrand::f64())).await {
                return;
            }
        }
    }

    /// With the next connection all that is wanted is asked for; what is ordered until then is part of that.
    async fn turn_away(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match timeout_at(until, self.orders.recv()).await {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(_)) => {}
            }
        }
    }
}
