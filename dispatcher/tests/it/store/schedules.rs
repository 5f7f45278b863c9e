//! Schedules: leased by one, moved on with what they send, changed under whoever runs them.

use std::time::Duration;

use common::ids::TenantId;
use dispatcher::{
    model::{
        Micros, Missed, NewNotification, Occurred, Rule, Schedule, ScheduleBody, ScheduleChange,
        ScheduleClaim, ScheduleEnd, ScheduleState, Timing,
    },
    store::{Store, StoreError},
};
use uuid::Uuid;

use super::{fresh, listed, name, plain, reader, tenant, to, user_key};
use crate::support::by;

const MINUTE: Duration = Duration::from_mins(1);
const MOST: u32 = 100;

/// Every minute, as of now.
fn body(title: &str) -> ScheduleBody {
    ScheduleBody {
        name: Some(title.to_owned()),
        author: name("author"),
        scopes: vec!["notifications:broadcast".to_owned()],
        timing: Timing {
            rule: Rule::Every {
                period: 60_000_000,
                anchor: Micros::now(),
            },
            start_at: None,
            end_at: None,
            max_runs: None,
            missed: Missed::Once,
            jitter: 0,
        },
        notification: serde_json::json!({ "title": title }),
    }
}

async fn made(store: &Store, body: ScheduleBody) -> Schedule {
    let schedule = Schedule::new(tenant(), body, Micros::now());
    assert!(
        store
            .create_schedule(schedule.clone(), MOST, &by("op"))
            .await
            .unwrap()
    );
    schedule
}

/// What is due at a time, held for a minute.
async fn claim(store: &Store, now: Micros) -> Vec<ScheduleClaim> {
    store
        .claim_schedules("w", now, now.plus(MINUTE), 10)
        .await
        .unwrap()
}

fn end(claim: &ScheduleClaim, occurred: Occurred, next_at: Option<Micros>) -> ScheduleEnd {
    ScheduleEnd {
        id: claim.schedule.id,
        token: claim.token,
        occurred,
        missed: 0,
        next_at,
        due_at: next_at,
    }
}

fn said() -> NewNotification {
    let mut new = to(user_key("u"));
    new.inbox = vec![plain(user_key("u"))];
    new
}

async fn stored(store: &Store, id: Uuid) -> Schedule {
    store.schedule(&tenant(), id).await.unwrap().unwrap()
}

#[tokio::test]
async fn they_are_kept_as_they_were_said() {
    let store = fresh().await;
    let one = made(&store, body("one")).await;
    assert_eq!(stored(&store, one.id).await, one);
    let mut cron = body("two");
    cron.timing = Timing {
        rule: Rule::Cron {
            expression: "0 8 * * mon#2".parse().unwrap(),
            zone: "Pacific/Apia".to_owned(),
        },
        start_at: Some(Micros(1)),
        end_at: Some(Micros(i64::MAX / 2)),
        max_runs: Some(7),
        missed: Missed::All,
        jitter: 5,
    };
    cron.author = name("other");
    let two = made(&store, cron).await;
    assert_eq!(stored(&store, two.id).await, two);

    let list = async |author: Option<&str>, state, after, limit| {
        let author = author.map(name);
        let found = store
            .schedules(&tenant(), author.as_ref(), state, after, limit)
            .await;
        found.unwrap().into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, None, 10).await, [one.id, two.id]);
    assert_eq!(list(None, None, None, 1).await, [one.id]);
    assert_eq!(list(None, None, Some(one.id), 10).await, [two.id]);
    assert_eq!(list(Some("author"), None, None, 10).await, [one.id]);
    assert!(list(None, Some(ScheduleState::Paused), None, 10).await.is_empty());

    // Another tenant has none of it.
    let other = TenantId::new("t2").unwrap();
    assert!(store.schedule(&other, one.id).await.unwrap().is_none());
    assert!(
        store
            .schedules(&other, None, None, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(!store.delete_schedule(&other, one.id, &by("op")).await.unwrap());
    assert!(
        store
            .change_schedule(&other, one.id, ScheduleChange::Pause, &by("op"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(store.delete_schedule(&tenant(), one.id, &by("op")).await.unwrap());
    assert!(!store.delete_schedule(&tenant(), one.id, &by("op")).await.unwrap());
    assert_eq!(list(None, None, None, 10).await, [two.id]);
}

#[tokio::test]
async fn names_are_a_tenants_and_so_is_their_number() {
    let store = fresh().await;
    let one = made(&store, body("one")).await;
    let two = made(&store, body("two")).await;
    let again = Schedule::new(tenant(), body("one"), Micros::now());
    let refused = store.create_schedule(again, MOST, &by("op")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused:?}");
    let renamed = ScheduleChange::Replace(Box::new(body("one")));
    let refused = store
        .change_schedule(&tenant(), two.id, renamed.clone(), &by("op"))
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused:?}");
    assert!(
        store
            .change_schedule(&tenant(), one.id, renamed, &by("op"))
            .await
            .unwrap()
            .is_some()
    );
    let nameless = || ScheduleBody {
        name: None,
        ..body("")
    };
    made(&store, nameless()).await;
    made(&store, nameless()).await;
    let fifth = Schedule::new(tenant(), nameless(), Micros::now());
    assert!(!store.create_schedule(fifth.clone(), 4, &by("op")).await.unwrap());
    let elsewhere = Schedule::new(TenantId::new("t2").unwrap(), body("one"), Micros::now());
    assert!(store.create_schedule(elsewhere, 4, &by("op")).await.unwrap());
    assert!(store.create_schedule(fifth, 5, &by("op")).await.unwrap());
}

#[tokio::test]
async fn one_holds_it_and_moves_it_on_with_what_it_sends() {
    let store = fresh().await;
    let reader = reader("u", &[]);
    store.touch_reader(&reader).await.unwrap();
    let schedule = made(&store, body("one")).await;
    let due = schedule.next_at.unwrap();
    assert_eq!(store.next_schedule().await.unwrap(), Some(due));
    assert!(claim(&store, Micros(due.0 - 1)).await.is_empty());
    let held = claim(&store, due).await.remove(0);
    assert_eq!((held.schedule.id, held.next_at), (schedule.id, due));
    assert!(
        claim(&store, due).await.is_empty(),
        "another takes nothing that is held"
    );
    assert_eq!(store.next_schedule().await.unwrap(), Some(due.plus(MINUTE)));

    let new = said();
    let id = new.id;
    let next = due.plus(MINUTE);
    let ran = end(&held, Occurred::Ran(due, Box::new(new)), Some(next));
    assert!(store.end_occurrence(ran.clone()).await.unwrap());
    assert!(!store.end_occurrence(ran).await.unwrap(), "an end ends once");
    assert_eq!(listed(&store, &reader).await, [id]);
    let now = stored(&store, schedule.id).await;
    assert_eq!(
        (now.runs, now.last_at, now.last_notification),
        (1, Some(due), Some(id))
    );
    assert_eq!((now.next_at, now.state), (Some(next), ScheduleState::Active));
    assert!(claim(&store, due).await.is_empty());

    // One that fails, one that is left out, and the last.
    let held = claim(&store, next).await.remove(0);
    let failed = Occurred::Failed(next, "no such template".to_owned());
    assert!(
        store
            .end_occurrence(end(&held, failed, Some(next)))
            .await
            .unwrap()
    );
    let now = stored(&store, schedule.id).await;
    assert_eq!((now.runs, now.failed, now.last_at), (1, 1, Some(next)));
    assert_eq!(now.last_error.as_deref(), Some("no such template"));
    let held = claim(&store, next).await.remove(0);
    let left_out = ScheduleEnd {
        missed: 3,
        ..end(&held, Occurred::Nothing, None)
    };
    assert!(store.end_occurrence(left_out).await.unwrap());
    let now = stored(&store, schedule.id).await;
    assert_eq!(
        (now.missed, now.state, now.next_at),
        (3, ScheduleState::Ended, None)
    );
    assert!(now.last_error.is_some() && now.last_notification == Some(id));
    assert_eq!(store.next_schedule().await.unwrap(), None);
}

#[tokio::test]
async fn who_lost_it_sends_nothing() {
    let store = fresh().await;
    let schedule = made(&store, body("one")).await;
    let due = schedule.next_at.unwrap();
    let crashed = claim(&store, due).await.remove(0);
    let later = due.plus(MINUTE);
    let second = claim(&store, later).await.remove(0);
    assert!(second.token > crashed.token);
    assert_eq!(second.next_at, due, "the occurrence waits for whoever makes it");
    let ran = |claim: &ScheduleClaim| end(claim, Occurred::Ran(due, Box::new(said())), Some(later));
    assert!(!store.end_occurrence(ran(&crashed)).await.unwrap());
    assert!(
        !store
            .put_off_schedule(schedule.id, crashed.token, due)
            .await
            .unwrap()
    );
    assert!(store.end_occurrence(ran(&second)).await.unwrap());
    assert_eq!(store.stats(&tenant()).await.unwrap().created, 1);

    // A change takes it away, whatever it changes.
    let held = claim(&store, later.plus(MINUTE)).await.remove(0);
    for change in [ScheduleChange::Pause, ScheduleChange::Resume] {
        store
            .change_schedule(&tenant(), schedule.id, change, &by("op"))
            .await
            .unwrap()
            .unwrap();
        assert!(!store.end_occurrence(ran(&held)).await.unwrap());
    }
    let next = stored(&store, schedule.id).await.next_at.unwrap();
    let held = claim(&store, next).await.remove(0);
    assert!(
        store
            .delete_schedule(&tenant(), schedule.id, &by("op"))
            .await
            .unwrap()
    );
    assert!(!store.end_occurrence(ran(&held)).await.unwrap());
    assert_eq!(store.stats(&tenant()).await.unwrap().created, 1);
}

#[tokio::test]
async fn an_occurrence_is_one_notification_whatever_clocks_do() {
    let store = fresh().await;
    let schedule = made(&store, body("one")).await;
    let due = schedule.next_at.unwrap();
    let occurrence = || {
        let mut new = said();
        new.id = Schedule::notification_id(schedule.id, due);
        Occurred::Ran(due, Box::new(new))
    };
    let held = claim(&store, due).await.remove(0);
    // As if a clock had gone back, it comes to the same time again.
    assert!(
        store
            .end_occurrence(end(&held, occurrence(), Some(due)))
            .await
            .unwrap()
    );
    let held = claim(&store, due).await.remove(0);
    let next = due.plus(MINUTE);
    let refused = store
        .end_occurrence(end(&held, occurrence(), Some(next)))
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused:?}");
    assert!(
        store
            .end_occurrence(end(&held, Occurred::Nothing, Some(next)))
            .await
            .unwrap()
    );
    assert_eq!(store.stats(&tenant()).await.unwrap().created, 1);
}

#[tokio::test]
async fn what_is_put_off_comes_back() {
    let store = fresh().await;
    let schedule = made(&store, body("one")).await;
    let due = schedule.next_at.unwrap();
    let held = claim(&store, due).await.remove(0);
    let soon = due.plus(Duration::from_secs(2));
    assert!(
        store
            .put_off_schedule(schedule.id, held.token, soon)
            .await
            .unwrap()
    );
    assert!(claim(&store, due).await.is_empty());
    assert_eq!(claim(&store, soon).await.remove(0).next_at, due);
    let paused = store
        .change_schedule(&tenant(), schedule.id, ScheduleChange::Pause, &by("op"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((paused.state, paused.next_at), (ScheduleState::Paused, None));
    assert!(claim(&store, Micros(i64::MAX)).await.is_empty());
}

#[tokio::test]
async fn several_claim_at_once_and_each_gets_its_own() {
    let store = fresh().await;
    for number in 0..20 {
        made(&store, body(&number.to_string())).await;
    }
    let now = Micros::now().plus(2 * MINUTE);
    let claims = (0..6).map(|_| claim(&store, now));
    let mut ids: Vec<_> = futures_util::future::join_all(claims)
        .await
        .into_iter()
        .flatten()
        .map(|held| held.schedule.id)
        .collect();
    // What was passed over while another claimed it.
    loop {
        let left = claim(&store, now).await;
        if left.is_empty() {
            break;
        }
        ids.extend(left.into_iter().map(|held| held.schedule.id));
    }
    let taken = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == taken, "one was given to two");
    assert_eq!(taken, 20);
}
