//! A Redis Cluster.

use std::time::Duration;

use rig::redis::{Cluster, ClusterOptions, slot_of};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn another_takes_over_from_a_primary_that_is_killed_and_from_one_that_is_paused() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    assert_eq!(cluster.len(), 9);
    assert_eq!(cluster.primaries().unwrap(), [0, 1, 2]);
    assert_eq!(cluster.replicas_of(1).unwrap(), [5, 6]);

    let slot = slot_of("a");
    let killed = cluster.owner_of(slot).unwrap();
    let mut connection = cluster.node(killed).connect(SOON).unwrap();
    connection.call(&["SET", "a", "b"]).unwrap();
    assert_eq!(
        connection.call(&["WAIT", "2", "10000"]).unwrap().as_integer(),
        Some(2)
    );
    cluster.kill(killed).unwrap();
    let new = cluster.wait_for_failover(killed, SOON).unwrap();
    assert_eq!(cluster.owner_of(slot).unwrap(), new);
    cluster.settle(SOON).unwrap();
    assert_eq!(cluster.node(new).command(&["GET", "a"]).unwrap().as_str(), "b");
    cluster.restart(killed).unwrap();

    let paused = (0..3).find(|node| *node != killed).unwrap();
    cluster.pause(paused).unwrap();
    let other = cluster.wait_for_failover(paused, SOON).unwrap();
    assert!(cluster.primaries().unwrap().contains(&other));
    cluster.resume(paused).unwrap();

    cluster.settle(SOON).unwrap();
    assert_eq!(cluster.replicas_of(new).unwrap().len(), 2);
    assert!(cluster.replicas_of(other).unwrap().contains(&paused));
}

#[test]
fn slots_move_with_their_keys() {
    let cluster = Cluster::start(&ClusterOptions::bare()).unwrap();
    let slot = slot_of("{a}");
    let said = cluster.node(0).command(&["CLUSTER", "KEYSLOT", "{a}1"]).unwrap();
    assert_eq!(said.as_integer(), Some(slot.into()));
    let from = cluster.owner_of(slot).unwrap();
    let to = (from + 1) % 3;
    for key in 0..250 {
        cluster
            .node(from)
            .command(&["SET", &format!("{{a}}{key}"), "b"])
            .unwrap();
    }
    assert_eq!(cluster.migrate_slots(from, to, [slot]).unwrap(), 250);
    assert_eq!(cluster.owner_of(slot).unwrap(), to);
    assert_eq!(
        cluster.node(to).command(&["GET", "{a}249"]).unwrap().as_str(),
        "b"
    );
    let moved = cluster
        .node(from)
        .command(&["GET", "{a}0"])
        .unwrap_err()
        .to_string();
    assert!(moved.contains("MOVED"), "{moved}");
    cluster.settle(SOON).unwrap();
}

#[test]
fn a_replica_takes_its_primarys_place_by_order() {
    let cluster = Cluster::start(&ClusterOptions {
        replicas: 1,
        ..ClusterOptions::default()
    })
    .unwrap();
    let [replica] = cluster.replicas_of(0).unwrap()[..] else {
        panic!("one replica")
    };
    cluster.failover(replica).unwrap();
    cluster.settle(SOON).unwrap();
    assert_eq!(cluster.replicas_of(replica).unwrap(), [0]);
}

#[test]
fn a_linked_one_is_reached_through_its_links() {
    let cluster = Cluster::start(&ClusterOptions {
        linked: true,
        ..ClusterOptions::bare()
    })
    .unwrap();
    let links: Vec<_> = (0..3).map(|node| cluster.link(node).unwrap().address()).collect();
    let urls: Vec<_> = links.iter().map(|address| format!("redis://{address}")).collect();
    assert_eq!(cluster.urls(), urls);
    let slots = cluster.node(0).command(&["CLUSTER", "SLOTS"]).unwrap();
    let told = slots
        .as_list()
        .iter()
        .map(|range| range.as_list()[2].as_list()[1].as_integer());
    let told: Vec<_> = told.map(Option::unwrap).collect();
    assert_eq!(
        told,
        links
            .iter()
            .map(|address| i64::from(address.port()))
            .collect::<Vec<_>>()
    );

    let mut connection = rig::redis::Connection::open(links[1], SOON).unwrap();
    connection.call(&["PING"]).unwrap();
    cluster.link(1).unwrap().cut();
    assert!(connection.call(&["PING"]).is_err());
    cluster.settle(SOON).unwrap();
}
