//! The rules of every tenant, compiled: those of the configuration, and over them the tenant's own.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::ids::TenantId;
use minijinja::Environment;

use crate::{
    config::RulesConfig,
    events::{InvalidRule, Rule, builtin},
    model::EventRule,
    service::Service,
    store::StoreError,
    template::environment,
};

/// How old what is known of a tenant's rules may be.
const FRESH: Duration = Duration::from_millis(500);

/// Tenants whose rules are kept compiled.
const TENANTS: usize = 10_000;

/// A tenant's rules, the configuration's among them.
pub(crate) type Rules = Arc<[Arc<Rule>]>;

#[derive(Clone)]
struct Kept {
    rules: Rules,
    read_at: Instant,
}

/// The rules of every tenant.
pub(crate) struct Book {
    base: Environment<'static>,
    /// Of the configuration: these every tenant has.
    configured: Vec<Arc<Rule>>,
    kept: Mutex<HashMap<TenantId, Kept>>,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book")
            .field("configured", &self.configured.len())
            .finish_non_exhaustive()
    }
}

impl Book {
    /// With the rules of a configuration that was checked; one that is not sound is left out.
    pub(crate) fn new(config: &RulesConfig) -> Self {
        let base = environment();
        let builtin = if config.builtin { builtin() } else { Vec::new() };
        let mut configured: Vec<Arc<Rule>> = Vec::new();
        for rule in builtin.into_iter().chain(config.rules()) {
            match Rule::compile(&base, rule) {
                Ok(rule) => {
                    configured.retain(|known| known.name() != rule.name());
                    configured.push(Arc::new(rule));
                }
                Err(error) => tracing::error!(%error, "a rule of the configuration is left out"),
            }
        }
        Self {
            base,
            configured,
            kept: Mutex::default(),
        }
    }

    /// Checks and compiles a rule that is to be kept, or tried.
    pub(crate) fn compile(&self, rule: EventRule) -> Result<Rule, InvalidRule> {
        Rule::compile(&self.base, rule)
    }

    /// A tenant's rules as they were at most half a second ago.
    pub(crate) async fn of(&self, service: &Service, tenant: &TenantId) -> Result<Rules, StoreError> {
        let known = self.kept().get(tenant).cloned();
        match known {
            Some(known) if known.read_at.elapsed() < FRESH => Ok(known.rules),
            _ => self.now(service, tenant).await,
        }
    }

    /// A tenant's rules as they are.
    pub(crate) async fn now(&self, service: &Service, tenant: &TenantId) -> Result<Rules, StoreError> {
        let known = self.kept().get(tenant).cloned();
        let read_at = Instant::now();
        let own = service.read(service.store().rules(tenant)).await?;
        let rules = self.compiled(own, known.as_ref().map(|known| &known.rules));
        let kept = Kept {
            rules: Arc::clone(&rules),
            read_at,
        };
        let mut all = self.kept();
        if all.len() >= TENANTS && !all.contains_key(tenant) {
            all.clear();
        }
        // Who began to read later knows better.
        let newer = all.get(tenant).is_some_and(|other| other.read_at > read_at);
        if !newer {
            all.insert(tenant.clone(), kept);
        }
        Ok(rules)
    }

    /// A tenant's rules were changed by this process.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.kept().remove(tenant);
    }

    /// Compiles what is new, and keeps what is not.
    fn compiled(&self, own: Vec<EventRule>, known: Option<&Rules>) -> Rules {
        let mut rules: Vec<Arc<Rule>> = self
            .configured
            .iter()
            .filter(|rule| !own.iter().any(|other| other.name == rule.name()))
            .cloned()
            .collect();
        for rule in own {
            let same = known.and_then(|known| known.iter().find(|known| *known.said() == rule));
            match same {
                Some(same) => rules.push(Arc::clone(same)),
                None => match Rule::compile(&self.base, rule) {
                    Ok(rule) => rules.push(Arc::new(rule)),
                    // It was checked when it was stored, by this version or another.
                    Err(error) => tracing::error!(%error, "a stored rule cannot be used"),
                },
            }
        }
        rules.into()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<TenantId, Kept>> {
        // Entries are whole after a panic, too.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
