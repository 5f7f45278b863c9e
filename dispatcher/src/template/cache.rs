//! Compiled templates, kept by id and version. A new version has a new key, so nothing is ever stale.

use std::sync::Arc;

use dashmap::DashMap;
use minijinja::Environment;
use uuid::Uuid;

use super::{Compiled, InvalidTemplate, compile, environment};
use crate::model::{NewTemplate, Template};

/// Compiled templates that are kept; beyond it the cache starts anew, which costs some 20 µs a template.
const CAPACITY: usize = 4096;

/// Compiles templates and keeps them.
pub(crate) struct Templates {
    base: Environment<'static>,
    compiled: DashMap<(Uuid, u32), Arc<Compiled>>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates")
            .field("compiled", &self.compiled.len())
            .finish_non_exhaustive()
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            base: environment(),
            compiled: DashMap::new(),
        }
    }
}

impl Templates {
    /// Checks a template that is about to be saved.
    ///
    /// # Errors
    /// [`InvalidTemplate`] says which part is wrong and why.
    pub(crate) fn check(&self, template: &NewTemplate) -> Result<Compiled, InvalidTemplate> {
        compile(&self.base, template)
    }

    /// The compiled form of a stored template.
    ///
    /// # Errors
    /// [`InvalidTemplate`] only where a stored template was made by a version with other rules.
    pub(crate) fn compiled(&self, template: &Template) -> Result<Arc<Compiled>, InvalidTemplate> {
        let key = (template.id, template.version);
        if let Some(found) = self.compiled.get(&key) {
            return Ok(Arc::clone(&found));
        }
        let compiled = Arc::new(compile(&self.base, &template.body)?);
        if self.compiled.len() >= CAPACITY {
            self.compiled.clear();
        }
        self.compiled.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}
