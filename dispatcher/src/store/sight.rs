//! First sight: which keys a reader's tokens carried, and from where on the reader sees each of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use common::{
    ids::{Name, TenantId},
    topic::TopicKey,
};

use super::{
    StoreError,
    access::Access,
    keys::Keys,
    marks::{newest_before, ordinal_at},
    positions::FILTERED,
    sql::inbox as sql,
    transaction::Tx,
};
use crate::model::ReaderKeys;

/// Tenant and user.
type Who<'a> = (&'a str, &'a str);

/// Writes memberships, of many readers at once. A user who was never seen sees what its keys got within the backfill; a key
/// that is new to a known user counts from now; the user's own key counts from the beginning.
pub(super) async fn touch(tx: &mut Tx<'_>, readers: &[&ReaderKeys]) -> Result<Vec<()>, StoreError> {
    let mut left: Vec<&ReaderKeys> = readers.to_vec();
    while !left.is_empty() {
        // Of two sights of one user, with other keys perhaps, the second knows what the first wrote.
        let mut seen = HashSet::new();
        let (now, later) = left.into_iter().partition(|reader| seen.insert(who(reader)));
        touch_each_once(tx, now).await?;
        left = later;
    }
    Ok(vec![(); readers.len()])
}

fn who(reader: &ReaderKeys) -> Who<'_> {
    (reader.tenant.as_str(), reader.user.as_str())
}

async fn touch_each_once(tx: &mut Tx<'_>, readers: Vec<&ReaderKeys>) -> Result<(), StoreError> {
    let names: Vec<Who<'_>> = readers.iter().map(|reader| who(reader)).collect();
    let rows: Vec<(String, String, String)> =
        tx.conn.query(sql::KNOWN_MEMBERSHIPS).rows(&names).all().await?;
    let mut known: HashMap<Who<'_>, HashSet<&str>> = HashMap::with_capacity(rows.len());
    for (tenant, user, key) in &rows {
        known
            .entry((tenant.as_str(), user.as_str()))
            .or_default()
            .insert(key.as_str());
    }
    let none = HashSet::new();
    let keys: Vec<Keys> = readers
        .iter()
        .map(|reader| Keys::of(reader))
        .collect::<Result<_, _>>()?;
    let mut sights = Sights::read(tx, &keys).await?;
    // In the order in which all transactions lock them.
    let mut begins = BTreeSet::new();
    let mut refreshed = BTreeSet::new();
    for (reader, keys) in readers.iter().zip(&keys) {
        let (tenant, user) = who(reader);
        let known = known.get(&(tenant, user)).unwrap_or(&none);
        let own = TopicKey::user(&reader.tenant, &reader.user);
        for plain in &keys.plain {
            if known.contains(plain.as_str()) {
                continue;
            }
            let filtered = format!("{FILTERED}{plain}");
            for key in [plain, &filtered] {
                let begin = match sights.newest(key) {
                    // A key that has got nothing yet needs a row only for the membership's sake.
                    None if key == plain => (0, 0),
                    None => continue,
                    Some(_) if plain == own.as_str() => (0, 0),
                    Some(_) if known.is_empty() => sights.backfill(tx, key).await?,
                    Some(newest) => newest,
                };
                begins.insert((tenant, user, key.clone(), begin.0, begin.1));
            }
        }
        let carried: HashSet<&str> = keys.all().collect();
        refreshed.extend(known.iter().map(|key| {
            let current = i64::from(carried.contains(key));
            (tenant, user, *key, current)
        }));
    }
    if !begins.is_empty() {
        let begins: Vec<_> = begins.into_iter().collect();
        tx.conn
            .query(sql::INSERT_MEMBERSHIPS)
            .rows(&begins)
            .bind(tx.now.0)
            .run()
            .await?;
    }
    if !refreshed.is_empty() {
        let refreshed: Vec<_> = refreshed.into_iter().collect();
        tx.conn
            .query(sql::REFRESH_MEMBERSHIPS)
            .rows(&refreshed)
            .bind(tx.now.0)
            .run()
            .await?;
    }
    Ok(())
}

/// A user as its newest token was: its own key, those of every token of the tenant, and those that this token carried. False: the
/// user was never seen.
pub(super) async fn named(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    user: &Name,
) -> Result<(ReaderKeys, bool), StoreError> {
    let known: Vec<(String, i64)> = conn
        .query(sql::CURRENT_MEMBERSHIPS)
        .bind(tenant.as_str())
        .bind(user.as_str())
        .all()
        .await?;
    let mut keys = vec![
        TopicKey::user(tenant, user),
        TopicKey::tenant(tenant),
        TopicKey::everyone(),
    ];
    let seen = !known.is_empty();
    for (key, current) in known {
        // Rows of expressions lie under keys of their own, which nobody's token carries.
        if current == 1 && !key.starts_with(FILTERED) {
            let key = TopicKey::parse(&key).map_err(|error| StoreError::unreadable("key", error))?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    let reader = ReaderKeys {
        tenant: tenant.clone(),
        user: user.clone(),
        keys,
    };
    Ok((reader, seen))
}

/// Where sights of keys begin, asked once for all readers of a transaction.
struct Sights {
    /// Position and number of the newest row.
    newest: BTreeMap<String, (i64, i64)>,
    /// The same of the newest row that is too old for who is new.
    backfill: HashMap<String, (i64, i64)>,
}

impl Sights {
    async fn read(tx: &mut Tx<'_>, keys: &[Keys]) -> Result<Self, StoreError> {
        let all: BTreeSet<&str> = keys.iter().flat_map(Keys::all).collect();
        let all: Vec<&str> = all.into_iter().collect();
        let counters: Vec<(String, i64, i64, i64)> = tx.conn.query(sql::COUNTERS).list(&all).all().await?;
        let newest = counters
            .into_iter()
            .map(|(key, position, items, _)| (key, (position, items)))
            .collect();
        Ok(Self {
            newest,
            backfill: HashMap::new(),
        })
    }

    fn newest(&self, key: &str) -> Option<(i64, i64)> {
        self.newest.get(key).copied()
    }

    async fn backfill(&mut self, tx: &mut Tx<'_>, key: &str) -> Result<(i64, i64), StoreError> {
        if let Some(begin) = self.backfill.get(key) {
            return Ok(*begin);
        }
        let oldest = tx.now.minus(tx.config.backfill);
        let position = newest_before(tx, key, oldest).await?;
        let begin = (position, ordinal_at(tx, key, position).await?);
        self.backfill.insert(key.to_owned(), begin);
        Ok(begin)
    }
}
