//! API keys, directly on the database. So the first key needs no token. Dispatchers that run on the same PostgreSQL, and hubs, learn
//! of a change within a second.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use common::{
    audit::{CredentialKind, Origin},
    config::Span,
    credential::KeyBoard,
    ids::{Name, TenantId},
    redis::RedisKind,
    token::{KeyId, NewKey, Role, SCOPES},
};
use dispatcher::{
    keyring::Keyring,
    model::{ApiKey, KeyFilter, KeyRotated, KeyState, Micros, NewApiKey},
};

use crate::{
    cli::{CreateKey, KeysCommand},
    config::Config,
    service::Database,
};

/// Keys that are listed at once.
const PAGE: u32 = 1000;

/// Does it, and says what is to be printed.
///
/// # Errors
/// What the operator can do something about, in words.
pub(super) async fn run(command: KeysCommand, config: &Config) -> anyhow::Result<Vec<String>> {
    let database = Database::open(config)
        .await
        .context("where Carillon runs on this file, use its API: /api/v1/keys")?;
    let board = match config.redis.kind {
        RedisKind::None => None,
        _ => Some(KeyBoard::connect(&config.redis)?),
    };
    let keyring = Keyring::new(database.store().clone(), board);
    let done = match command {
        KeysCommand::Create(new) => create(new, &keyring, config).await,
        KeysCommand::List { tenant, state } => list(tenant.as_deref(), state.as_deref(), &database).await,
        KeysCommand::Rotate { id, overlap } => rotate(id, overlap, &keyring, &database).await,
        KeysCommand::Revoke { id } => revoke(id, &keyring, &database).await,
    };
    database.close().await;
    done
}

async fn create(new: CreateKey, keyring: &Keyring, config: &Config) -> anyhow::Result<Vec<String>> {
    let tenant = match (&new.tenant, &config.auth.default_tenant) {
        (Some(tenant), _) => TenantId::new(tenant).context("--tenant")?,
        (None, Some(tenant)) => tenant.clone(),
        (None, None) => bail!("--tenant: say whose key it is"),
    };
    let name = new.name.trim();
    ensure!(
        (1..=256).contains(&name.len()) && !name.contains('\0'),
        "--name: 1 to 256 bytes"
    );
    let scopes: BTreeSet<String> = new
        .scopes
        .iter()
        .flat_map(|scopes| scopes.split_whitespace())
        .map(str::to_owned)
        .collect();
    if let Some(unknown) = scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
        bail!("--scope: `{unknown}` is none of {}", SCOPES.join(", "));
    }
    ensure!(
        !scopes.is_empty() || new.role.is_some(),
        "--scope or --role: say what the key may do"
    );
    ensure!(
        new.expires.is_none_or(|span| !span.0.is_zero()),
        "--expires: a key has to count for some time"
    );
    let secret = NewKey::generate()?;
    let by = by(tenant.clone())?;
    let now = Micros::now();
    let key = ApiKey {
        id: secret.id,
        tenant,
        name: name.to_owned(),
        scopes,
        role: new.role,
        created_by: by.user.as_str().to_owned(),
        created_at: now,
        expires_at: new.expires.map(|span| now.plus(span.0)),
        rotated_at: None,
        previous_until: None,
        revoked_at: None,
        last_used_at: None,
    };
    let most = config.dispatcher().limits.keys_per_tenant;
    let new = NewApiKey {
        key,
        hash: secret.hash,
        most,
    };
    let made = keyring.create(new, &by).await?;
    ensure!(made.made, "the tenant has {most} keys that count; revoke some");
    Ok(vec![secret.text().to_owned()])
}

async fn list(tenant: Option<&str>, state: Option<&str>, database: &Database) -> anyhow::Result<Vec<String>> {
    let state = state
        .map(|word| KeyState::parse(word).context("--state: active, expired or revoked"))
        .transpose()?;
    let filter = KeyFilter {
        tenant: tenant.map(TenantId::new).transpose().context("--tenant")?,
        state,
    };
    let mut lines = Vec::new();
    let mut after: Option<KeyId> = None;
    loop {
        let page = database.store().keys(&filter, after.as_ref(), PAGE).await?;
        lines.extend(page.iter().map(line));
        after = page.last().map(|last| last.id);
        if page.len() < PAGE as usize {
            return Ok(lines);
        }
    }
}

/// id, tenant, state, last use, role, scopes, name: with tabs between, for people and `cut`.
fn line(key: &ApiKey) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(String::as_str).collect();
    let scopes = scopes.join(" ");
    let used = key
        .last_used_at
        .map_or_else(|| "never".to_owned(), Micros::rfc3339);
    [
        key.id.as_str(),
        key.tenant.as_str(),
        key.state(Micros::now()).as_str(),
        &used,
        key.role.map_or("-", Role::as_str),
        if scopes.is_empty() { "-" } else { &scopes },
        // A name is one line, whatever somebody gave.
        &key.name.escape_debug().to_string(),
    ]
    .join("\t")
}

async fn rotate(
    id: KeyId,
    overlap: Span,
    keyring: &Keyring,
    database: &Database,
) -> anyhow::Result<Vec<String>> {
    let key = database
        .store()
        .key(None, &id)
        .await?
        .context("there is no such key")?;
    let secret = NewKey::next(id)?;
    let until = Micros::now().plus(overlap.0);
    let by = by(key.tenant)?;
    match keyring.rotate(None, id, secret.hash, until, &by).await? {
        KeyRotated::Done(_) => Ok(vec![secret.text().to_owned()]),
        KeyRotated::Ended(state) => bail!("the key is {}; make another one", state.as_str()),
        KeyRotated::None => bail!("there is no such key"),
    }
}

async fn revoke(id: KeyId, keyring: &Keyring, database: &Database) -> anyhow::Result<Vec<String>> {
    let key = database
        .store()
        .key(None, &id)
        .await?
        .context("there is no such key")?;
    let by = by(key.tenant)?;
    keyring
        .revoke(None, id, &by)
        .await?
        .context("there is no such key")?;
    Ok(vec![format!("{id} is revoked")])
}

/// The system's user, in the name of a tenant.
fn by(tenant: TenantId) -> anyhow::Result<Origin> {
    let user = ["SUDO_USER", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| "unknown".to_owned());
    Ok(Origin {
        tenant,
        credential: CredentialKind::Command,
        user: Name::new(&user).context("the name of the system's user")?,
        credential_id: user,
        address: None,
        request: None,
    })
}
