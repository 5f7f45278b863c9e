//! Accepting: many calls' notifications in one transaction.

use std::collections::{BTreeMap, HashMap};

use common::{
    ids::NotificationId,
    topic::{TopicKey, TopicKind},
};

use super::{
    StoreError,
    codec::{hex, json},
    sqlite::accept as sql,
    writer::Tx,
};
use crate::model::{
    Accepted, DeliveryState, IdempotencyKey, InboxFilter, Lane, Micros, NewDelivery, NewNotification,
};

/// How long answers to repeat are kept.
const KEEP_ANSWERS: std::time::Duration = std::time::Duration::from_hours(24);

/// Positions are counted under this prefix for rows that readers filter.
pub(super) const FILTERED: &str = "x:";

/// One answer for each notification. Each stands for itself, but notifications of one call that share a request's key
/// share its fate.
pub(super) async fn accept(
    tx: &mut Tx<'_>,
    calls: &[&[NewNotification]],
) -> Result<Vec<Vec<Accepted>>, StoreError> {
    let answers = judge(tx, calls).await?;
    let fresh: Vec<&NewNotification> = calls
        .iter()
        .copied()
        .flatten()
        .zip(answers.iter().flatten())
        .filter_map(|(new, answer)| (*answer == Accepted::New).then_some(new))
        .collect();
    if !fresh.is_empty() {
        insert(tx, &fresh).await?;
    }
    Ok(answers)
}

#[derive(PartialEq, Eq, Hash)]
struct KeyName<'a> {
    tenant: &'a str,
    credential: &'a str,
    route: &'a str,
    key: &'a str,
}

/// Tenant, credential, route, key; hash, status, response.
type KnownRow = (String, String, String, String, Vec<u8>, u16, String);

struct Known<'a> {
    hash: std::borrow::Cow<'a, [u8]>,
    status: u16,
    response: std::borrow::Cow<'a, str>,
    /// The call that brought it; none: it was stored before.
    call: Option<usize>,
}

fn name<'a>(new: &'a NewNotification, key: &'a IdempotencyKey) -> KeyName<'a> {
    KeyName {
        tenant: new.tenant.as_str(),
        credential: &key.credential,
        route: key.route,
        key: &key.key,
    }
}

/// Says of each notification whether it is new, a repeat or a mismatch, and keeps the answers of the new ones.
async fn judge(tx: &mut Tx<'_>, calls: &[&[NewNotification]]) -> Result<Vec<Vec<Accepted>>, StoreError> {
    let mut names: Vec<(&str, &str, &str, &str)> = calls
        .iter()
        .copied()
        .flatten()
        .flat_map(|new| new.idempotency.iter().map(move |key| name(new, key)))
        .map(|name| (name.tenant, name.credential, name.route, name.key))
        .collect();
    if names.is_empty() {
        return Ok(calls.iter().map(|call| vec![Accepted::New; call.len()]).collect());
    }
    names.sort_unstable();
    names.dedup();
    let rows: Vec<KnownRow> = sqlx::query_as(sql::KNOWN_KEYS)
        .bind(json(&names)?)
        .bind(tx.now.0)
        .fetch_all(&mut *tx.conn)
        .await?;
    let mut known: HashMap<KeyName<'_>, Known<'_>> = HashMap::with_capacity(names.len());
    for (tenant, credential, route, key, hash, status, response) in &rows {
        known.insert(
            KeyName {
                tenant,
                credential,
                route,
                key,
            },
            Known {
                hash: hash.into(),
                status: *status,
                response: response.into(),
                call: None,
            },
        );
    }
    let mut kept = Vec::new();
    let mut answers = Vec::with_capacity(calls.len());
    for (number, call) in calls.iter().enumerate() {
        let mut of_call = Vec::with_capacity(call.len());
        for new in *call {
            let answer = new.idempotency.iter().find_map(|key| {
                let found = known.get(&name(new, key))?;
                // A request's own key stands on each of its notifications.
                let same_request = found.call == Some(number) && !key.credential.is_empty();
                match found.hash == key.request_hash {
                    true if same_request => None,
                    true => Some(Accepted::Repeat {
                        status: found.status,
                        response: found.response.clone().into_owned(),
                    }),
                    false => Some(Accepted::Mismatch),
                }
            });
            if answer.is_none() {
                for key in &new.idempotency {
                    known.entry(name(new, key)).or_insert_with(|| {
                        kept.push((
                            (
                                new.tenant.as_str(),
                                key.credential.as_str(),
                                key.route,
                                key.key.as_str(),
                            ),
                            (hex_bytes(&key.request_hash), key.status, key.response.as_str()),
                        ));
                        Known {
                            hash: key.request_hash.as_slice().into(),
                            status: key.status,
                            response: key.response.as_str().into(),
                            call: Some(number),
                        }
                    });
                }
            }
            of_call.push(answer.unwrap_or(Accepted::New));
        }
        answers.push(of_call);
    }
    if !kept.is_empty() {
        kept.sort_unstable();
        let rows = json(
            &kept
                .iter()
                .map(|((tenant, credential, route, key), (hash, status, response))| {
                    (tenant, credential, route, key, hash, status, response)
                })
                .collect::<Vec<_>>(),
        )?;
        sqlx::query(sql::KEEP_KEYS)
            .bind(rows)
            .bind(tx.now.plus(KEEP_ANSWERS).0)
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(answers)
}

fn hex_bytes(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

/// A row of the inbox on its way: its key with prefix, and what is filtered.
pub(super) type StoredRoute = (String, Option<String>);

/// Routes of several groups may fit one reader, so their rows are counted singly like those of expressions.
fn stored_routes(new: &NewNotification) -> Result<Vec<StoredRoute>, StoreError> {
    let several = new.inbox.len() > 1 && new.inbox.iter().any(|route| route.key.kind() != TopicKind::User);
    new.inbox
        .iter()
        .map(|route| {
            Ok(match &route.filter {
                Some(filter) => (format!("{FILTERED}{}", route.key), Some(json(filter)?)),
                None if several => (
                    format!("{FILTERED}{}", route.key),
                    Some(json(&InboxFilter::default())?),
                ),
                None => (route.key.as_str().to_owned(), None),
            })
        })
        .collect()
}

/// The rows of accepted notifications as parameters; an empty table has none.
struct Rows {
    notifications: String,
    arrivals: Vec<Arrival>,
    scheduled: Option<String>,
    deliveries: Option<String>,
    jobs: Option<String>,
    totals: String,
}

impl Rows {
    fn of(fresh: &[&NewNotification], now: Micros) -> Result<Self, StoreError> {
        let mut notifications = Vec::with_capacity(fresh.len());
        let mut arrivals = Vec::with_capacity(fresh.len());
        let mut scheduled = Vec::new();
        let mut jobs = Vec::new();
        let mut totals: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
        for new in fresh {
            notifications.push((
                hex(new.id.0),
                new.tenant.as_str(),
                &new.sender,
                new.audience.as_ref().map(json).transpose()?,
                json(&new.content)?,
                new.content.kind.as_str(),
                &new.content.category,
                new.lane.number(),
                new.strategy,
                json(&new.channels)?,
                new.created_at,
                new.visible_at,
                new.expires_at,
            ));
            let routes = stored_routes(new)?;
            if new.visible_at > new.created_at {
                scheduled.push((new.visible_at, hex(new.id.0), json(&routes)?));
            } else if !routes.is_empty() {
                arrivals.push(Arrival {
                    id: new.id,
                    visible_at: new.visible_at,
                    routes,
                });
            }
            if let Some(job) = &new.job {
                jobs.push((hex(new.id.0), new.tenant.as_str(), json(job)?, new.visible_at));
            }
            let sums = totals.entry(new.tenant.as_str()).or_default();
            sums.0 += 1;
            for delivery in &new.deliveries {
                let (sent, failed) = counts(delivery.state);
                sums.1 += sent;
                sums.2 += failed;
            }
        }
        let deliveries = fresh.iter().flat_map(|new| {
            new.deliveries
                .iter()
                .map(|delivery| (new.id, new.tenant.as_str(), new.lane, delivery))
        });
        let totals: Vec<_> = totals
            .into_iter()
            .map(|(tenant, (created, sent, failed))| (tenant, created, sent, failed))
            .collect();
        Ok(Self {
            notifications: json(&notifications)?,
            arrivals,
            scheduled: (!scheduled.is_empty()).then(|| json(&scheduled)).transpose()?,
            deliveries: delivery_rows(deliveries, now)?,
            jobs: (!jobs.is_empty()).then(|| json(&jobs)).transpose()?,
            totals: json(&totals)?,
        })
    }
}

async fn insert(tx: &mut Tx<'_>, fresh: &[&NewNotification]) -> Result<(), StoreError> {
    let rows = Rows::of(fresh, tx.now)?;
    appear(tx, &rows.arrivals).await?;
    sqlx::query(sql::INSERT_NOTIFICATIONS)
        .bind(rows.notifications)
        .execute(&mut *tx.conn)
        .await?;
    if let Some(scheduled) = rows.scheduled {
        sqlx::query(sql::INSERT_SCHEDULED)
            .bind(scheduled)
            .execute(&mut *tx.conn)
            .await?;
    }
    if let Some(deliveries) = rows.deliveries {
        sqlx::query(sql::INSERT_DELIVERIES)
            .bind(deliveries)
            .execute(&mut *tx.conn)
            .await?;
    }
    if let Some(jobs) = rows.jobs {
        sqlx::query(sql::INSERT_JOBS)
            .bind(jobs)
            .bind(tx.now.0)
            .execute(&mut *tx.conn)
            .await?;
    }
    sqlx::query(sql::ADD_TOTALS)
        .bind(rows.totals)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// What a delivery in this state adds to `sent` and `failed`.
pub(super) fn counts(state: DeliveryState) -> (i64, i64) {
    match state {
        DeliveryState::Delivered => (1, 0),
        DeliveryState::Dead | DeliveryState::Expired => (0, 1),
        _ => (0, 0),
    }
}

/// Deliveries with their notification, its tenant and lane, as a parameter; none where there are none.
pub(super) fn delivery_rows<'a>(
    deliveries: impl Iterator<Item = (NotificationId, &'a str, Lane, &'a NewDelivery)>,
    now: Micros,
) -> Result<Option<String>, StoreError> {
    let rows: Vec<_> = deliveries
        .map(|(notification, tenant, lane, new)| {
            (
                hex(new.id.0),
                hex(notification.0),
                tenant,
                new.channel.as_str(),
                &new.user,
                &new.address,
                lane.number(),
                new.state.as_str(),
                &new.reason,
                new.due_at,
                new.lease_until,
                i64::from(new.state == DeliveryState::Running),
                new.max_attempts,
                now,
            )
        })
        .collect();
    (!rows.is_empty()).then(|| json(&rows)).transpose()
}

/// A notification that becomes visible now.
pub(super) struct Arrival {
    pub(super) id: NotificationId,
    pub(super) visible_at: Micros,
    pub(super) routes: Vec<StoredRoute>,
}

/// Gives positions, once a key, and files the rows.
pub(super) async fn appear(tx: &mut Tx<'_>, arrivals: &[Arrival]) -> Result<(), StoreError> {
    let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
    for (key, _) in arrivals.iter().flat_map(|arrival| &arrival.routes) {
        *wanted.entry(key.as_str()).or_default() += 1;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted = wanted
        .into_iter()
        .map(|(key, number)| (key.to_owned(), number, number))
        .collect();
    let mut next = take_positions(tx, wanted).await?;
    let rows = inbox_rows(arrivals, &mut next)?;
    sqlx::query(sql::INSERT_INBOX)
        .bind(rows)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

fn inbox_rows(arrivals: &[Arrival], next: &mut HashMap<String, (i64, i64)>) -> Result<String, StoreError> {
    let mut rows = Vec::new();
    for arrival in arrivals {
        for (key, filter) in &arrival.routes {
            let Some((position, ordinal)) = next.get_mut(key.as_str()) else {
                return Err(StoreError::unreadable("counter", "missing"));
            };
            rows.push((
                key,
                *position,
                *ordinal,
                hex(arrival.id.0),
                arrival.visible_at,
                filter,
            ));
            *position += 1;
            *ordinal += 1;
        }
    }
    json(&rows)
}

/// Takes positions of the feeds of keys that are sorted, of which some are for rows of the inbox; answers the first of
/// each. The keys' readers will be woken.
pub(super) async fn take_positions(
    tx: &mut Tx<'_>,
    wanted: Vec<(String, i64, i64)>,
) -> Result<HashMap<String, (i64, i64)>, StoreError> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql::TAKE_POSITIONS)
        .bind(json(&wanted)?)
        .fetch_all(&mut *tx.conn)
        .await?;
    let mut last: HashMap<String, (i64, i64)> = rows
        .into_iter()
        .map(|(key, position, items)| (key, (position, items)))
        .collect();
    let mut first = HashMap::with_capacity(last.len());
    for (key, positions, items) in wanted {
        let plain = key.strip_prefix(FILTERED).unwrap_or(&key);
        tx.touched
            .push(TopicKey::parse(plain).map_err(|error| StoreError::unreadable("key", error))?);
        let (position, ordinal) = last
            .remove(&key)
            .ok_or_else(|| StoreError::unreadable("counter", "missing"))?;
        first.insert(key, (position - positions + 1, ordinal - items + 1));
    }
    Ok(first)
}
