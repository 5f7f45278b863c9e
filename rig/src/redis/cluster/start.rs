//! How a cluster comes up: by the commands that `redis-cli --cluster create` sends, without its pauses.

use std::{sync::Mutex, time::Duration};

use super::{Cluster, ClusterOptions, Node, PROMPT};
use crate::{
    Error,
    folder::Folder,
    link::Link,
    port::Port,
    redis::{options::Options, server::Server, slots::SLOTS},
    wait::{self, ensure},
};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) fn start(options: &ClusterOptions) -> Result<Cluster, Error> {
    let primaries = options.primaries;
    ensure((1..=1_000).contains(&primaries), || {
        "a cluster has 1 to 1000 primaries".to_owned()
    })?;
    let folder = Folder::new("cluster")?;
    let (servers, buses) = spawn(options, &folder)?;
    let nodes = servers.into_iter().map(|(server, link)| {
        server.wait_until_it_answers()?;
        let id = server.command(&["CLUSTER", "MYID"])?.as_str().to_owned();
        Ok(Node {
            server,
            link,
            id,
            had: Mutex::new(None),
        })
    });
    let cluster = Cluster {
        nodes: nodes.collect::<Result<_, Error>>()?,
        _folder: folder,
        buses,
    };
    introduce(&cluster, primaries)?;
    for (number, node) in cluster.nodes.iter().enumerate().skip(primaries) {
        let primary = (number - primaries) / options.replicas;
        let id = cluster.nodes[primary].id.as_str();
        node.server.command(&["CLUSTER", "REPLICATE", id])?;
    }
    wait::until("the cluster comes up", PROMPT, || {
        let replicas = cluster.those(|own| own.primary.is_some())?.len();
        ensure(replicas == cluster.len() - primaries, || {
            format!("{replicas} replicas")
        })?;
        cluster.is_settled()
    })?;
    Ok(cluster)
}

type Spawned = (Server, Option<Link>);

/// All processes at once, as each takes a while.
fn spawn(options: &ClusterOptions, folder: &Folder) -> Result<(Vec<Spawned>, Vec<Port>), Error> {
    let (mut servers, mut buses) = (Vec::new(), Vec::new());
    for _ in 0..options.primaries * (1 + options.replicas) {
        let (port, bus) = (Port::free()?, Port::free()?);
        let home = folder.inner(&port.number().to_string())?;
        let link = options.linked.then(|| Link::to(port.address())).transpose()?;
        let settings = settings(options, bus.number(), link.as_ref());
        servers.push((Server::spawn(&settings, port, home, false)?, link));
        buses.push(bus);
    }
    Ok((servers, buses))
}

/// The caller's lines come last, so that they win.
fn settings(options: &ClusterOptions, bus: u16, link: Option<&Link>) -> Options {
    let mut lines = vec![
        "cluster-enabled yes".to_owned(),
        format!("cluster-port {bus}"),
        format!("cluster-node-timeout {}", options.node_timeout.as_millis()),
        "cluster-require-full-coverage no".to_owned(),
        "cluster-allow-replica-migration no".to_owned(),
        // No replica waits for others before it copies.
        "repl-diskless-sync yes".to_owned(),
        "repl-diskless-sync-delay 0".to_owned(),
    ];
    if options.replicas > 0 {
        lines.push("min-replicas-to-write 1".to_owned());
    }
    if let Some(link) = link {
        lines.push(format!("cluster-announce-port {}", link.address().port()));
        lines.push(format!("cluster-announce-bus-port {bus}"));
    }
    lines.extend(options.node.lines.iter().cloned());
    Options {
        lines,
        ..options.node.clone()
    }
}

/// Slots are given before the nodes meet, so that the first gossip tells them; each meets each, as gossip alone would
/// take seconds to spread them.
fn introduce(cluster: &Cluster, primaries: usize) -> Result<(), Error> {
    let count = cluster.nodes.len();
    let first_slot = |primary: usize| primary * usize::from(SLOTS) / primaries;
    for (number, node) in cluster.nodes.iter().enumerate() {
        let mut connection = node.server.connect(ANSWER)?;
        let epoch = (number + 1).to_string();
        connection.call(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
        if number < primaries {
            let (from, to) = (first_slot(number), first_slot(number + 1) - 1);
            connection.call(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])?;
        }
    }
    for (number, node) in cluster.nodes.iter().enumerate() {
        let mut connection = node.server.connect(ANSWER)?;
        for (other, bus) in cluster.nodes.iter().zip(&cluster.buses).skip(number + 1) {
            let address = other.server.address();
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            connection.call(&["CLUSTER", "MEET", &ip, &port, &bus.number().to_string()])?;
        }
    }
    for node in &cluster.nodes {
        wait::until("the nodes of a cluster know each other", PROMPT, || {
            let view = node.view()?;
            let known = view.nodes.iter().filter(|other| other.is_sound()).count();
            ensure(known == count && view.nodes.len() == count, || {
                format!("{known} of {count}")
            })
        })?;
    }
    Ok(())
}
