//! Which server has which partition. Servers are configured, Sentinels are asked, a cluster's nodes are asked; every few
//! seconds, and at once when something is wrong.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    link::{Credentials, Dialing, Link, LinkError, Place},
    names::{Names, preference},
    wire::{Commands, Refusal, list, number, text},
};
use crate::redis::{RedisConfig, RedisKind};

/// How often a cluster is asked when nothing is wrong.
const CLUSTER_LOOK: Duration = Duration::from_secs(5);

/// How often Sentinels are: their own events can be missed.
const SENTINEL_LOOK: Duration = Duration::from_secs(1);

/// While something is wrong.
const SOON: Duration = Duration::from_millis(100);

/// Nodes of a cluster that are asked at once; the newest of their views counts.
const ASKED: usize = 3;

/// What is wrong is logged so often.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// For so long nobody is believed who speaks of an older configuration.
const MEMORY: Duration = Duration::from_secs(30);

/// Who is asked has to answer soon: there are others.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where partitions are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// By partition; none while it is nobody's.
    owners: Vec<Option<Place>>,
    /// Every server that owns something.
    places: Vec<Place>,
    /// Where to subscribe instead of at the owner.
    listen_at: Option<Place>,
}

impl Map {
    fn new(owners: Vec<Option<Place>>, listen_at: Option<Place>) -> Self {
        let mut places: Vec<Place> = owners.iter().flatten().cloned().collect();
        places.sort_unstable();
        places.dedup();
        Self {
            owners,
            places,
            listen_at,
        }
    }

    pub(super) fn owner(&self, partition: usize) -> Option<&Place> {
        self.owners.get(partition)?.as_ref()
    }

    /// Where a partition's topics are subscribed.
    pub(super) fn listening(&self, partition: usize) -> Option<&Place> {
        let owner = self.owner(partition)?;
        Some(self.listen_at.as_ref().unwrap_or(owner))
    }

    /// Every server that owns something.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether every partition is somebody's.
    pub(super) fn is_whole(&self) -> bool {
        !self.owners.is_empty() && self.owners.iter().all(Option::is_some)
    }
}

/// Follows the servers until nobody looks any more.
pub(super) struct Scout {
    config: RedisConfig,
    names: Arc<Names>,
    /// For the servers, and for those that are asked.
    dialing: Dialing,
    trouble: Arc<Notify>,
    known: Vec<Place>,
    /// Of a cluster, by partition.
    seen: Vec<Option<Seen>>,
    /// When it was logged that it is not known where things are.
    said: Option<Instant>,
    map: watch::Sender<Arc<Map>>,
}

/// Who had a partition when a cluster was asked.
#[derive(Debug, Clone)]
struct Seen {
    /// The configuration epoch of the cluster.
    epoch: u64,
    place: Place,
    at: Instant,
}

impl Scout {
    /// What is known at once, and who finds out more.
    pub(super) fn new(
        config: &RedisConfig,
        names: Arc<Names>,
        dialing: &Dialing,
        trouble: Arc<Notify>,
    ) -> (Self, watch::Receiver<Arc<Map>>) {
        let servers: Vec<Place> = config.urls.iter().map(Place::of).collect();
        let owners = match config.kind {
            RedisKind::Servers => (0..names.partitions())
                .map(|partition| {
                    let best = |server: &&Place| preference(partition, &server.to_string());
                    servers.iter().max_by_key(best).cloned()
                })
                .collect(),
            _ => vec![None; names.partitions()],
        };
        let first = Map::new(owners, config.subscribe_url.as_ref().map(Place::of));
        let (map, watched) = watch::channel(Arc::new(first));
        let mut dialing = dialing.clone();
        if config.kind == RedisKind::Sentinel {
            dialing.credentials = Credentials {
                username: config.sentinel_username.clone(),
                password: config.sentinel_password.clone(),
            };
            dialing.own = Arc::new(Credentials::by_place(config.urls.iter()));
        }
        dialing.connect_timeout = dialing.connect_timeout.min(PATIENCE);
        dialing.timeout = dialing.timeout.min(PATIENCE);
        let scout = Self {
            config: config.clone(),
            names,
            dialing,
            trouble,
            known: servers,
            seen: Vec::new(),
            said: None,
            map,
        };
        (scout, watched)
    }

    pub(super) async fn run(mut self) {
        let look = match self.config.kind {
            // They stay where they are, and whoever looks has to find the map for as long as it lives.
            RedisKind::None | RedisKind::Servers => return self.map.closed().await,
            RedisKind::Sentinel => SENTINEL_LOOK,
            RedisKind::Cluster => CLUSTER_LOOK,
        };
        loop {
            let found = match self.config.kind {
                RedisKind::Sentinel => self.ask_sentinels().await,
                _ => self.ask_cluster().await,
            };
            self.complain(found.as_ref());
            let next = if found.as_ref().is_some_and(Map::is_whole) {
                look
            } else {
                SOON
            };
            if let Some(found) = found {
                self.map.send_if_modified(|map| {
                    let news = **map != found;
                    if news {
                        *map = Arc::new(found);
                    }
                    news
                });
            }
            let soonest = Instant::now() + SOON;
            tokio::select! {
                () = sleep(next) => {}
                () = self.trouble.notified() => sleep_until(soonest).await,
                () = self.map.closed() => return,
            }
        }
    }

    /// Says in the log that nobody can be asked, or that nobody has some slots; once in a while.
    fn complain(&mut self, found: Option<&Map>) {
        let reason = match found {
            None => "nobody of redis.urls answers",
            Some(map) if !map.is_whole() => "nobody has some of the slots",
            Some(_) => {
                self.said = None;
                return;
            }
        };
        if self.said.is_none_or(|at| at.elapsed() > SAY_AGAIN) {
            tracing::warn!(kind = ?self.config.kind, reason, "it is not known where things are in Redis");
            self.said = Some(Instant::now());
        }
    }

    /// Who most Sentinels say is the primary; of equally many, who is it already.
    async fn ask_sentinels(&self) -> Option<Map> {
        let mut command = Commands::default();
        let service = self.config.sentinel_service.as_bytes();
        command.push(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service]);
        let answers = join_all(self.known.iter().map(|sentinel| self.ask(sentinel, &command))).await;
        let mut votes: HashMap<Place, usize> = HashMap::new();
        for answer in answers.into_iter().flatten() {
            let Some([host, port]) = answer.first().and_then(list) else {
                continue;
            };
            if let (Some(host), Some(port)) =
                (text(host), number(port).and_then(|port| u16::try_from(port).ok()))
            {
                let host = host.to_owned();
                *votes.entry(Place { host, port }).or_default() += 1;
            }
        }
        let now = Arc::clone(&self.map.borrow());
        let weight = |(place, votes): &(Place, usize)| (*votes, now.owner(0) == Some(place));
        let (primary, _) = votes.into_iter().max_by_key(weight)?;
        Some(Map::new(vec![Some(primary); self.names.partitions()], None))
    }

    /// The newest of what some nodes of the cluster say.
    async fn ask_cluster(&mut self) -> Option<Map> {
        let mut command = Commands::default();
        command.push(&[b"CLUSTER", b"NODES"]);
        fastrand::shuffle(&mut self.known);
        let mut view = View::new(self.names.partitions(), self.dialing.tls.is_some());
        let mut known = Vec::new();
        // Those that do not answer give way to others, until some have.
        for some in self.known.chunks(ASKED) {
            let answers = join_all(some.iter().map(|node| self.ask(node, &command))).await;
            for (asked, answer) in some.iter().zip(answers) {
                if let Some(nodes) = answer.as_ref().and_then(|answer| text(answer.first()?)) {
                    view.add(nodes, asked, &self.names, &mut known);
                }
            }
            if !known.is_empty() {
                break;
            }
        }
        if known.is_empty() {
            return None;
        }
        // Configured ones are never forgotten: they may be the only ones after all others have gone.
        known.extend(self.config.urls.iter().map(Place::of));
        known.sort_unstable();
        known.dedup();
        self.known = known;
        let owners = self.believe(view);
        Some(Map::new(owners, None))
    }

    /// The owners of a view, but for those that are older than what was seen a short while ago: nodes that were away speak of
    /// how it was.
    fn believe(&mut self, view: View) -> Vec<Option<Place>> {
        let now = Instant::now();
        self.seen.resize(view.partitions.len(), None);
        for (seen, found) in self.seen.iter_mut().zip(view.partitions) {
            let newer = match (&seen, &found) {
                (Some(seen), Some((epoch, _))) => *epoch >= seen.epoch || now - seen.at > MEMORY,
                (Some(seen), None) => now - seen.at > MEMORY,
                (None, _) => true,
            };
            if newer {
                *seen = found.map(|(epoch, place)| Seen {
                    epoch,
                    place,
                    at: now,
                });
            }
        }
        let owners = self.seen.iter();
        owners
            .map(|seen| seen.as_ref().map(|seen| seen.place.clone()))
            .collect()
    }

    async fn ask(&self, node: &Place, command: &Commands) -> Option<Vec<BytesFrame>> {
        let asking = async {
            let mut link = Link::connect(node, &self.dialing).await?;
            link.call(command, self.dialing.timeout).await
        };
        let answer = timeout(PATIENCE * 2, asking)
            .await
            .unwrap_or(Err(LinkError::TimedOut));
        match answer {
            Ok(replies) if !replies.iter().any(|reply| Refusal::in_reply(reply).is_some()) => Some(replies),
            Ok(replies) => {
                let refusal = replies.iter().find_map(Refusal::in_reply);
                tracing::warn!(server = %node, ?refusal, "Redis does not say where things are");
                None
            }
            Err(error) => {
                tracing::debug!(server = %node, %error, "Redis cannot be asked where things are");
                None
            }
        }
    }
}

/// What nodes of a cluster said, the newest configuration of each partition.
struct View {
    partitions: Vec<Option<(u64, Place)>>,
    /// Nodes are called by their names, where they have some: certificates may know nothing else.
    by_name: bool,
}

impl View {
    fn new(partitions: usize, by_name: bool) -> Self {
        Self {
            partitions: vec![None; partitions],
            by_name,
        }
    }

    /// Reads the answer to `CLUSTER NODES` of a node. A node that was away may speak of an older configuration, which its
    /// epochs show.
    fn add(&mut self, nodes: &str, asked: &Place, names: &Names, known: &mut Vec<Place>) {
        for line in nodes.lines() {
            let mut fields = line.split(' ');
            let Some(address) = fields.nth(1) else { continue };
            let Some(flags) = fields.next() else { continue };
            let Some(epoch) = fields.nth(3).and_then(|epoch| epoch.parse::<u64>().ok()) else {
                continue;
            };
            let Some(place) = place_of(address, asked, self.by_name) else {
                continue;
            };
            let has = |flag: &str| flags.split(',').any(|its| its == flag);
            if has("noaddr") || has("handshake") {
                continue;
            }
            if !has("fail") {
                known.push(place.clone());
            }
            if !has("master") {
                continue;
            }
            // Behind the epoch stands the state of the connection between the nodes.
            let ranges: Vec<(u16, u16)> = fields.skip(1).filter_map(range).collect();
            for (partition, entry) in self.partitions.iter_mut().enumerate() {
                let slot = names.slot(partition);
                let its = ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&slot));
                let newer = entry.as_ref().is_none_or(|(known, _)| epoch > *known);
                if its && newer {
                    *entry = Some((epoch, place.clone()));
                }
            }
        }
    }
}

/// `ip:port@cport[,hostname]`; a node that does not know its own address is where it was asked.
fn place_of(address: &str, asked: &Place, by_name: bool) -> Option<Place> {
    let (first, rest) = address.split_once('@').unwrap_or((address, ""));
    let place = Place::parse(first)?;
    let name = rest.split(',').nth(1).filter(|name| by_name && !name.is_empty());
    let host = match name {
        Some(name) => name.to_owned(),
        None if place.host.is_empty() => asked.host.clone(),
        None => place.host,
    };
    Some(Place { host, ..place })
}

/// `0-5460` or `7`; what stands in brackets is on its way.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Place {
        Place {
            host: "127.0.0.1".to_owned(),
            port,
        }
    }

    fn owners(view: &View) -> Vec<Option<Place>> {
        let owners = view.partitions.iter();
        owners
            .map(|owner| owner.as_ref().map(|(_, place)| place.clone()))
            .collect()
    }

    #[test]
    fn nodes_have_names_where_certificates_need_them() {
        let address = "10.0.0.1:7000@17000,redis-1.example";
        let place = |by_name| place_of(address, &at(1), by_name).unwrap().to_string();
        assert_eq!(
            (place(true).as_str(), place(false).as_str()),
            ("redis-1.example:7000", "10.0.0.1:7000")
        );
        assert_eq!(
            place_of(":7000@17000,", &at(1), true).unwrap().to_string(),
            "127.0.0.1:7000"
        );
        assert_eq!(place_of("::1:7000@17000", &at(1), true).unwrap().host, "::1");
    }

    #[test]
    fn the_newest_configuration_counts() {
        let names = Names::new("c", 2);
        let mut view = View::new(2, false);
        let mut known = Vec::new();
        let old = "a 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-8191\n\
                   b 127.0.0.1:2@12,host master - 0 0 2 connected 8192-16383 [8192->-a]\n\
                   c 127.0.0.1:3@13 slave a 0 0 1 connected";
        let new = "a 127.0.0.1:1@11 master,fail - 0 0 1 disconnected\n\
                   b :2@12 myself,master - 0 0 2 connected 8192-16383\n\
                   c 127.0.0.1:3@13 master - 0 0 3 connected 0-8191\n\
                   d :0@0 master,noaddr - 0 0 9 disconnected 0-16383";
        view.add(new, &at(2), &names, &mut known);
        view.add(old, &at(1), &names, &mut known);
        assert_eq!(owners(&view), [Some(at(3)), Some(at(2))]);
        assert!(known.contains(&at(2)) && known.contains(&at(3)));
    }

    #[test]
    fn slots_that_nobody_has_make_a_map_that_is_not_whole() {
        let names = Names::new("c", 2);
        let mut view = View::new(2, false);
        view.add(
            "a 127.0.0.1:1@11 master - 0 0 1 connected 0-99 8191",
            &at(1),
            &names,
            &mut Vec::new(),
        );
        let map = Map::new(owners(&view), None);
        assert!(!map.is_whole());
    }
}
