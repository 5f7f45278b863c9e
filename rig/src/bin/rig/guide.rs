//! What stands on the screen when all runs: what is where, and what to try.

use std::fmt::Write as _;

use rig::{
    carillon::Node,
    nginx::Nginx,
    redis::{Engine, Server},
    whole::{DATABASE, Whole},
};

/// The tenant of the examples.
const TENANT: &str = "demo";

pub(crate) fn text(whole: &Whole) -> String {
    let mut text = String::from("\n");
    let mut line = |what: &str, rest: &str| {
        // Writing to a string cannot fail.
        writeln!(text, "{what:<13} {rest}").ok();
    };
    for (number, node) in whole.hubs().iter().enumerate() {
        line(&format!("hub {}", number + 1), &node_line(node));
    }
    for (number, node) in whole.dispatchers().iter().enumerate() {
        line(&format!("dispatcher {}", number + 1), &node_line(node));
    }
    if let Some(edge) = whole.edge() {
        line(
            "nginx",
            &format!("{}  logs in {}/log", edge.url(), edge.folder().display()),
        );
    }
    if let Some(server) = whole.postgres() {
        line(
            "postgres",
            &format!("{}  pid {}", server.url(DATABASE), server.pid()),
        );
    }
    for (what, server) in servers(whole.redis()) {
        line(&what, &format!("{}  pid {}", server.address(), server.pid()));
    }
    text + &examples(whole)
}

fn node_line(node: &Node) -> String {
    format!(
        "public {}  internal {}  pid {}  log {}/log",
        node.address(),
        node.internal(),
        node.pid(),
        node.folder().display()
    )
}

fn servers(redis: &Engine) -> Vec<(String, &Server)> {
    match redis {
        Engine::Single(server) => vec![("redis".to_owned(), server)],
        Engine::Sentinel(group) => {
            let nodes = group.nodes().iter().map(|server| ("redis".to_owned(), server));
            let sentinels = group
                .sentinels()
                .iter()
                .map(|server| ("sentinel".to_owned(), server));
            nodes.chain(sentinels).collect()
        }
        Engine::Cluster(cluster) => {
            let primaries = cluster.primaries().unwrap_or_default();
            let word = |node| {
                if primaries.contains(&node) {
                    "redis"
                } else {
                    "  replica"
                }
            };
            let nodes = (0..cluster.len()).map(|node| (word(node).to_owned(), cluster.node(node)));
            nodes.collect()
        }
    }
}

fn examples(whole: &Whole) -> String {
    let Some(hub) = whole.hubs().first() else {
        return String::new();
    };
    let internal = format!("http://{}", hub.internal());
    let edge = whole
        .edge()
        .map_or_else(|| format!("http://{}", hub.address()), Nginx::url);
    let program = hub.program().display();
    let config = hub.config().display().to_string();
    format!(
        r#"
A token, for everything below:
  TOKEN=$({program} token --config {config} --tenant {TENANT} --user anna --scope "notifications:write publish")
A stream that shows what arrives, from any hub:
  curl -N -H "Authorization: Bearer $TOKEN" {edge}/api/v1/sse
A notification, through any dispatcher:
  curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" {edge}/api/v1/notifications \
    -d '{{"to":{{"user":"anna"}},"title":"Hello","content":"from a cluster"}}'
A message to a topic's readers, through a hub's internal listener:
  curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" {internal}/api/v1/publish \
    -d '{{"to":{{"user":"anna"}},"data":{{"price":1}}}}'
Ctrl-C ends it all.
"#
    )
}
