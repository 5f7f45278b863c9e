//! The rules of every tenant, compiled: those of the configuration, and over them the tenant's own.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::ids::TenantId;
use minijinja::Environment;

use crate::{
    config::RulesConfig,
    events::{InvalidRule, Rule, builtin},
    model::EventRule,
    service::Service,
    settings::Effective,
    store::StoreError,
    template::environment,
};

/// Tenants whose rules are kept compiled.
const TENANTS: usize = 10_000;

/// A tenant's rules, the configuration's among them.
pub(crate) type Rules = Arc<[Arc<Rule>]>;

/// What a tenant's rules were made of.
#[derive(Clone)]
struct Kept {
    rules: Rules,
    /// How often rules had been changed when they began to be read.
    revision: i64,
    configured: Rules,
}

/// The rules of every tenant. Read again when somebody changed rules, here or elsewhere, and when settings say others.
pub(crate) struct Book {
    base: Environment<'static>,
    /// The rules that every tenant has, and the settings that say so.
    configured: Mutex<(Arc<Effective>, Rules)>,
    kept: Mutex<HashMap<TenantId, Kept>>,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book")
            .field("configured", &locked(&self.configured).1.len())
            .finish_non_exhaustive()
    }
}

impl Book {
    /// With the rules of the settings.
    pub(crate) fn new(service: &Service) -> Self {
        let (base, settings) = (environment(), service.settings().current());
        let rules = compile_all(&base, &settings.config.rules);
        Self {
            base,
            configured: Mutex::new((settings, rules)),
            kept: Mutex::default(),
        }
    }

    /// The rules that every tenant has now.
    fn configured(&self, service: &Service) -> Rules {
        let settings = service.settings().current();
        let mut known = locked(&self.configured);
        if !Arc::ptr_eq(&known.0, &settings) {
            if known.0.config.rules != settings.config.rules {
                known.1 = compile_all(&self.base, &settings.config.rules);
            }
            known.0 = settings;
        }
        Arc::clone(&known.1)
    }

    /// Checks and compiles a rule that is to be kept, or tried.
    pub(crate) fn compile(&self, rule: EventRule) -> Result<Rule, InvalidRule> {
        Rule::compile(&self.base, rule)
    }

    /// A tenant's rules as they were at most a second ago.
    pub(crate) async fn of(&self, service: &Service, tenant: &TenantId) -> Result<Rules, StoreError> {
        let (revision, configured) = (service.rules_revision(), self.configured(service));
        let known = locked(&self.kept).get(tenant).cloned();
        match known {
            Some(known) if known.revision == revision && Arc::ptr_eq(&known.configured, &configured) => {
                Ok(known.rules)
            }
            _ => self.now(service, tenant).await,
        }
    }

    /// A tenant's rules as they are.
    pub(crate) async fn now(&self, service: &Service, tenant: &TenantId) -> Result<Rules, StoreError> {
        // First, so that what is changed behind it has them read again.
        let revision = service.rules_revision();
        let configured = self.configured(service);
        let known = locked(&self.kept).get(tenant).cloned();
        let own = service.read(service.store().rules(tenant)).await?;
        let rules = self.compiled(&configured, own, known.as_ref().map(|known| &known.rules));
        let kept = Kept {
            rules: Arc::clone(&rules),
            revision,
            configured,
        };
        let mut all = locked(&self.kept);
        if all.len() >= TENANTS && !all.contains_key(tenant) {
            all.clear();
        }
        all.insert(tenant.clone(), kept);
        Ok(rules)
    }

    /// A tenant's rules were changed by this process.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        locked(&self.kept).remove(tenant);
    }

    /// Compiles what is new, and keeps what is not.
    fn compiled(&self, configured: &[Arc<Rule>], own: Vec<EventRule>, known: Option<&Rules>) -> Rules {
        let mut rules: Vec<Arc<Rule>> = configured
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
}

/// The rules of a configuration that was checked; one that is not sound is left out.
fn compile_all(base: &Environment<'static>, config: &RulesConfig) -> Rules {
    let builtin = if config.builtin { builtin() } else { Vec::new() };
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    for rule in builtin.into_iter().chain(config.rules()) {
        match Rule::compile(base, rule) {
            Ok(rule) => {
                rules.retain(|known| known.name() != rule.name());
                rules.push(Arc::new(rule));
            }
            Err(error) => tracing::error!(%error, "a rule of the configuration is left out"),
        }
    }
    rules.into()
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is whole after a panic, too.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
