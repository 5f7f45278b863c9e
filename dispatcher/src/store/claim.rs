//! Claiming: what there is by tenant, dealt out in turn, leased with a growing token.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use common::ids::{DeliveryId, NotificationId, TenantId};
use uuid::Uuid;

use super::{
    AttemptStart, ClaimRequest, StoreError,
    access::Access,
    codec::{channel_of, from_json, ids, small, tenant_of, user_of},
    fair::{Flow, Turns},
    horizon::Seen,
    queue,
    sql::queue as sql,
    transaction::Tx,
};
use crate::model::{Channel, Claimed, Content, Lane, Micros};

/// Tenants by channel that one claim looks at.
const MOST_FLOWS: i64 = 1000;

type ClaimedRow = (
    Uuid,
    Uuid,
    String,
    Option<String>,
    Option<String>,
    i64,
    i64,
    i64,
    i64,
    String,
    Option<String>,
);
type NotificationRow = (Uuid, Option<i64>, i64, i64, String, Option<String>, i64);

/// Who has work that is due in the request's lane: those after the tenant that came last, then those before it.
pub(super) async fn flows(conn: &mut Access<'_>, request: &ClaimRequest) -> Result<Vec<Flow>, StoreError> {
    let channels: Vec<&str> = match request.channels.as_slice() {
        [] => Channel::ALL.iter().map(|channel| channel.as_str()).collect(),
        some => some.iter().map(|channel| channel.as_str()).collect(),
    };
    let after = request.rules.after.as_ref().map_or("", TenantId::as_str);
    let mut rows = look(conn, request, &channels, "").await?;
    if rows.len() < MOST_FLOWS as usize {
        // Those behind come first, each part in its order.
        rows.sort_by_key(|(_, tenant)| tenant.as_str() <= after);
    } else if !after.is_empty() {
        let first = std::mem::replace(&mut rows, look(conn, request, &channels, after).await?);
        let known: HashSet<(String, String)> = rows.iter().cloned().collect();
        let room = MOST_FLOWS as usize - rows.len();
        rows.extend(first.into_iter().filter(|row| !known.contains(row)).take(room));
    }
    rows.into_iter()
        .map(|(channel, tenant)| {
            Ok(Flow {
                channel: channel_of(&channel)?,
                tenant: tenant_of(&tenant)?,
            })
        })
        .collect()
}

async fn look(
    conn: &mut Access<'_>,
    request: &ClaimRequest,
    channels: &[&str],
    after: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    conn.query(sql::FLOWS)
        .bind(request.lane.number())
        .bind(request.now.0)
        .list(channels)
        .bind(after)
        .bind(MOST_FLOWS)
        .all()
        .await
}

/// Leases what is due of the flows, as the rules say, each flow's first due first. `floors` say from when on each of the
/// flows is looked at.
pub(super) async fn claim(
    tx: &mut Tx<'_>,
    request: &ClaimRequest,
    flows: &[Flow],
    floors: Option<&[Micros]>,
) -> Result<(Vec<Claimed>, Seen), StoreError> {
    let mut turns = Turns::new(flows.to_vec(), &request.rules, request.now);
    let floors: HashMap<(Channel, &str), Micros> = flows
        .iter()
        .zip(floors.unwrap_or_default())
        .map(|(flow, floor)| ((flow.channel, flow.tenant.as_str()), *floor))
        .collect();
    let mut seen = Seen::default();
    let mut left = request.limit as usize;
    let mut rows: Vec<ClaimedRow> = Vec::new();
    while left > 0 {
        let dealt = turns.deal(left);
        if dealt.is_empty() {
            break;
        }
        for (each, flows) in dealt {
            let began = Instant::now();
            let found = lease(tx, request, each, &flows, &floors).await?;
            seen.took += began.elapsed();
            seen.rows += found.len();
            left = left.saturating_sub(found.len());
            for flow in &flows {
                let of_flow = found
                    .iter()
                    .filter(|row| row.9 == flow.tenant.as_str() && row.2 == flow.channel.as_str());
                if let Some(first) = of_flow.clone().map(|row| row.5).min() {
                    seen.first.push((flow.clone(), Micros(first)));
                }
                turns.found(flow, each, of_flow.count());
            }
            rows.extend(found);
        }
    }
    if rows.is_empty() {
        return Ok((Vec::new(), seen));
    }
    rows.sort_unstable_by_key(|row| (row.5, row.0));
    let mut claimed = with_contents(tx, request.lane, rows).await?;
    if request.begin {
        begin(tx, request.now, &mut claimed).await?;
    }
    Ok((claimed, seen))
}

/// Begins the attempts of what can be tried: so the claim's commit is theirs.
async fn begin(tx: &mut Tx<'_>, now: Micros, claimed: &mut [Claimed]) -> Result<(), StoreError> {
    let can_be_tried = |one: &&mut Claimed| {
        !one.cancelled && one.expires_at.is_none_or(|at| at > now) && one.attempts < one.max_attempts
    };
    let ready: Vec<&mut Claimed> = claimed.iter_mut().filter(can_be_tried).collect();
    let starts: Vec<AttemptStart> = ready.iter().map(|one| AttemptStart::of(one, now)).collect();
    let begun = queue::begin_claimed(tx, &starts.iter().collect::<Vec<_>>()).await?;
    for (one, begun) in ready.into_iter().zip(begun) {
        one.begun = begun;
    }
    Ok(())
}

/// What `expired` leases.
#[derive(Debug, Clone)]
pub(super) struct ExpiredRequest {
    pub(super) worker: String,
    pub(super) lane: Lane,
    /// Expired after it.
    pub(super) after: Micros,
    pub(super) now: Micros,
    pub(super) lease_until: Micros,
    pub(super) limit: u32,
}

/// Up to when so many notifications expire after `after`; `now` where there are fewer.
pub(super) async fn expiry_step(
    conn: &mut Access<'_>,
    after: Micros,
    now: Micros,
    count: u32,
) -> Result<Micros, StoreError> {
    let at: Option<i64> = conn
        .query(sql::EXPIRY_STEP)
        .bind(after.0)
        .bind(now.0)
        .bind(i64::from(count))
        .scalar_optional()
        .await?;
    Ok(at.map_or(now, Micros))
}

/// Leases what expired, whether it is paused, or due at all.
pub(super) async fn expired(tx: &mut Tx<'_>, request: &ExpiredRequest) -> Result<Vec<Claimed>, StoreError> {
    let rows: Vec<ClaimedRow> = tx
        .conn
        .query(sql::CLAIM_EXPIRED)
        .bind(request.lane.number())
        .bind(request.after.0)
        .bind(request.now.0)
        .bind(request.lease_until.0)
        .bind(i64::from(request.limit))
        .bind(&request.worker)
        .bind(tx.now.0)
        .all()
        .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    with_contents(tx, request.lane, rows).await
}

async fn lease(
    tx: &mut Tx<'_>,
    request: &ClaimRequest,
    each: usize,
    flows: &[Flow],
    floors: &HashMap<(Channel, &str), Micros>,
) -> Result<Vec<ClaimedRow>, StoreError> {
    let flows: Vec<_> = flows
        .iter()
        .map(|flow| {
            let (channel, tenant) = (flow.channel, flow.tenant.as_str());
            let floor = floors.get(&(channel, tenant)).copied();
            (channel.as_str(), tenant, floor.unwrap_or(Micros(i64::MIN)))
        })
        .collect();
    tx.conn
        .query(sql::CLAIM)
        .bind(request.lane.number())
        .bind(request.now.0)
        .rows(&flows)
        .bind(i64::try_from(each).unwrap_or(i64::MAX))
        .bind(request.lease_until.0)
        .bind(&request.worker)
        .all()
        .await
}

async fn with_contents(
    tx: &mut Tx<'_>,
    lane: Lane,
    rows: Vec<ClaimedRow>,
) -> Result<Vec<Claimed>, StoreError> {
    let wanted: HashSet<Uuid> = rows.iter().map(|row| row.1).collect();
    let found: Vec<NotificationRow> = tx
        .conn
        .query(sql::CLAIMED_NOTIFICATIONS)
        .list(&ids(wanted))
        .all()
        .await?;
    let mut notifications = HashMap::with_capacity(found.len());
    for row in &found {
        let content: Content = from_json("content", &row.4)?;
        let audience = row
            .5
            .as_deref()
            .map(|text| from_json("audience", text))
            .transpose()?;
        notifications.insert(row.0, (row, content, audience));
    }
    rows.into_iter()
        .map(|row| {
            let (id, notification, channel, user, address, _, token, max_attempts, attempts, tenant, edited) =
                row;
            let ((_, expires_at, created_at, visible_at, _, _, cancelled), content, audience) = notifications
                .get(&notification)
                .ok_or_else(|| StoreError::unreadable("delivery", "no notification"))?;
            Ok(Claimed {
                id: DeliveryId(id),
                notification: NotificationId(notification),
                tenant: tenant_of(&tenant)?,
                channel: channel_of(&channel)?,
                user: user.as_deref().map(user_of).transpose()?,
                address,
                lane,
                token,
                attempts: small("attempts", attempts)?,
                max_attempts: small("attempts", max_attempts)?,
                expires_at: expires_at.map(Micros),
                created_at: Micros(*created_at),
                visible_at: Micros(*visible_at),
                content: match edited {
                    Some(text) => from_json("edited content", &text)?,
                    None => content.clone(),
                },
                audience: audience.clone(),
                cancelled: *cancelled != 0,
                begun: false,
            })
        })
        .collect()
}
