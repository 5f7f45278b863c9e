//! The fan-out of a group's external channels: page by page over contacts, restartable.

use std::collections::{HashMap, HashSet};

use common::{
    ids::{Name, NotificationId, TenantId},
    topic::{TopicKey, TopicKind},
};
use uuid::Uuid;

use super::{
    JobClaim, JobPage, StoreError,
    access::Access,
    codec::{from_json, json, lane_of, tenant_of, user_of},
    deliveries,
    sql::queue as sql,
    totals::{add_totals, counts},
    transaction::Tx,
};
use crate::model::{Contact, Micros, NewDelivery};

pub(super) async fn next_job(
    tx: &mut Tx<'_>,
    worker: &str,
    now: Micros,
    lease_until: Micros,
) -> Result<Option<JobClaim>, StoreError> {
    let row: Option<(Uuid, String, String, Option<String>, i64)> = tx
        .conn
        .query(sql::CLAIM_JOB)
        .bind(now.0)
        .bind(worker)
        .bind(lease_until.0)
        .optional()
        .await?;
    let Some((id, tenant, job, cursor, token)) = row else {
        return Ok(None);
    };
    let (lane, visible_at, expires_at): (i64, i64, Option<i64>) =
        tx.conn.query(sql::JOB_NOTIFICATION).bind(id).one().await?;
    Ok(Some(JobClaim {
        notification: NotificationId(id),
        tenant: tenant_of(&tenant)?,
        token,
        job: from_json("job", &job)?,
        lane: lane_of(lane)?,
        visible_at: Micros(visible_at),
        expires_at: expires_at.map(Micros),
        cursor,
    }))
}

/// What `advance` does.
#[derive(Debug)]
pub(super) struct Advance {
    pub(super) claim: JobClaim,
    pub(super) deliveries: Vec<NewDelivery>,
    pub(super) next: Option<String>,
    pub(super) lease_until: Micros,
}

pub(super) async fn advance(tx: &mut Tx<'_>, step: &Advance) -> Result<bool, StoreError> {
    let moved = tx
        .conn
        .query(sql::ADVANCE_JOB)
        .bind(step.claim.notification.0)
        .bind(step.claim.token)
        .bind(&step.next)
        .bind(step.lease_until.0)
        .bind(i64::from(step.next.is_none()))
        .bind(tx.now.0)
        .run()
        .await?;
    if moved == 0 {
        return Ok(false);
    }
    let claim = &step.claim;
    let made = step
        .deliveries
        .iter()
        .map(|new| (claim.notification, claim.tenant.as_str(), claim.lane, new));
    let rows = deliveries::rows(made, tx.now);
    deliveries::insert(tx, &rows).await?;
    let mut sums = (0, 0);
    for delivery in &step.deliveries {
        let (sent, failed) = counts(delivery.state);
        sums = (sums.0 + sent, sums.1 + failed);
    }
    add_totals(tx, std::iter::once((claim.tenant.as_str(), sums)).collect()).await?;
    Ok(true)
}

/// A page of contacts; those that the audience means are answered. A contact's own `roles` and `stores` count where they
/// are given, else what the user's newest token carried.
pub(super) async fn page(conn: &mut Access<'_>, claim: &JobClaim, limit: u32) -> Result<JobPage, StoreError> {
    let audience = &claim.job.audience;
    let (after_tenant, after_user): (String, String) = match &claim.cursor {
        Some(cursor) => from_json("job's cursor", cursor)?,
        None => (String::new(), String::new()),
    };
    let all_tenants = audience.target.reaches_everyone();
    let limit = limit.max(1);
    let (statement, tenant) = if all_tenants {
        (sql::JOB_CONTACTS_ALL, after_tenant.as_str())
    } else {
        (sql::JOB_CONTACTS, claim.tenant.as_str())
    };
    let rows: Vec<(String, String, String)> = conn
        .query(statement)
        .bind(tenant)
        .bind(&after_user)
        .bind(i64::from(limit))
        .all()
        .await?;
    let next = match rows.last() {
        Some((tenant, user, _)) if rows.len() >= limit as usize => Some(json(&(tenant, user))?),
        _ => None,
    };
    let people: Vec<(&str, &str)> = rows
        .iter()
        .map(|(tenant, user, _)| (tenant.as_str(), user.as_str()))
        .collect();
    let memberships: Vec<(String, String, String)> =
        conn.query(sql::JOB_MEMBERSHIPS).rows(&people).all().await?;
    let mut carried: HashMap<(&str, &str), Vec<TopicKey>> = HashMap::new();
    for (tenant, user, key) in &memberships {
        // Rows of expressions are no keys of anybody.
        if let Ok(key) = TopicKey::parse(key) {
            carried.entry((tenant, user)).or_default().push(key);
        }
    }
    let mut recipients = Vec::new();
    for (tenant, user, body) in &rows {
        let contact: Contact = from_json("contact", body)?;
        let id = tenant_of(tenant)?;
        let name = user_of(user)?;
        if audience.except.covers(user, "") {
            continue;
        }
        let keys = keys_of(
            &id,
            &name,
            &contact,
            carried.get(&(tenant.as_str(), user.as_str())),
        );
        // `claim.tenant` is what the audience's names belong to.
        let meant = audience
            .target
            .routes(&claim.tenant)
            .iter()
            .any(|route| keys.contains(&route.key) && route.require.iter().all(|key| keys.contains(key)));
        if meant {
            recipients.push((id, name, contact));
        }
    }
    Ok(JobPage { recipients, next })
}

fn keys_of(
    tenant: &TenantId,
    user: &Name,
    contact: &Contact,
    carried: Option<&Vec<TopicKey>>,
) -> HashSet<TopicKey> {
    let mut keys = HashSet::from([
        TopicKey::user(tenant, user),
        TopicKey::tenant(tenant),
        TopicKey::everyone(),
    ]);
    let of_kind = |kind: TopicKind| {
        carried
            .into_iter()
            .flatten()
            .filter(move |key| key.kind() == kind)
            .cloned()
    };
    match &contact.roles {
        Some(roles) => keys.extend(roles.iter().map(|role| TopicKey::role(tenant, role))),
        None => keys.extend(of_kind(TopicKind::Role)),
    }
    match &contact.stores {
        Some(stores) => keys.extend(stores.iter().map(|store| TopicKey::store(tenant, store))),
        None => keys.extend(of_kind(TopicKind::Store)),
    }
    keys
}
