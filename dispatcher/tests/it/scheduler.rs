//! What recurs is sent: each occurrence once, by whichever dispatcher, rendered as its template is then.

use std::time::Duration;

use dispatcher::{
    channels::Channels,
    config::DispatcherConfig,
    metrics::Metrics,
    model::{
        ListFilter, Micros, Missed, NewTemplate, Rule, Schedule, ScheduleBody, ScheduleState, Syntax, Timing,
    },
};
use prometheus_client::{encoding::text, registry::Registry};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::by;
use crate::{
    api::Api,
    support::{Running, World, eventually, name, quick, reader, tenant},
};

const SECOND: i64 = 1_000_000;

/// A dispatcher beside others on this store, which runs schedules.
async fn dispatcher(world: &World, config: &DispatcherConfig) -> Running {
    let running = world.start_with(config.clone(), Channels::default(), false).await;
    let api = Api::state(config, &running, CancellationToken::new());
    running.dispatcher.run_schedules(&api);
    running
}

/// One that began `ago` seconds ago and repeats every `period` seconds.
async fn kept(world: &World, period: i64, ago: i64, change: impl FnOnce(&mut ScheduleBody)) -> Uuid {
    let then = Micros(Micros::now().0 - ago * SECOND);
    let mut body = ScheduleBody {
        name: None,
        author: name("author"),
        scopes: Vec::new(),
        timing: Timing {
            rule: Rule::Every {
                period: period * SECOND,
                anchor: then,
            },
            start_at: None,
            end_at: None,
            max_runs: None,
            missed: Missed::Once,
            jitter: 0,
        },
        notification: json!({ "to": { "user": "u1" }, "title": "T", "content": "C", "channels": ["in_app"] }),
    };
    change(&mut body);
    let schedule = Schedule::new(tenant(), body, then);
    assert!(
        world
            .store
            .create_schedule(schedule.clone(), 100, &by("op"))
            .await
            .unwrap()
    );
    schedule.id
}

async fn until(world: &World, id: Uuid, fits: impl Fn(&Schedule) -> bool) -> Schedule {
    eventually("the schedule's state", async || {
        let found = world.store.schedule(&tenant(), id).await.unwrap().unwrap();
        fits(&found).then_some(found)
    })
    .await
}

/// The titles of the user's inbox, oldest first.
async fn titles(world: &World) -> Vec<String> {
    let filter = ListFilter {
        limit: 1000,
        ..ListFilter::default()
    };
    let items = world.store.list(&reader("u1"), &filter).await.unwrap();
    items.into_iter().rev().map(|item| item.content.title).collect()
}

#[tokio::test]
async fn several_dispatchers_run_each_occurrence_once() {
    let world = World::new().await;
    let config = quick();
    // Twenty were missed, and are made up for one by one; a few come while it runs.
    let mut ids = Vec::new();
    for _ in 0..4 {
        let id = kept(&world, 1, 20, |body| {
            body.timing.missed = Missed::All;
            body.timing.end_at = Some(Micros(Micros::now().0 + 2 * SECOND));
        })
        .await;
        ids.push(id);
    }
    let first = dispatcher(&world, &config).await;
    let second = dispatcher(&world, &config).await;
    let third = dispatcher(&world, &config).await;
    // One dies with what it holds.
    drop(third);
    let mut runs = 0;
    for id in ids {
        let ended = until(&world, id, |found| found.state == ScheduleState::Ended).await;
        assert_eq!((ended.failed, ended.missed), (0, 0));
        assert!((22..=24).contains(&ended.runs), "{}", ended.runs);
        runs += ended.runs;
    }
    assert_eq!(titles(&world).await.len() as u64, runs);
    assert_eq!(world.store.stats(&tenant()).await.unwrap().created, runs);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn missed_ones_follow_their_policy() {
    let world = World::new().await;
    let mut config = quick();
    config.schedules.catch_up = 3;
    let counted = |metrics: &Metrics| {
        let mut registry = Registry::default();
        registry.register("runs", "", metrics.schedule_runs.clone());
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    };
    // Ten a minute and a half apart, the newest of them forty seconds ago, and the next is to come.
    let ago = 9 * 90 + 40;
    let once = kept(&world, 90, ago, |_| {}).await;
    let all = kept(&world, 90, ago, |body| body.timing.missed = Missed::All).await;
    let skip = kept(&world, 90, ago, |body| body.timing.missed = Missed::Skip).await;
    let late = kept(&world, 90, 9 * 90 + 70, |body| body.timing.missed = Missed::Skip).await;
    let running = dispatcher(&world, &config).await;
    let now = Micros::now();
    for (id, runs, missed) in [(once, 1, 9), (all, 3, 7), (skip, 1, 9), (late, 0, 10)] {
        let found = until(&world, id, |found| found.next_at.is_some_and(|next| next > now)).await;
        assert_eq!((found.runs, found.missed), (runs, missed));
    }
    assert_eq!(titles(&world).await.len(), 5);
    let metrics = counted(&world.metrics);
    assert!(metrics.contains(r#"runs_total{result="run"} 5"#), "{metrics}");
    assert!(metrics.contains(r#"runs_total{result="missed"} 35"#), "{metrics}");
    running.stop().await;
}

#[tokio::test]
async fn a_template_speaks_as_it_is_then_and_its_lack_is_told() {
    let world = World::new().await;
    let config = quick();
    let id = kept(&world, 3600, 10, |body| {
        body.notification = json!({ "to": { "user": "u1" }, "template": "daily", "variables": { "n": 1 }, "channels": ["in_app"] });
    })
    .await;
    let running = dispatcher(&world, &config).await;
    let failed = until(&world, id, |found| found.failed == 1).await;
    let error = failed.last_error.as_deref().unwrap();
    assert!(
        error.contains("notification.template") && error.contains("no such template"),
        "{error}"
    );
    assert_eq!(
        (failed.runs, failed.state),
        (0, ScheduleState::Active),
        "it goes on"
    );
    assert!(failed.next_at.unwrap() > Micros::now());
    assert_eq!(world.store.stats(&tenant()).await.unwrap().created, 0);

    let template = NewTemplate {
        name: "daily".to_owned(),
        title: "Day {{ n }}".to_owned(),
        content: "C".to_owned(),
        html: None,
        channels: Vec::new(),
        priority: None,
        kind: None,
        variables: Vec::new(),
        syntax: Syntax::Jinja,
    };
    world
        .store
        .create_template(&tenant(), template, &by("op"))
        .await
        .unwrap();
    let again = kept(&world, 3600, 10, |body| {
        body.notification = failed.body.notification.clone()
    })
    .await;
    running.service.wake().schedules();
    let ran = until(&world, again, |found| found.runs == 1).await;
    assert_eq!(titles(&world).await, ["Day 1"]);
    let (sent, _) = world
        .store
        .notification(&tenant(), ran.last_notification.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(sent.sender, "author");
    assert_eq!(sent.id, Schedule::notification_id(again, ran.last_at.unwrap()));
    running.stop().await;
}

#[tokio::test]
async fn what_a_crashed_dispatcher_held_is_run_when_its_lease_ends() {
    let world = World::new().await;
    let config = quick();
    let id = kept(&world, 3600, 5, |_| {}).await;
    let now = Micros::now();
    let lease = Duration::from_millis(700);
    let held = world
        .store
        .claim_schedules("dead", now, now.plus(lease), 10)
        .await
        .unwrap();
    assert_eq!(held.len(), 1);
    let running = dispatcher(&world, &config).await;
    let ran = until(&world, id, |found| found.runs == 1).await;
    assert!(Micros::now() >= now.plus(lease));
    assert_eq!(ran.last_at, Some(held[0].next_at));
    assert_eq!(titles(&world).await.len(), 1);
    running.stop().await;
}
