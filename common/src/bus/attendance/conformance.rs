//! What every form of the table has to do.

use std::collections::BTreeMap;

use super::{Attendance, MAX_USERS};
use crate::{
    ids::{Name, NodeId, TenantId},
    topic::TopicKey,
};

/// Runs all cases on a table that is empty.
///
/// # Panics
/// Where the table does not keep a promise.
pub async fn suite(table: &Attendance) {
    first_and_last_count(table).await;
    topics_are_apart(table).await;
    a_dead_node_s_users_leave_once(table).await;
    survivors_share_a_large_node(table).await;
    names_are_only_names(table).await;
    whatever_is_said_joins_and_leaves_alternate(table).await;
}

fn topic(name: &str) -> TopicKey {
    let tenant = TenantId::new("t").expect("a valid tenant");
    TopicKey::topic(&tenant, &Name::new(name).expect("a valid name"))
}

fn node(id: &str) -> NodeId {
    NodeId::new(id).expect("a valid node")
}

fn names(users: &[&str]) -> Vec<Name> {
    let name = |user: &&str| Name::new(user).expect("a valid name");
    users.iter().map(name).collect()
}

async fn enter(table: &Attendance, topic: &TopicKey, id: &str, users: &[&str]) -> Vec<Name> {
    let entered = table.enter(topic, &node(id), &names(users)).await;
    let entered = entered.expect("the table is there");
    assert!(entered.nodes.contains(&node(id)));
    entered.joined
}

async fn exit(table: &Attendance, topic: &TopicKey, id: &str, users: &[&str]) -> Vec<Name> {
    let left = table.exit(topic, &node(id), &names(users)).await;
    left.expect("the table is there")
}

async fn first_and_last_count(table: &Attendance) {
    let room = topic("first");
    assert_eq!(
        enter(table, &room, "a", &["u1", "u2"]).await,
        names(&["u1", "u2"])
    );
    assert_eq!(enter(table, &room, "a", &["u1"]).await, [], "said again");
    assert_eq!(enter(table, &room, "b", &["u1", "u3"]).await, names(&["u3"]));
    assert_eq!(exit(table, &room, "a", &["u1", "u2", "u4"]).await, names(&["u2"]));
    assert_eq!(exit(table, &room, "a", &["u1"]).await, [], "said again");
    assert_eq!(exit(table, &room, "b", &["u1", "u3"]).await, names(&["u1", "u3"]));
    assert_eq!(exit(table, &room, "b", &["u1"]).await, []);
    let entered = table.enter(&room, &node("c"), &names(&["u1"])).await;
    let entered = entered.expect("the table is there");
    assert_eq!(entered.nodes, [node("c")], "who has nobody is not named");
    assert_eq!(exit(table, &room, "c", &["u1"]).await, names(&["u1"]));
}

async fn topics_are_apart(table: &Attendance) {
    let (one, other) = (topic("one"), topic("other"));
    assert_eq!(enter(table, &one, "a", &["u"]).await.len(), 1);
    assert_eq!(enter(table, &other, "a", &["u"]).await.len(), 1);
    assert_eq!(exit(table, &one, "a", &["u"]).await.len(), 1);
    assert_eq!(exit(table, &other, "a", &["u"]).await.len(), 1);
}

async fn a_dead_node_s_users_leave_once(table: &Attendance) {
    let room = topic("dead");
    enter(table, &room, "dead", &["u1", "u2", "u3"]).await;
    let entered = table.enter(&room, &node("alive"), &names(&["u2"])).await;
    let mut nodes = entered.expect("the table is there").nodes;
    nodes.sort_unstable();
    assert_eq!(nodes, [node("alive"), node("dead")]);
    let purged = table
        .purge(&room, &node("dead"))
        .await
        .expect("the table is there");
    let mut left = purged.left;
    left.sort_unstable();
    assert_eq!((left, purged.more), (names(&["u1", "u3"]), false));
    let again = table
        .purge(&room, &node("dead"))
        .await
        .expect("the table is there");
    assert_eq!(again, super::Purged::default());
    assert_eq!(exit(table, &room, "alive", &["u2"]).await, names(&["u2"]));
}

async fn survivors_share_a_large_node(table: &Attendance) {
    let room = topic("large");
    let all: Vec<String> = (0..3 * MAX_USERS + 7)
        .map(|number| format!("u{number:05}"))
        .collect();
    for users in all.chunks(MAX_USERS) {
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        enter(table, &room, "dead", &users).await;
    }
    let survivor = async || {
        let mut told = Vec::new();
        loop {
            let purged = table
                .purge(&room, &node("dead"))
                .await
                .expect("the table is there");
            assert!(purged.left.len() <= MAX_USERS);
            told.extend(purged.left);
            if !purged.more {
                return told;
            }
        }
    };
    let (mut told, others, more) = tokio::join!(survivor(), survivor(), survivor());
    told.extend(others);
    told.extend(more);
    told.sort_unstable();
    assert!(told.iter().map(Name::as_str).eq(&all), "{} were told", told.len());
}

async fn names_are_only_names(table: &Attendance) {
    let room = topic("a:b{c}*%\u{1}");
    let users = ["", ":", "{x}", "*", "u:1", "ü", "a b", "\u{1}", "-1", "nodes"];
    let users = &users[1..];
    assert_eq!(enter(table, &room, "a", users).await, names(users));
    assert_eq!(enter(table, &room, "b", users).await, []);
    assert_eq!(exit(table, &room, "a", users).await, []);
    assert_eq!(exit(table, &room, "b", users).await, names(users));
}

async fn whatever_is_said_joins_and_leaves_alternate(table: &Attendance) {
    let room = topic("any");
    let (nodes, users) = (["a", "b", "c"], ["u1", "u2", "u3", "u4"]);
    let mut told: BTreeMap<Name, bool> = BTreeMap::new();
    let mut tell = |users: Vec<Name>, there: bool| {
        for user in users {
            assert_eq!(
                told.insert(user.clone(), there).unwrap_or(false),
                !there,
                "{user}"
            );
        }
    };
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..400 {
        let id = nodes[random.usize(..nodes.len())];
        let some: Vec<&str> = users.into_iter().filter(|_| random.bool()).collect();
        match random.u8(0..5) {
            0 | 1 => tell(enter(table, &room, id, &some).await, true),
            2 | 3 => tell(exit(table, &room, id, &some).await, false),
            _ => {
                let purged = table.purge(&room, &node(id)).await.expect("the table is there");
                tell(purged.left, false);
            }
        }
    }
    for id in nodes {
        tell(exit(table, &room, id, &users).await, false);
    }
    assert!(told.values().all(|there| !there));
}
