//! A primary with sentinels.

use std::time::Duration;

use rig::redis::Sentinel;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn another_takes_a_killed_primarys_place() {
    let group = Sentinel::start().unwrap();
    let old = group.primary().unwrap();
    let mut connection = group.nodes()[old].connect(SOON).unwrap();
    connection.call(&["SET", "a", "b"]).unwrap();
    assert_eq!(
        connection.call(&["WAIT", "2", "10000"]).unwrap().as_integer(),
        Some(2)
    );
    assert_eq!(group.kill_primary().unwrap(), old);
    let new = group.wait_for_failover(old, SOON).unwrap();
    assert_eq!(group.nodes()[new].command(&["GET", "a"]).unwrap().as_str(), "b");
    group.nodes()[new].command(&["SET", "a", "c"]).unwrap();
}
