//! What is known of keys without waiting, and for how long.

use super::*;
use crate::{
    credential::{MemoryKeys, record::example},
    token::NewKey,
};

const GRACE: Duration = Duration::from_secs(60);

struct World {
    source: MemoryKeys,
    keys: Keys,
    key: NewKey,
    uses: mpsc::Receiver<KeyUse>,
}

impl World {
    fn new() -> Self {
        let source = MemoryKeys::default();
        let (sender, uses) = mpsc::channel(16);
        let keys = Keys::start(
            Arc::new(source.clone()),
            GRACE,
            Some(sender),
            CredentialMetrics::default(),
        );
        let key = NewKey::generate().unwrap();
        source.put(example(&key));
        Self {
            source,
            keys,
            key,
            uses,
        }
    }

    fn shown(&self) -> ShownKey {
        ShownKey::read(self.key.text()).unwrap()
    }

    fn revoke(&self) {
        self.source.put(KeyRecord {
            revision: 2,
            revoked: true,
            ..example(&self.key)
        });
    }

    fn is_at_hand(&self) -> bool {
        matches!(self.keys.at_hand(&self.shown()), AtHand::Yes(_))
    }
}

#[tokio::test(start_paused = true)]
async fn s4_10_a_key_in_use_is_at_hand_and_a_revoked_one_is_refused_within_half_a_second() {
    let world = World::new();
    assert!(matches!(world.keys.at_hand(&world.shown()), AtHand::Unknown));
    assert!(world.keys.find(&world.shown()).await.is_ok());
    // In use: never waited for, however long.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(world.is_at_hand());
    }
    world.revoke();
    tokio::time::sleep(FRESH).await;
    assert!(matches!(
        world.keys.at_hand(&world.shown()),
        AtHand::No(TokenError::KeyRevoked)
    ));
    assert!(matches!(
        world.keys.find(&world.shown()).await,
        Err(Unknown::Refused(TokenError::KeyRevoked))
    ));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_shows_is_not_read_and_is_not_believed_for_long() {
    let world = World::new();
    world.keys.find(&world.shown()).await.unwrap();
    tokio::time::sleep(IN_USE * 2).await;
    let reads = world.source.reads();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.source.reads(), reads);
    world.revoke();
    assert!(matches!(world.keys.at_hand(&world.shown()), AtHand::Old));
    assert!(matches!(
        world.keys.find(&world.shown()).await,
        Err(Unknown::Refused(TokenError::KeyRevoked))
    ));
}

#[tokio::test(start_paused = true)]
async fn while_keys_cannot_be_read_those_that_were_seen_go_on_for_a_bounded_time() {
    let world = World::new();
    world.keys.find(&world.shown()).await.unwrap();
    world.source.set_away(true);
    let began = Instant::now();
    while began.elapsed() < GRACE - Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(world.keys.find(&world.shown()).await.is_ok());
        assert!(world.is_at_hand(), "{:?}", began.elapsed());
    }
    let other = NewKey::generate().unwrap();
    world.source.put(example(&other));
    let unknown = world.keys.find(&ShownKey::read(other.text()).unwrap()).await;
    assert!(matches!(unknown, Err(Unknown::Unavailable)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(
        world.keys.find(&world.shown()).await,
        Err(Unknown::Unavailable)
    ));
    assert_eq!(world.keys.holds(&world.key.id), Err(TokenError::KeyInvalid));
    world.source.set_away(false);
    assert!(world.keys.find(&world.shown()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_is_read_though_the_old_one_is_known() {
    let world = World::new();
    world.keys.find(&world.shown()).await.unwrap();
    let next = NewKey::next(world.key.id).unwrap();
    world.source.put(KeyRecord {
        revision: 2,
        ..example(&next)
    });
    let shown = ShownKey::read(next.text()).unwrap();
    // At once, though the record that is known was read a moment ago.
    assert!(matches!(world.keys.at_hand(&shown), AtHand::Unknown));
    assert!(world.keys.find(&shown).await.is_ok());
    assert!(matches!(world.keys.at_hand(&shown), AtHand::Yes(_)));
    assert!(matches!(
        world.keys.find(&world.shown()).await,
        Err(Unknown::Refused(TokenError::KeyInvalid))
    ));
}

#[tokio::test(start_paused = true)]
async fn uses_are_told_once_a_minute() {
    let mut world = World::new();
    world.keys.find(&world.shown()).await.unwrap();
    for _ in 0..50 {
        assert!(world.is_at_hand());
    }
    let told = world.uses.try_recv().unwrap();
    assert_eq!((told.id, told.tenant.as_str()), (world.key.id, "t"));
    assert!(world.uses.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_lasts_ends_with_its_key() {
    let world = World::new();
    world.keys.find(&world.shown()).await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.keys.holds(&world.key.id), Ok(()));
    }
    world.revoke();
    assert_eq!(world.keys.holds(&world.key.id), Ok(()));
    tokio::time::sleep(FRESH).await;
    assert_eq!(world.keys.holds(&world.key.id), Err(TokenError::KeyRevoked));
}
