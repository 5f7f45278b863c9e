//! Several hubs on one bus.

mod asking;
mod attendance;
mod forged;
mod redis;
mod registry;
mod trace;

use std::{sync::mpsc, time::Duration};

use common::{
    bus::{Bus, BusLimits, MemoryBus},
    config::Span,
};
use serde_json::Value;

use crate::{
    control::get,
    support::{Setup, TestHub, eventually, soon, token},
};

/// A bus for several hubs.
pub(crate) fn bus() -> Bus {
    Bus::Memory(MemoryBus::new(BusLimits::default()))
}

/// So many hubs that know each other.
pub(crate) async fn cluster(size: usize) -> Vec<TestHub> {
    cluster_with(size, &bus(), |_| ()).await
}

pub(crate) async fn cluster_with(size: usize, bus: &Bus, change: impl Fn(&mut Setup)) -> Vec<TestHub> {
    let mut hubs = Vec::with_capacity(size);
    for _ in 0..size {
        let hub = TestHub::with(|setup| {
            setup.bus = Some(bus.clone());
            change(setup);
        });
        hubs.push(hub.await);
    }
    for hub in &hubs {
        sees(hub, size).await;
    }
    hubs
}

/// Waits until a hub knows of so many nodes, and of no others.
pub(crate) async fn sees(hub: &TestHub, nodes: usize) -> Value {
    eventually("the nodes know each other", async || {
        let answer = get(hub, "nodes", &root()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let there = answer.body["nodes"].as_array().unwrap().len();
        (there == nodes && answer.body["complete"] == true).then_some(answer.body)
    })
    .await
}

/// An operator of the platform.
pub(crate) fn root() -> String {
    token("root", |new| {
        new.scopes = vec!["control".to_owned(), "platform:admin".to_owned()];
    })
}

/// Announcements come so often that a test can wait for their end.
pub(crate) fn quick(setup: &mut Setup) {
    setup.config.announce = Span(Duration::from_millis(100));
}

/// A hub with a runtime of its own, which can stand still or die without a word, as a process can.
pub(crate) struct Island {
    pub(crate) hub: TestHub,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Island {
    pub(crate) async fn start(bus: &Bus, change: impl FnOnce(&mut Setup) + Send + 'static) -> Self {
        let bus = bus.clone();
        Self::start_with(move || bus, change).await
    }

    /// With a bus that is made on its own runtime.
    pub(crate) async fn start_with(
        bus: impl FnOnce() -> Bus + Send + 'static,
        change: impl FnOnce(&mut Setup) + Send + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let starting = runtime.spawn(async move {
            let bus = bus();
            TestHub::with(|setup| {
                setup.bus = Some(bus);
                change(setup);
            })
            .await
        });
        Self {
            hub: soon("the hub starts", starting).await.unwrap(),
            runtime: Some(runtime),
        }
    }

    /// It stands still until what this gives is dropped.
    pub(crate) async fn pause(&self) -> mpsc::SyncSender<()> {
        let (resume, resumed) = mpsc::sync_channel::<()>(0);
        let (standing, stands) = tokio::sync::oneshot::channel();
        self.runtime.as_ref().unwrap().spawn(async move {
            standing.send(()).unwrap();
            // The only thread of the runtime waits here.
            resumed.recv().ok();
        });
        soon("the hub stands still", stands).await.unwrap();
        resume
    }

    /// It is killed.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
