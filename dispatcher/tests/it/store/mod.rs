//! The promises of the store. The cases use its public face only, so that every database has to pass the same.

mod accept;
mod faults;
mod feed;
mod inbox;
mod jobs;
mod queue;
mod records;
mod unread;

use std::time::Duration;

use common::{
    ids::{DeliveryId, Name, NotificationId, TenantId},
    target::{Audience, Target},
    topic::TopicKey,
};
use dispatcher::{
    model::{
        Channel, Content, Cursor, DeliveryState, InboxFilter, InboxRoute, Lane, ListFilter, Micros,
        NewDelivery, NewNotification, ReaderKeys, Strategy,
    },
    store::{ChangesResult, ClaimRequest, Store, StoreConfig},
};
use tempfile::TempDir;

/// A database of its own.
struct Fresh {
    store: Store,
    config: StoreConfig,
    _folder: TempDir,
}

impl std::ops::Deref for Fresh {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

async fn fresh() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::new(folder.path().join("store.db"));
    Fresh {
        store: Store::open(&config).await.unwrap(),
        config,
        _folder: folder,
    }
}

fn tenant() -> TenantId {
    TenantId::new("t1").unwrap()
}

fn named(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn user_key(user: &str) -> TopicKey {
    TopicKey::user(&tenant(), &named(user))
}

fn role_key(role: &str) -> TopicKey {
    TopicKey::role(&tenant(), &named(role))
}

fn store_key(store: &str) -> TopicKey {
    TopicKey::store(&tenant(), &named(store))
}

/// A user with roles, and the tenant's and everyone's key.
fn reader(user: &str, roles: &[&str]) -> ReaderKeys {
    let mut keys = vec![user_key(user)];
    keys.extend(roles.iter().map(|role| role_key(role)));
    keys.extend([TopicKey::tenant(&tenant()), TopicKey::everyone()]);
    ReaderKeys {
        tenant: tenant(),
        user: named(user),
        keys,
    }
}

fn plain(key: TopicKey) -> InboxRoute {
    InboxRoute { key, filter: None }
}

fn filtered(key: TopicKey, require: &[TopicKey], except: &[&str]) -> InboxRoute {
    let except = except.iter().map(|user| named(user)).collect();
    InboxRoute {
        key,
        filter: Some(InboxFilter {
            require: require.to_vec(),
            except,
        }),
    }
}

fn note(title: &str, inbox: Vec<InboxRoute>) -> NewNotification {
    let now = Micros::now();
    NewNotification {
        id: NotificationId::generate(),
        tenant: tenant(),
        sender: "test".to_owned(),
        audience: Some(Audience::from(Target::Tenant)),
        content: Content {
            title: title.to_owned(),
            content: format!("{title} \u{0} 文"),
            ..Content::default()
        },
        lane: Lane::Medium,
        strategy: Strategy::All,
        channels: vec!["in_app".to_owned()],
        inbox,
        deliveries: Vec::new(),
        job: None,
        created_at: now,
        visible_at: now,
        expires_at: None,
        idempotency: Vec::new(),
    }
}

fn to(key: TopicKey) -> NewNotification {
    note("n", vec![plain(key)])
}

/// The same, said so long ago.
fn aged(mut new: NewNotification, age: Duration) -> NewNotification {
    new.created_at = Micros::now().minus(age);
    new.visible_at = new.created_at;
    new
}

fn email(user: &str, due_at: Micros) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(),
        channel: Channel::Email,
        user: Some(named(user)),
        address: Some(format!("{user}@example.org")),
        state: DeliveryState::Pending,
        reason: None,
        due_at,
        lease_until: None,
        max_attempts: 3,
    }
}

/// A notification with one email.
fn mailed(user: &str) -> NewNotification {
    let mut new = note("mail", Vec::new());
    new.deliveries.push(email(user, new.created_at));
    new
}

fn ask(lane: Lane, limit: u32) -> ClaimRequest {
    let now = Micros::now();
    ClaimRequest {
        worker: "w".to_owned(),
        lane,
        limit,
        channels: Vec::new(),
        now,
        lease_until: now.plus(Duration::from_secs(30)),
    }
}

async fn put(store: &Store, new: NewNotification) -> NotificationId {
    let id = new.id;
    assert_eq!(
        store.accept(vec![new]).await.unwrap(),
        [dispatcher::model::Accepted::New]
    );
    id
}

async fn listed(store: &Store, reader: &ReaderKeys) -> Vec<NotificationId> {
    let filter = ListFilter {
        limit: 1000,
        ..ListFilter::default()
    };
    store
        .list(reader, &filter)
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.id)
        .collect()
}

async fn present(store: &Store, reader: &ReaderKeys) -> Cursor {
    changes(store, reader, None, 1).await.cursor
}

async fn changes(
    store: &Store,
    reader: &ReaderKeys,
    after: Option<&Cursor>,
    limit: u32,
) -> dispatcher::model::Changes {
    match store.changes(reader, after, limit).await.unwrap() {
        ChangesResult::Changes(changes) => changes,
        ChangesResult::Resync => panic!("asked to read again"),
    }
}
