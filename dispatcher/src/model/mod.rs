//! What the dispatcher speaks of: plain values, no I/O.

mod api_key;
mod audit;
mod chain;
mod channel;
mod contact;
mod delivery;
mod event;
mod history;
mod inbox;
mod notification;
mod pause;
mod redrive;
mod revised;
mod schedule;
mod setting;
mod template;
mod time;

pub use self::{
    api_key::{ApiKey, KeyFilter, KeyMade, KeyRotated, KeyState, NewApiKey},
    audit::{AuditFilter, AuditPlace},
    chain::{Chain, ChainId, ChainState, Reached, Step, StepDelivery, StepState},
    channel::{Channel, Lane, UnknownChannel},
    contact::Contact,
    delivery::{Attempt, Claimed, Delivery, DeliveryState, NewDelivery, Outcome, Reason, Settlement},
    event::{Event, EventPlace, EventRule, IncomingEvent, RuleBody, RuleVersion},
    history::{Progress, SentFilter, SentPage, Sums},
    inbox::{
        Change, Changes, Cursor, GroupSums, InboxItem, InboxPage, InboxRow, InvalidCursor, ListFilter, Place,
        ReaderKeys, WalkCursor,
    },
    notification::{
        Accepted, Content, GroupJob, IdempotencyKey, InboxFilter, InboxRoute, Kind, NewNotification,
        Notification, Strategy, overall_status,
    },
    pause::{Pause, Pauses},
    redrive::{
        CancelFate, Cancelled, Candidate, DeadFilter, DeadLetter, DeadPlace, Redrive, RedriveResult,
        Redriven, Replaced,
    },
    revised::{Revised, Revisions},
    schedule::{
        CatchUp, Cron, InvalidCron, Missed, Occurred, Rule, Schedule, ScheduleBody, ScheduleChange,
        ScheduleClaim, ScheduleEnd, ScheduleState, ScheduleStep, Timing,
    },
    setting::{SettingChange, SettingVersion},
    template::{NewTemplate, Syntax, Template},
    time::Micros,
};
