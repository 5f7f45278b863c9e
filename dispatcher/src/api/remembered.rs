//! What was found in the database last, for requests that come while it is away.

use common::ids::TenantId;
use dashmap::DashMap;

use crate::model::Template;

/// Names that are remembered; beyond, it starts anew.
const CAPACITY: usize = 4096;

/// A tenant's own templates by the names and ids that requests use; also that there is none. Only asked while the database
/// is away, so that nothing is ever stale otherwise.
#[derive(Debug, Default)]
pub(crate) struct Remembered(DashMap<(TenantId, String), Option<Template>>);

impl Remembered {
    pub(crate) fn keep(&self, tenant: &TenantId, name: &str, found: Option<&Template>) {
        let key = (tenant.clone(), name.to_owned());
        if self.0.get(&key).is_some_and(|known| known.as_ref() == found) {
            return;
        }
        if self.0.len() >= CAPACITY {
            self.0.clear();
        }
        self.0.insert(key, found.cloned());
    }

    /// What was found last; none where it was never looked for.
    pub(crate) fn find(&self, tenant: &TenantId, name: &str) -> Option<Option<Template>> {
        self.0
            .get(&(tenant.clone(), name.to_owned()))
            .map(|known| known.clone())
    }
}
