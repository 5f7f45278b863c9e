//! Users who are online: an open socket for each, and what came to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rig::carillon::Node;
use tokio::task::{JoinSet, block_in_place};

use super::ledger::{USERS, number};
use crate::support::{cluster::token, socket::Socket};

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Listeners {
    /// How often each number came.
    came: Arc<Mutex<BTreeMap<u64, usize>>>,
    _reading: JoinSet<()>,
}

impl Listeners {
    /// One socket for each user to whom something is sent.
    pub(super) async fn at(hub: &Node) -> Self {
        let came: Arc<Mutex<BTreeMap<u64, usize>>> = Arc::default();
        let mut reading = JoinSet::new();
        for user in 0..USERS {
            let token = block_in_place(|| token(hub, &format!("u{user}"), ""));
            let mut socket = Socket::open(hub.address(), &token).await;
            let came = Arc::clone(&came);
            reading.spawn(async move {
                while let Some(frame) = socket.following().await {
                    if frame["type"] == "notification" {
                        let number = number(frame["content"].as_str().unwrap());
                        *came.lock().unwrap().entry(number).or_default() += 1;
                    }
                }
            });
        }
        Self {
            came,
            _reading: reading,
        }
    }

    pub(super) fn came(&self) -> BTreeMap<u64, usize> {
        self.came.lock().unwrap().clone()
    }
}
