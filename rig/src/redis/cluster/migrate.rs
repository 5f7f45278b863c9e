//! Slots that change their primary while clients go on, as `redis-cli --cluster reshard` moves them.

use std::time::Duration;

use super::Cluster;
use crate::{Error, redis::connection::Connection};

/// Keys in one MIGRATE.
const BATCH: &str = "100";
/// Longest MIGRATE and longest answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cluster {
    /// Moves slots with all their keys, one slot after the other, and tells every primary that is awake. Gives the
    /// number of keys. Nodes without slots, as a replica is, can take none.
    ///
    /// # Errors
    /// [`Error::Redis`] where a node refuses, for example because `from` has not the slot; the slots before are moved. What was
    /// interrupted, by a fail-over in between, goes on when it is asked for again from who then has the slots.
    pub fn migrate_slots(
        &self,
        from: usize,
        to: usize,
        slots: impl IntoIterator<Item = u16>,
    ) -> Result<usize, Error> {
        let mut source = self.node(from).connect(PATIENCE)?;
        let mut target = self.node(to).connect(PATIENCE)?;
        let mut others = Vec::new();
        for primary in self.primaries()? {
            if primary != from && primary != to {
                others.push(self.node(primary).connect(PATIENCE)?);
            }
        }
        let (from_id, to_id) = (&self.nodes[from].id, &self.nodes[to].id);
        let mut keys = 0;
        for slot in slots {
            let slot = &slot.to_string();
            target.call(&["CLUSTER", "SETSLOT", slot, "IMPORTING", from_id])?;
            source.call(&["CLUSTER", "SETSLOT", slot, "MIGRATING", to_id])?;
            keys += self.hand_over(&mut source, to, slot)?;
            // The new owner first: the other way round nobody would have the slot for a moment.
            for node in [&mut target, &mut source].into_iter().chain(&mut others) {
                node.call(&["CLUSTER", "SETSLOT", slot, "NODE", to_id])?;
            }
        }
        Ok(keys)
    }

    fn hand_over(&self, source: &mut Connection, to: usize, slot: &str) -> Result<usize, Error> {
        let address = self.node(to).address();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let patience = PATIENCE.as_millis().to_string();
        let mut moved = 0;
        loop {
            let keys = source.call(&["CLUSTER", "GETKEYSINSLOT", slot, BATCH])?;
            let keys: Vec<&[u8]> = keys.as_list().iter().filter_map(|key| key.as_bytes()).collect();
            if keys.is_empty() {
                return Ok(moved);
            }
            let mut words: Vec<&[u8]> = ["MIGRATE", &ip, &port, "", "0", &patience]
                .map(str::as_bytes)
                .to_vec();
            let login = self.node(to).login();
            if let Some([name, password]) = login {
                words.extend(["AUTH2", name, password].map(str::as_bytes));
            }
            // After a MIGRATE whose answer was lost both have them.
            words.extend([&b"REPLACE"[..], b"KEYS"]);
            words.extend(&keys);
            source.call(&words)?;
            moved += keys.len();
        }
    }
}
