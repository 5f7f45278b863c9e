//! What drafts refer to, looked up once for all drafts of a request: templates and contacts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use common::{http::Problem, ids::Name, token::Identity};

use super::{draft::Draft, plan::Outline, problems::store_problem, state::ApiState};
use crate::{
    model::{Contact, Template},
    store::StoreError,
    template::find_predefined,
};

/// Contacts that are asked for at once.
const CONTACTS: usize = 1000;

/// What is known of the names in drafts.
#[derive(Debug, Default)]
pub(super) struct References {
    /// By the name or id that a body wrote; only what there is.
    templates: HashMap<String, Arc<Template>>,
    contacts: HashMap<Name, Contact>,
}

impl References {
    /// Looks up the templates that drafts name.
    pub(super) async fn add_templates(
        &mut self,
        state: &ApiState,
        caller: &Identity,
        drafts: impl Iterator<Item = &Draft>,
    ) -> Result<(), Problem> {
        let names: HashSet<&str> = drafts
            .filter_map(|draft| Some(draft.template.as_ref()?.name.as_str()))
            .collect();
        for name in names {
            if let Some(template) = find(state, caller, name).await? {
                self.templates.insert(name.to_owned(), Arc::new(template));
            }
        }
        Ok(())
    }

    /// Looks up the contacts that outlines need.
    pub(super) async fn add_contacts(
        &mut self,
        state: &ApiState,
        caller: &Identity,
        outlines: impl Iterator<Item = &Outline>,
    ) -> Result<(), Problem> {
        let users: HashSet<&Name> = outlines
            .flat_map(|outline| outline.contacts_needed(state))
            .collect();
        let users: Vec<Name> = users.into_iter().cloned().collect();
        for users in users.chunks(CONTACTS) {
            let found = state
                .service
                .read(state.store().contacts(&caller.tenant, users))
                .await
                .map_err(store_problem)?;
            let found = users.iter().zip(found);
            self.contacts
                .extend(found.filter_map(|(user, contact)| Some((user.clone(), contact?))));
        }
        Ok(())
    }

    pub(super) fn template(&self, name: &str) -> Option<Arc<Template>> {
        self.templates.get(name).cloned()
    }

    pub(super) fn contact(&self, user: &Name) -> Option<Contact> {
        self.contacts.get(user).cloned()
    }
}

/// A template by id or name.
pub(crate) async fn find(
    state: &ApiState,
    caller: &Identity,
    name: &str,
) -> Result<Option<Template>, Problem> {
    let found = match state.service.read(stored(state, caller, name)).await {
        Ok(found) => {
            // Without a spool nothing is accepted while the database is away, and nothing need be remembered.
            if state.service.spool().is_some() {
                state.remembered().keep(&caller.tenant, name, found.as_ref());
            }
            found
        }
        Err(error @ StoreError::Unavailable { .. }) => match state.remembered().find(&caller.tenant, name) {
            Some(found) => found,
            None => return Err(store_problem(error)),
        },
        Err(error) => return Err(store_problem(error)),
    };
    Ok(found.or_else(|| find_predefined(name).cloned()))
}

/// The tenant's own template.
async fn stored(state: &ApiState, caller: &Identity, name: &str) -> Result<Option<Template>, StoreError> {
    if let Ok(id) = uuid::Uuid::parse_str(name)
        && let Some(template) = state.store().template_by_id(&caller.tenant, id).await?
    {
        return Ok(Some(template));
    }
    state.store().template_by_name(&caller.tenant, name).await
}
