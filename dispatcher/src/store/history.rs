//! What operators look at: lists, how far something is, sums.

use std::collections::HashMap;

use common::ids::{DeliveryId, NotificationId, TenantId};
use uuid::Uuid;

use super::{
    StoreError,
    access::Access,
    codec::{channel_of, count, from_json, json, lane_of, tenant_of, user_of},
    sql::history as sql,
};
use crate::model::{Delivery, DeliveryState, Micros, Notification, Progress, SentFilter, SentPage, Sums};

/// Rows of all tenants that one page looks at in a first step, and in all. So a request's work is bounded, whatever is
/// asked for.
const WINDOWS: [i64; 2] = [500, 10_000];

/// Failed deliveries that are shown.
const SHOWN_FAILURES: i64 = 100;

/// Notifications that sums are made of at the most.
const SUMMED: i64 = 50_000;

/// Id, sender, audience, content, lane, strategy, channels, created, visible, expires, withdrawn, status.
type SentRow = (
    Uuid,
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
    String,
);

/// Id, channel, user, address, state, reason, due, updated.
type FailureRow = (
    Uuid,
    String,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    i64,
    i64,
);

/// The lowest id of a time; ids are `UUIDv7`.
pub(super) fn id_at(time: Micros) -> Uuid {
    let millis = u64::try_from(time.0.div_euclid(1000)).unwrap_or_default();
    Uuid::from_u128(u128::from(millis.min((1 << 48) - 1)) << 80)
}

/// The clocks of processes, and of the moments between making an id and accepting, may differ by so much.
const CLOCKS: std::time::Duration = std::time::Duration::from_mins(5);

pub(super) async fn list(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    filter: &SentFilter,
    after: Option<NotificationId>,
    limit: u32,
) -> Result<SentPage, StoreError> {
    let from = filter
        .since
        .map_or(Uuid::nil(), |since| id_at(since.minus(CLOCKS)));
    let latest = filter
        .until
        .map_or(Uuid::max(), |until| id_at(until.plus(CLOCKS)));
    let mut before = after.map_or(latest, |after| after.0.min(latest));
    let mut notifications = Vec::new();
    for window in WINDOWS {
        let end: Option<Uuid> = conn
            .query(sql::WINDOW_END)
            .bind(before)
            .bind(from)
            .bind(window)
            .scalar_optional()
            .await?;
        let wanted = (limit as usize).saturating_sub(notifications.len());
        let rows = rows(conn, tenant, filter, before, end.unwrap_or(from), wanted).await?;
        let last = rows.last().map(|row| row.0);
        let full = rows.len() >= wanted;
        for row in rows {
            let (notification, status) = notification(tenant, row)?;
            if is_meant(filter, &notification) {
                notifications.push((notification, status));
            }
        }
        before = match (full, last, end) {
            (true, Some(last), _) => last,
            (_, _, Some(end)) => end,
            (_, _, None) => {
                return Ok(SentPage {
                    notifications,
                    next: None,
                });
            }
        };
        if notifications.len() >= limit as usize {
            break;
        }
    }
    Ok(SentPage {
        notifications,
        next: Some(NotificationId(before)),
    })
}

async fn rows(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    filter: &SentFilter,
    before: Uuid,
    from: Uuid,
    limit: usize,
) -> Result<Vec<SentRow>, StoreError> {
    // As they stand in the content's JSON; what is found is looked at again, as it may stand in another place there.
    let source = filter
        .source
        .as_ref()
        .map(|source| Ok::<_, StoreError>(format!("\"source\":{}", json(source)?)))
        .transpose()?;
    let text = filter
        .text
        .as_ref()
        .map(|text| Ok::<_, StoreError>(json(text)?.trim_matches('"').to_owned()))
        .transpose()?;
    conn.query(sql::LIST_SENT)
        .bind(before)
        .bind(from)
        .bind(tenant.as_str())
        .bind(filter.sender.clone())
        .bind(filter.kind.map(crate::model::Kind::as_str))
        .bind(filter.category.clone())
        .bind(source)
        .bind(text)
        .bind(filter.channel.map(crate::model::Channel::as_str))
        .bind(filter.user.as_ref().map(|user| user.as_str().to_owned()))
        .bind(filter.since.map_or(i64::MIN, |time| time.0))
        .bind(filter.until.map_or(i64::MAX, |time| time.0))
        .bind(Micros::now().0)
        .bind(filter.status)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .all()
        .await
}

fn is_meant(filter: &SentFilter, notification: &Notification) -> bool {
    let content = &notification.content;
    let of_source = filter
        .source
        .as_ref()
        .is_none_or(|source| content.source.as_ref() == Some(source));
    let with_text = filter
        .text
        .as_ref()
        .is_none_or(|text| content.title.contains(text) || content.content.contains(text));
    of_source && with_text
}

fn notification(tenant: &TenantId, row: SentRow) -> Result<(Notification, String), StoreError> {
    let (
        id,
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
        status,
    ) = row;
    let notification = Notification {
        id: NotificationId(id),
        tenant: tenant.clone(),
        sender,
        audience: audience.map(|text| from_json("audience", &text)).transpose()?,
        content: from_json("content", &content)?,
        lane: lane_of(lane)?,
        strategy: from_json("strategy", &format!("\"{strategy}\""))?,
        channels: from_json("channels", &channels)?,
        // A list shows what is said and to whom; the chains are the single notification's.
        chains: Vec::new(),
        created_at: Micros(created),
        visible_at: Micros(visible),
        expires_at: expires.map(Micros),
        withdrawn: withdrawn != 0,
        open: matches!(status.as_str(), "pending" | "scheduled"),
    };
    Ok((notification, status))
}

fn state_of(text: &str) -> Result<DeliveryState, StoreError> {
    DeliveryState::parse(text).ok_or_else(|| StoreError::unreadable("state", text))
}

pub(super) async fn progress(conn: &mut Access<'_>, id: NotificationId) -> Result<Progress, StoreError> {
    let rows: Vec<(String, String, Option<String>, i64, i64)> =
        conn.query(sql::PROGRESS).bind(id.0).all().await?;
    let failures: Vec<FailureRow> = conn
        .query(sql::FAILURES)
        .bind(id.0)
        .bind(SHOWN_FAILURES)
        .all()
        .await?;
    let fan_out: Option<(i64, i64)> = conn.query(sql::FAN_OUT).bind(id.0).optional().await?;
    let updated_at = rows
        .iter()
        .map(|row| row.4)
        .chain(fan_out.map(|(_, at)| at))
        .max();
    Ok(Progress {
        counts: rows
            .into_iter()
            .map(|(channel, state, reason, number, _)| {
                Ok((channel_of(&channel)?, state_of(&state)?, reason, count(number)))
            })
            .collect::<Result<_, StoreError>>()?,
        failures: failures
            .into_iter()
            .map(|(id, channel, user, address, state, reason, due, updated)| {
                Ok(Delivery {
                    id: DeliveryId(id),
                    channel: channel_of(&channel)?,
                    user: user.as_deref().map(user_of).transpose()?,
                    address,
                    state: state_of(&state)?,
                    reason,
                    due_at: Micros(due),
                    updated_at: Micros(updated),
                    attempts: Vec::new(),
                })
            })
            .collect::<Result<_, StoreError>>()?,
        fan_out: fan_out.map(|(done, _)| done != 0),
        updated_at: updated_at.map(Micros),
    })
}

pub(super) async fn sums(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    since: Micros,
    until: Micros,
) -> Result<Sums, StoreError> {
    let (from, to) = (id_at(since), id_at(until));
    let (number, first): (i64, i64) = conn
        .query(sql::WINDOW)
        .bind(from)
        .bind(to)
        .bind(tenant.as_str())
        .bind(SUMMED)
        .one()
        .await?;
    let rows: Vec<(String, String, i64)> = conn
        .query(sql::SUMS)
        .bind(from)
        .bind(to)
        .bind(tenant.as_str())
        .bind(SUMMED)
        .all()
        .await?;
    Ok(Sums {
        notifications: count(number),
        since: (number > 0).then_some(Micros(first)),
        complete: number < SUMMED,
        deliveries: rows
            .into_iter()
            .map(|(channel, state, number)| Ok((channel_of(&channel)?, state_of(&state)?, count(number))))
            .collect::<Result<_, StoreError>>()?,
    })
}

pub(super) async fn tenant_depths(conn: &mut Access<'_>) -> Result<HashMap<TenantId, u64>, StoreError> {
    let rows: Vec<(String, i64)> = conn.query(sql::TENANT_DEPTHS).all().await?;
    rows.into_iter()
        .map(|(tenant, number)| Ok((tenant_of(&tenant)?, count(number))))
        .collect()
}
