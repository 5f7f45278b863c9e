//! Accepting: many calls' notifications in one transaction.

use std::collections::BTreeMap;

use common::topic::TopicKind;
use uuid::Uuid;

use super::{
    StoreError,
    access::Statement,
    chains,
    codec::json,
    collapse::{self, Replaced},
    deliveries::{self, DeliveryRow},
    idempotency,
    marks::take_back,
    positions::{Arrival, FILTERED, StoredRoute, appear_among, filed_group},
    sql::{accept as sql, operate as operate_sql},
    totals::counts,
    transaction::Tx,
};
use crate::model::{Accepted, InboxFilter, Micros, NewNotification};

/// Id, tenant, sender, audience, content, kind, category, lane, strategy, channels, created, visible, expires.
type NotificationRow<'a> = (
    Uuid,
    &'a str,
    &'a String,
    Option<String>,
    String,
    &'a str,
    &'a Option<String>,
    i64,
    &'static str,
    String,
    Micros,
    Micros,
    Option<Micros>,
);

/// One answer for each notification. Each stands for itself, but notifications of one call that share a request's key
/// share its fate.
pub(super) async fn accept(
    tx: &mut Tx<'_>,
    calls: &[&[NewNotification]],
) -> Result<Vec<Vec<Accepted>>, StoreError> {
    let answers = idempotency::judge(tx, calls).await?;
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
struct Rows<'a> {
    notifications: Vec<NotificationRow<'a>>,
    arrivals: Vec<Arrival>,
    /// Visible, id, routes, group.
    scheduled: Vec<(Micros, Uuid, String, Option<String>)>,
    deliveries: Vec<DeliveryRow<'a>>,
    /// Notification, tenant, job, due, lane.
    jobs: Vec<(Uuid, &'a str, String, Micros, i64)>,
    /// Tenant, created, sent, failed.
    totals: Vec<(&'a str, i64, i64, i64)>,
}

impl<'a> Rows<'a> {
    fn of(fresh: &[&'a NewNotification], now: Micros) -> Result<Self, StoreError> {
        let mut notifications = Vec::with_capacity(fresh.len());
        let mut arrivals = Vec::with_capacity(fresh.len());
        let mut scheduled = Vec::new();
        let mut jobs = Vec::new();
        let mut totals: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
        for new in fresh {
            notifications.push((
                new.id.0,
                new.tenant.as_str(),
                &new.sender,
                new.audience.as_ref().map(json).transpose()?,
                json(&new.content)?,
                new.content.kind.as_str(),
                &new.content.category,
                i64::from(new.lane.number()),
                new.strategy.as_str(),
                json(&new.channels)?,
                new.created_at,
                new.visible_at,
                new.expires_at,
            ));
            let routes = stored_routes(new)?;
            let group = new.content.group_key.as_deref().map(filed_group);
            if new.visible_at > new.created_at {
                scheduled.push((new.visible_at, new.id.0, json(&routes)?, group));
            } else if !routes.is_empty() {
                arrivals.push(Arrival {
                    id: new.id,
                    visible_at: new.visible_at,
                    routes,
                    group,
                });
            }
            if let Some(job) = &new.job {
                let lane = new.lane.number();
                jobs.push((
                    new.id.0,
                    new.tenant.as_str(),
                    json(job)?,
                    new.visible_at,
                    lane.into(),
                ));
            }
            let sums = totals.entry(new.tenant.as_str()).or_default();
            sums.0 += 1;
            for delivery in &new.deliveries {
                let (sent, failed) = counts(delivery.state);
                sums.1 += sent;
                sums.2 += failed;
            }
        }
        let made = fresh.iter().flat_map(|new| {
            let tenant = new.tenant.as_str();
            new.deliveries
                .iter()
                .map(move |delivery| (new.id, tenant, new.lane, delivery))
        });
        let totals: Vec<_> = totals
            .into_iter()
            .map(|(tenant, (created, sent, failed))| (tenant, created, sent, failed))
            .collect();
        Ok(Self {
            notifications,
            arrivals,
            scheduled,
            deliveries: deliveries::rows(made, now),
            jobs,
            totals,
        })
    }
}

async fn insert(tx: &mut Tx<'_>, fresh: &[&NewNotification]) -> Result<(), StoreError> {
    write(tx, fresh, sql::INSERT_NOTIFICATIONS).await
}

/// Puts one in the place of what is stored under its id, of which nothing but its row is left.
pub(super) async fn replace(tx: &mut Tx<'_>, new: &NewNotification) -> Result<(), StoreError> {
    write(tx, &[new], operate_sql::REPLACE_NOTIFICATION).await
}

async fn write(
    tx: &mut Tx<'_>,
    fresh: &[&NewNotification],
    notifications: Statement,
) -> Result<(), StoreError> {
    let rows = Rows::of(fresh, tx.now)?;
    tx.work |= !(rows.deliveries.is_empty() && rows.jobs.is_empty() && rows.scheduled.is_empty());
    let replaced = collapse::take(tx, fresh).await?;
    tx.conn
        .query(notifications)
        .rows(&rows.notifications)
        .run()
        .await?;
    if !rows.scheduled.is_empty() {
        tx.conn
            .query(sql::INSERT_SCHEDULED)
            .rows(&rows.scheduled)
            .run()
            .await?;
    }
    deliveries::insert(tx, &rows.deliveries).await?;
    // Nobody else knows the rows so far, so they lock nothing. Counters are locked from here to the commit, and whoever
    // writes to the same topic waits: as late as can be.
    let others = collapse::keys_of(tx, &replaced).await?;
    appear_among(tx, &rows.arrivals, &others).await?;
    chains::insert(tx, fresh).await?;
    if !rows.jobs.is_empty() {
        tx.conn
            .query(sql::INSERT_JOBS)
            .rows(&rows.jobs)
            .bind(tx.now.0)
            .run()
            .await?;
    }
    tx.conn.query(sql::ADD_TOTALS).rows(&rows.totals).run().await?;
    for Replaced { tenant, id } in replaced {
        take_back(tx, tenant, id, "collapsed").await?;
    }
    Ok(())
}
