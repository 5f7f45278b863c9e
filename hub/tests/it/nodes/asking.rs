//! Presence, sessions, orders and statistics over several nodes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Island, bus, cluster, cluster_with, quick, root, sees};
use crate::{
    control::{get, of, operator, order, users},
    support::{Client, TestHub, eventually},
};

/// Ann has a session on each of the first two, bob one on the second, cid one on the third; dan is of another tenant.
async fn people(hubs: &[TestHub]) -> Vec<Client> {
    let mut clients = Vec::new();
    for (at, tenant, user, role, store) in [
        (0, "t1", "ann", "manager", "12"),
        (1, "t1", "ann", "manager", "12"),
        (1, "t1", "bob", "manager", "13"),
        (2, "t1", "cid", "clerk", "12"),
        (2, "t2", "dan", "manager", "12"),
    ] {
        clients.push(hubs[at].connect(&of(tenant, user, role, store)).await);
    }
    clients
}

#[tokio::test]
async fn users_are_found_on_every_node() {
    let hubs = cluster(3).await;
    let _clients = people(&hubs).await;
    for (asked, hub) in hubs.iter().enumerate() {
        // The nodes that have to answer beside the one that is asked: those with members.
        for (to, users, members) in [
            (json!({"user":"ann"}), json!([["ann", 2]]), vec![0, 1]),
            (json!({"user":"cid"}), json!([["cid", 1]]), vec![2]),
            (json!({"user":"nobody"}), json!([]), vec![]),
            (json!({"user":"dan"}), json!([]), vec![]),
            (
                json!({"role":"manager"}),
                json!([["ann", 2], ["bob", 1]]),
                vec![0, 1],
            ),
            (
                json!({"store":"12"}),
                json!([["ann", 2], ["cid", 1]]),
                vec![0, 1, 2],
            ),
            (
                json!({"all_of":[{"store":"12"},{"role":"clerk"}]}),
                json!([["cid", 1]]),
                vec![0, 1, 2],
            ),
            (
                json!({"tenant":true,"except":{"user":"ann"}}),
                json!([["bob", 1], ["cid", 1]]),
                vec![0, 1, 2],
            ),
            // Over several topics: all are asked.
            (
                json!({"users":["ann","cid","nobody"]}),
                json!([["ann", 2], ["cid", 1]]),
                vec![0, 1, 2],
            ),
            (
                json!({"any_of":[{"role":"clerk"},{"user":"bob"}]}),
                json!([["bob", 1], ["cid", 1]]),
                vec![0, 1, 2],
            ),
        ] {
            let answer = order(hub, "presence", &json!({"to":to})).await;
            let found: Vec<Value> = answer.body["users"]
                .as_array()
                .unwrap()
                .iter()
                .map(|user| json!([user["user"], user["sessions"]]))
                .collect();
            assert_eq!(Value::from(found), users, "{to} asked at {asked}: {answer:?}");
            let sessions: u64 = users
                .as_array()
                .unwrap()
                .iter()
                .map(|user| user[1].as_u64().unwrap())
                .sum();
            assert_eq!(answer.body["sessions"], sessions, "{to}");
            let nodes: BTreeSet<usize> = members.into_iter().chain([asked]).collect();
            assert_eq!(answer.body["nodes"], nodes.len(), "{to} asked at {asked}");
            assert_eq!(answer.body["complete"], true, "{to} asked at {asked}");
        }
    }
}

#[tokio::test]
async fn one_node_can_be_asked_alone() {
    let hubs = cluster(3).await;
    let clients = people(&hubs).await;
    let node = |at: usize| hubs[at].hub.node().as_str();
    for hub in &hubs {
        for (member, expected) in [(0, vec!["ann"]), (1, vec!["ann", "bob"]), (2, vec!["cid"])] {
            let query = format!("sessions?node={}", node(member));
            let answer = get(hub, &query, &operator()).await;
            assert_eq!(users(&answer), expected, "{query}");
            assert_eq!(
                (&answer.body["nodes"], &answer.body["complete"]),
                (&json!(1), &json!(true))
            );
            let answer = get(hub, &format!("presence?node={}", node(member)), &operator()).await;
            assert_eq!(answer.body["sessions"], expected.len(), "{answer:?}");
        }
    }
    let path = format!("disconnect?node={}", node(1));
    let answer = order(&hubs[0], &path, &json!({"to":{"user":"ann"}})).await;
    assert_eq!(answer.body, json!({"sessions":1,"nodes":1,"complete":true}));
    let mut clients = clients.into_iter();
    let (stays, goes) = (clients.next().unwrap(), clients.next().unwrap());
    assert_eq!(goes.closed().await.0, Some(4003));
    stays.close().await;
    for (path, code) in [
        ("sessions?node=00000000", "unknown_node"),
        ("presence?node=a%3Ab", "invalid_value"),
        ("stats?node=", "invalid_value"),
        ("sessions/count?node=*", "invalid_value"),
    ] {
        let answer = get(&hubs[0], path, &operator()).await;
        assert_eq!(answer.problem(422, code), Some("node"), "{path}");
    }
    let answer = order(&hubs[0], "disconnect?node=other", &json!({"to":{"tenant":true}})).await;
    assert_eq!(answer.problem(422, "unknown_node"), Some("node"));
}

#[tokio::test]
async fn sessions_are_listed_page_by_page_while_others_come_and_go() {
    let hubs = cluster(3).await;
    let (mut staying, mut going) = (Vec::new(), Vec::new());
    for number in 0..45 {
        let client = hubs[number % 3].user(&format!("u{number}")).await;
        if number % 4 == 0 { &mut going } else { &mut staying }.push((number % 3, client));
    }
    let (mut seen, mut after, mut asked) = (Vec::new(), String::new(), 0);
    loop {
        // Any node continues what another began.
        asked += 1;
        let hub = &hubs[asked % 3];
        let answer = get(hub, &format!("sessions?limit=7{after}"), &operator()).await;
        assert_eq!(answer.body["complete"], true, "{answer:?}");
        let sessions = answer.body["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 7);
        seen.extend(sessions.iter().map(|info| {
            let text = |field: &str| info[field].as_str().unwrap().to_owned();
            (text("session"), text("node"))
        }));
        if let Some((_, client)) = going.pop() {
            client.close().await;
            hubs[asked % 2].user("new").await.close().await;
        }
        let Some(next) = answer.body["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert!(seen.is_sorted());
    let unique: BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "a session came twice");
    for (at, client) in &staying {
        let expected = (client.session().to_owned(), hubs[*at].hub.node().to_string());
        assert!(unique.contains(&expected), "a session was left out");
    }
}

#[tokio::test]
async fn pages_of_users_count_each_on_all_nodes() {
    let hubs = cluster(2).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        for hub in hubs.iter().take(1 + number % 2) {
            clients.push(hub.user(&format!("u{number:02}")).await);
        }
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    for asked in 0.. {
        let body = json!({"to":{"tenant":true},"limit":3,"after":after});
        let answer = order(&hubs[asked % 2], "presence", &body).await;
        assert_eq!(answer.body["sessions"], clients.len(), "{answer:?}");
        seen.extend(answer.body["users"].as_array().unwrap().clone());
        after = answer.body["next"].clone();
        if after.is_null() {
            break;
        }
    }
    let expected: Vec<Value> = (0..20)
        .map(|number| json!({"user":format!("u{number:02}"),"sessions":1 + number % 2}))
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn orders_are_carried_out_on_every_node() {
    let hubs = cluster(3).await;
    let mut clients = people(&hubs).await;
    for client in &mut clients {
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
    }
    let body = json!({"to":{"topic":"public.a"},"topic":"public.a"});
    let answer = order(&hubs[0], "unsubscribe", &body).await;
    assert_eq!(answer.body, json!({"sessions":4,"nodes":3,"complete":true}));
    for client in &mut clients[..4] {
        client.expect("unsubscribed").await;
    }
    let answer = order(
        &hubs[2],
        "refresh",
        &json!({"to":{"role":"manager"},"within_ms":60_000}),
    )
    .await;
    assert_eq!(answer.body, json!({"sessions":3,"nodes":3,"complete":true}));
    for client in &mut clients[..3] {
        client.expect("expiring").await;
    }
    let body = json!({"to":{"tenant":true},"code":4200,"reason":"bye","reconnect":false});
    let answer = order(&hubs[0], "disconnect", &body).await;
    assert_eq!(answer.body, json!({"sessions":4,"nodes":3,"complete":true}));
    let dan = clients.pop().unwrap();
    for client in clients {
        assert_eq!(
            client.closed().await,
            (Some(4200), "bye; reconnect=no".to_owned())
        );
    }
    // Of all tenants, by the platform.
    let answer = hubs[0]
        .post(
            "/api/v1/control/disconnect",
            &root(),
            &json!({"to":{"everyone":true}}),
        )
        .await;
    assert_eq!(answer.body["sessions"], 1, "{answer:?}");
    assert_eq!(dan.closed().await.0, Some(4003));
}

#[tokio::test]
async fn statistics_are_of_all_nodes() {
    let hubs = cluster(3).await;
    let _clients = people(&hubs).await;
    let answer = get(&hubs[1], "stats", &operator()).await;
    let stats = &answer.body;
    assert_eq!(
        (&stats["connections"], &stats["users_online"]),
        (&json!(4), &json!(4)),
        "{stats}"
    );
    assert_eq!((&stats["nodes"], &stats["complete"]), (&json!(3), &json!(true)));
    assert_eq!(stats["load"], Value::Null, "of the platform only");
    let by_node = stats["by_node"].as_array().unwrap();
    for (at, connections) in [(0, 1), (1, 2), (2, 1)] {
        let node = by_node
            .iter()
            .find(|node| node["node"] == hubs[at].hub.node().as_str());
        assert_eq!(node.unwrap()["connections"], connections);
    }
    let answer = get(&hubs[0], "stats?tenant=t2", &root()).await;
    assert_eq!(answer.body["connections"], 1, "{answer:?}");
    assert_eq!(answer.body["load"]["sessions"], 5);
    let node = hubs[2].hub.node();
    let answer = get(&hubs[0], &format!("stats?node={node}"), &root()).await;
    assert_eq!(answer.body["load"]["sessions"], 2);
    assert_eq!(answer.body["nodes"], 1);
    get(&hubs[0], "stats?tenant=t2", &operator())
        .await
        .problem(403, "scope_missing");
}

/// A node that does not answer makes the answer incomplete and holds it up for no longer than its deadline.
#[tokio::test]
async fn a_node_that_stands_still_is_not_waited_for() {
    let bus = bus();
    let hubs = cluster_with(1, &bus, |_| ()).await;
    let island = Island::start(&bus, |_| ()).await;
    sees(&hubs[0], 2).await;
    let mut ann = hubs[0].user("ann").await;
    let _also = island.hub.user("ann").await;
    let body = json!({"to":{"user":"ann"}});
    let whole = json!({"users":[{"user":"ann","sessions":2}],"sessions":2,"nodes":2,"complete":true});
    assert_eq!(order(&hubs[0], "presence", &body).await.body, whole);
    let paused = island.pause().await;
    let part = json!({"users":[{"user":"ann","sessions":1}],"sessions":1,"nodes":2,"complete":false});
    let began = tokio::time::Instant::now();
    assert_eq!(order(&hubs[0], "presence", &body).await.body, part);
    assert!(began.elapsed().as_millis() >= 300, "it had its time");
    // Nobody there has bob: that one needs not answer.
    let answer = order(&hubs[0], "presence", &json!({"to":{"user":"bob"}})).await;
    assert_eq!(
        (&answer.body["nodes"], &answer.body["complete"]),
        (&json!(1), &json!(true))
    );
    for path in ["sessions", "sessions/count", "stats"] {
        let answer = get(&hubs[0], path, &operator()).await;
        assert_eq!(answer.body["complete"], false, "{path}");
        assert_eq!(answer.body["nodes"], 2, "{path}");
    }
    // Messages go on meanwhile.
    hubs[0].publish(&json!({"to":{"user":"ann"},"data":1})).await;
    assert_eq!(ann.until_pong().await.len(), 1);
    drop(paused);
    eventually("it answers again", async || {
        (order(&hubs[0], "presence", &body).await.body == whole).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_node_is_missed_until_it_has_gone() {
    let bus = bus();
    let hubs = cluster_with(2, &bus, |setup| {
        setup.config.announce = common::config::Span(std::time::Duration::from_millis(500));
    })
    .await;
    let island = Island::start(&bus, |_| ()).await;
    sees(&hubs[0], 3).await;
    let ann = hubs[1].user("ann").await;
    island.kill();
    let answer = get(&hubs[0], "stats", &operator()).await;
    assert_eq!(
        (&answer.body["nodes"], &answer.body["complete"]),
        (&json!(3), &json!(false))
    );
    assert_eq!(answer.body["connections"], 1);
    sees(&hubs[0], 2).await;
    let answer = get(&hubs[0], "stats", &operator()).await;
    assert_eq!(
        (&answer.body["nodes"], &answer.body["complete"]),
        (&json!(2), &json!(true))
    );
    ann.close().await;
}

#[tokio::test]
async fn alone_a_node_knows_that_it_is() {
    let hubs = cluster_with(1, &bus(), quick).await;
    let answer = get(&hubs[0], "stats", &operator()).await;
    assert_eq!(
        (&answer.body["nodes"], &answer.body["complete"]),
        (&json!(1), &json!(true))
    );
}
