//! Notifications as they are shown, contacts, templates, sums.

use std::collections::HashMap;

use common::{
    audit::{AuditEntry, Origin},
    ids::{DeliveryId, Name, NotificationId, TenantId},
};
use uuid::Uuid;

use super::{
    StoreError, TenantStats,
    access::Access,
    audit, chains,
    codec::{channel_of, count, from_json, ids, json, lane_of, small, user_of},
    sql::records as sql,
    transaction::Tx,
};
use crate::model::{
    Attempt, Chain, Contact, Delivery, DeliveryState, Micros, NewTemplate, Notification, Template,
};

/// Deliveries of one notification that are shown.
const SHOWN_DELIVERIES: i64 = 2000;

type NotificationRow = (
    Uuid,
    String,
    String,
    Option<String>,
    String,
    i64,
    String,
    String,
    i64,
    i64,
    Option<i64>,
    i64,
    i64,
);
type DeliveryRow = (
    Uuid,
    String,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    i64,
    i64,
);
type AttemptRow = (
    Uuid,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
);

pub(super) async fn notification(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    id: NotificationId,
) -> Result<Option<(Notification, Vec<Delivery>)>, StoreError> {
    let row: Option<NotificationRow> = conn
        .query(sql::NOTIFICATION)
        .bind(id.0)
        .bind(tenant.as_str())
        .optional()
        .await?;
    let Some((
        _,
        _,
        sender,
        audience,
        content,
        lane,
        strategy,
        channels,
        created,
        visible,
        expires,
        withdrawn,
        open,
    )) = row
    else {
        return Ok(None);
    };
    let chains = chains::of_notification(&mut *conn, id).await?;
    let open = open != 0 || chains.iter().any(Chain::is_open);
    let notification = Notification {
        id,
        tenant: tenant.clone(),
        sender,
        audience: audience.map(|text| from_json("audience", &text)).transpose()?,
        content: from_json("content", &content)?,
        lane: lane_of(lane)?,
        strategy: from_json("strategy", &format!("\"{strategy}\""))?,
        channels: from_json("channels", &channels)?,
        chains,
        created_at: Micros(created),
        visible_at: Micros(visible),
        expires_at: expires.map(Micros),
        withdrawn: withdrawn != 0,
        open,
    };
    let rows: Vec<DeliveryRow> = conn
        .query(sql::DELIVERIES)
        .bind(id.0)
        .bind(SHOWN_DELIVERIES)
        .all()
        .await?;
    let mut by_delivery = attempts(conn, rows.iter().map(|row| row.0)).await?;
    let deliveries = rows
        .into_iter()
        .map(|(id, channel, user, address, state, reason, due, updated)| {
            Ok(Delivery {
                id: DeliveryId(id),
                channel: channel_of(&channel)?,
                user: user.as_deref().map(user_of).transpose()?,
                address,
                state: DeliveryState::parse(&state).ok_or_else(|| StoreError::unreadable("state", &state))?,
                reason,
                due_at: Micros(due),
                updated_at: Micros(updated),
                attempts: by_delivery.remove(&id).unwrap_or_default(),
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Some((notification, deliveries)))
}

/// The attempts at deliveries, each one's in order.
pub(super) async fn attempts(
    conn: &mut Access<'_>,
    deliveries: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Vec<Attempt>>, StoreError> {
    let rows: Vec<AttemptRow> = conn.query(sql::ATTEMPTS).list(&ids(deliveries)).all().await?;
    let mut attempts: HashMap<Uuid, Vec<Attempt>> = HashMap::new();
    for (delivery, number, started, finished, outcome, reason, response) in rows {
        attempts.entry(delivery).or_default().push(Attempt {
            number: small("attempt", number)?,
            started_at: Micros(started),
            finished_at: finished.map(Micros),
            outcome,
            reason,
            response,
        });
    }
    Ok(attempts)
}

pub(super) async fn put_contacts(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    contacts: &[(Name, Contact)],
    by: &Origin,
) -> Result<(), StoreError> {
    let users: Vec<Name> = contacts.iter().map(|(user, _)| user.clone()).collect();
    let before = self::contacts(&mut tx.conn, tenant, &users).await?;
    let entries: Vec<AuditEntry> = contacts
        .iter()
        .zip(&before)
        .map(|((user, contact), before)| {
            let entry = by.did("contact.put", "contact", user).after(contact);
            match before {
                Some(before) => entry.before(before),
                None => entry,
            }
        })
        .collect();
    audit::append(tx, &entries).await?;
    let rows = contacts
        .iter()
        .map(|(user, contact)| Ok((user.as_str(), json(contact)?)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    tx.conn
        .query(sql::PUT_CONTACTS)
        .bind(tenant.as_str())
        .rows(&rows)
        .bind(tx.now.0)
        .run()
        .await?;
    Ok(())
}

pub(super) async fn contacts(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    users: &[Name],
) -> Result<Vec<Option<Contact>>, StoreError> {
    let rows: Vec<(String, String)> = conn
        .query(sql::CONTACTS)
        .bind(tenant.as_str())
        .list(&users.iter().map(Name::as_str).collect::<Vec<_>>())
        .all()
        .await?;
    let found: HashMap<String, String> = rows.into_iter().collect();
    users
        .iter()
        .map(|user| {
            found
                .get(user.as_str())
                .map(|body| from_json("contact", body))
                .transpose()
        })
        .collect()
}

pub(super) async fn delete_contact(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    user: &Name,
    by: &Origin,
) -> Result<bool, StoreError> {
    let before = contacts(&mut tx.conn, tenant, std::slice::from_ref(user))
        .await?
        .pop();
    let deleted = tx
        .conn
        .query(sql::DELETE_CONTACT)
        .bind(tenant.as_str())
        .bind(user.as_str())
        .run()
        .await?;
    if let (1.., Some(Some(before))) = (deleted, before) {
        let entry = by.did("contact.delete", "contact", user).before(&before);
        audit::append(tx, &[entry]).await?;
    }
    Ok(deleted > 0)
}

pub(super) async fn create_template(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    body: &NewTemplate,
    by: &Origin,
) -> Result<Result<Template, StoreError>, StoreError> {
    let id = Uuid::now_v7();
    let inserted = tx
        .conn
        .query(sql::INSERT_TEMPLATE)
        .bind(id)
        .bind(tenant.as_str())
        .bind(&body.name)
        .bind(tx.now.0)
        .run()
        .await?;
    if inserted == 0 {
        return Ok(Err(StoreError::Conflict("the template's name")));
    }
    tx.conn
        .query(sql::INSERT_TEMPLATE_VERSION)
        .bind(id)
        .bind(json(body)?)
        .bind(tx.now.0)
        .run()
        .await?;
    let entry = by.did("template.create", "template", id).after(body);
    audit::append(tx, &[entry]).await?;
    Ok(Ok(Template {
        id,
        tenant: Some(tenant.clone()),
        version: 1,
        body: body.clone(),
        created_at: tx.now,
        updated_at: tx.now,
    }))
}

type TemplateRow = (Uuid, i64, String, i64, i64);

fn template(
    tenant: &TenantId,
    (id, version, body, created, updated): TemplateRow,
) -> Result<Template, StoreError> {
    Ok(Template {
        id,
        tenant: Some(tenant.clone()),
        version: small("version", version)?,
        body: from_json("template", &body)?,
        created_at: Micros(created),
        updated_at: Micros(updated),
    })
}

pub(super) async fn template_by_id(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    id: Uuid,
) -> Result<Option<Template>, StoreError> {
    let row = conn
        .query(sql::TEMPLATE_BY_ID)
        .bind(id)
        .bind(tenant.as_str())
        .optional()
        .await?;
    row.map(|row| template(tenant, row)).transpose()
}

pub(super) async fn template_by_name(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<Template>, StoreError> {
    let row = conn
        .query(sql::TEMPLATE_BY_NAME)
        .bind(tenant.as_str())
        .bind(name)
        .optional()
        .await?;
    row.map(|row| template(tenant, row)).transpose()
}

pub(super) async fn templates(conn: &mut Access<'_>, tenant: &TenantId) -> Result<Vec<Template>, StoreError> {
    let rows: Vec<TemplateRow> = conn.query(sql::TEMPLATES).bind(tenant.as_str()).all().await?;
    rows.into_iter().map(|row| template(tenant, row)).collect()
}

pub(super) async fn stats(conn: &mut Access<'_>, tenant: &TenantId) -> Result<TenantStats, StoreError> {
    let row: Option<(i64, i64, i64)> = conn.query(sql::TOTALS).bind(tenant.as_str()).optional().await?;
    let (created, sent, failed) = row.unwrap_or_default();
    // `;` follows `:`, so these are the keys of the tenant's users.
    let unread: i64 = conn
        .query(sql::UNREAD_OF_TENANT)
        .bind(tenant.as_str())
        .bind(format!("{tenant}:u:"))
        .bind(format!("{tenant}:u;"))
        .scalar()
        .await?;
    Ok(TenantStats {
        created: count(created),
        sent: count(sent),
        failed: count(failed),
        unread: count(unread),
    })
}
