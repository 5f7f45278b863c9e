//! The board of API keys on a real Redis: no older record over a newer one, and never a refusal where it was lost.

use std::{collections::BTreeSet, time::Duration};

use common::{
    credential::{KeyBoard, KeyRecord, KeySource},
    ids::TenantId,
    patience::eventually,
    redis::{RedisConfig, RedisKind},
    token::NewKey,
};
use rig::redis::{Cluster, ClusterOptions, Options, Server};

use crate::support::config;

const LONG: Duration = Duration::from_secs(30);

fn record(key: &NewKey, revision: i64) -> KeyRecord {
    KeyRecord {
        id: key.id,
        revision,
        tenant: TenantId::new("t").unwrap(),
        hash: key.hash,
        previous: None,
        scopes: BTreeSet::from(["publish".to_owned()]),
        role: None,
        expires_at: None,
        revoked: false,
    }
}

/// Everything that dispatchers and hubs do with the board.
pub(crate) async fn works(config: &RedisConfig) {
    let board = KeyBoard::connect(config).unwrap();
    let (one, other) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
    let ids = [one.id, other.id];
    // It was never filled: what is not there may be somewhere.
    let empty = eventually("Redis answers", LONG, async || match board.revision().await {
        Ok(None) => Some(board.read(&ids).await),
        Ok(Some(revision)) => panic!("it is at {revision}"),
        Err(_) => None,
    })
    .await;
    assert!(empty.unwrap_err().0.contains("no dispatcher"));
    board.show(&[record(&one, 1)], None).await.unwrap();
    board.read(&ids).await.unwrap_err();
    board.show(&[], Some(1)).await.unwrap();
    let found = board.read(&ids).await.unwrap();
    assert!(found[0].as_ref().is_some_and(|found| found.hash.is(&one.hash)) && found[1].is_none());

    // Who comes late with an older record changes nothing.
    let revoked = KeyRecord {
        revoked: true,
        ..record(&one, 12)
    };
    board.show(&[revoked], None).await.unwrap();
    board
        .show(&[record(&one, 9), record(&other, 10)], Some(10))
        .await
        .unwrap();
    let found = board.read(&ids).await.unwrap();
    assert!(
        found[0]
            .as_ref()
            .is_some_and(|found| found.revoked && found.revision == 12)
    );
    assert!(found[1].is_some());
    board.show(&[], Some(4)).await.unwrap();
    assert_eq!(board.revision().await.unwrap(), Some(10));

    board.forget(&[other.id]).await.unwrap();
    assert!(board.read(&ids).await.unwrap()[1].is_none());
    board.clear().await.unwrap();
    assert_eq!(board.revision().await.unwrap(), None);
    board.read(&ids).await.unwrap_err();
}

#[tokio::test]
async fn s4_10_the_board_keeps_the_newest_and_says_where_it_was_lost() {
    let redis = Server::start(&Options::default()).unwrap();
    works(&config(RedisKind::Servers, &[redis.url()])).await;
}

#[tokio::test]
async fn it_does_so_over_redis_cluster() {
    let redis = Cluster::start(&ClusterOptions::bare()).unwrap();
    works(&config(RedisKind::Cluster, &redis.urls())).await;
}
