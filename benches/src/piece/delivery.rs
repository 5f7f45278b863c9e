//! From a message at a worker to bytes in a socket.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use common::{
    ids::{MessageId, Name},
    message::{FrameKind, Header, Message},
    protocol::frame_parts,
    target::{Except, Target},
    topic::TopicKey,
};
use hub::{Outgoing, worker::bench::Outlet, ws};
use tokio::runtime::Runtime;

use super::{Row, Step, Work};
use crate::{
    message,
    node::{Crowd, enter, identity, members, outgoing},
    payload, rng,
};

/// Sessions of a node of ordinary size.
const SESSIONS: u32 = 10_000;

/// Members of the topic that is written to sockets: what they get fits into one socket's buffer.
const WRITTEN: u32 = 100;

/// Messages that one fan-out takes.
const BATCH: usize = 32;

/// Frames that wait for a slow consumer.
const QUEUED: u64 = 64;

pub(super) const PIECES: [Row; 9] = [
    ("delivery/encode 128 bytes", 1, encode),
    ("delivery/put before one user", BATCH as u64, users),
    ("delivery/put before everyone", SESSIONS as u64, everyone),
    ("delivery/put by all_of", (SESSIONS / 20) as u64, all_of),
    ("delivery/put by any_of", (SESSIONS / 10) as u64, any_of),
    ("delivery/put with except", SESSIONS as u64, except),
    ("delivery/flush to a session", WRITTEN as u64, flush),
    ("delivery/outbound queue, a frame", QUEUED, outbound),
    ("delivery/a user comes and goes", 1, churn),
];

fn encode(_: &Runtime) -> Work {
    let message = message(128);
    Box::new(move |step| {
        if step == Step::Run {
            let (payload, tail) = frame_parts(std::hint::black_box(&message));
            std::hint::black_box(ws::encode_text(&[payload, &tail]));
        }
    })
}

/// A message of a target: as the publish API routes it, its copy for the first route.
fn routed(target: &Target, except: Except) -> Arc<Outgoing> {
    let tenant = identity(0).tenant;
    let mut header = Header::new(MessageId::generate(), FrameKind::Message);
    header.any = target.any_members(&tenant);
    header.except = except;
    let route = target.routes(&tenant).pop().expect("every target has a route");
    header.require = route.require;
    Arc::new(Outgoing::new(Arc::new(Message {
        key: route.key,
        position: None,
        header,
        payload: payload(128),
    })))
}

/// Puts messages before sessions of a crowd, and takes them back.
fn put(runtime: &Runtime, mut batch: impl FnMut(&Crowd) -> Vec<(Vec<u32>, Arc<Outgoing>)> + 'static) -> Work {
    let mut crowd = runtime.block_on(Crowd::new(SESSIONS));
    let mut messages: Vec<Arc<Outgoing>> = Vec::with_capacity(BATCH);
    let mut reached: Vec<u32> = Vec::new();
    Box::new(move |step| match step {
        Step::Prepare => {
            crowd.node.discard(&reached);
            reached.clear();
            for (sessions, message) in batch(&crowd) {
                reached.extend(sessions);
                messages.push(message);
            }
        }
        Step::Run => crowd.node.fan_out(&mut messages),
    })
}

fn users(runtime: &Runtime) -> Work {
    let mut rng = rng();
    put(runtime, move |crowd| {
        let unicasts = crowd.unicasts(&mut rng, BATCH);
        unicasts
            .into_iter()
            .map(|(session, message)| (vec![session], message))
            .collect()
    })
}

/// One message for sessions that stay the same.
fn put_one(runtime: &Runtime, message: Arc<Outgoing>) -> Work {
    let members = members(&message.message.key, SESSIONS);
    put(runtime, move |_| vec![(members.clone(), Arc::clone(&message))])
}

fn everyone(runtime: &Runtime) -> Work {
    put_one(runtime, outgoing(TopicKey::everyone()))
}

/// The role, or the store, that session 0 has.
fn role(which: usize) -> Target {
    Target::Role(identity(0).roles[which].clone())
}

fn all_of(runtime: &Runtime) -> Work {
    put_one(
        runtime,
        routed(&Target::AllOf(vec![role(0), role(1)]), Except::default()),
    )
}

fn any_of(runtime: &Runtime) -> Work {
    put_one(
        runtime,
        routed(&Target::AnyOf(vec![role(0), role(1)]), Except::default()),
    )
}

fn except(runtime: &Runtime) -> Work {
    let except = Except {
        users: vec![
            Name::new("user-17").expect("a name"),
            Name::new("user-18").expect("a name"),
        ],
        ..Except::default()
    };
    put_one(runtime, routed(&Target::Tenant, except))
}

fn flush(runtime: &Runtime) -> Work {
    let mut crowd = runtime.block_on(Crowd::new(WRITTEN));
    let message = outgoing(TopicKey::everyone());
    Box::new(move |step| match step {
        Step::Prepare => {
            crowd.node.drain();
            crowd.node.fan_out(&mut vec![Arc::clone(&message)]);
        }
        Step::Run => crowd.node.flush(),
    })
}

fn outbound(_: &Runtime) -> Work {
    let frame = Bytes::from(vec![b'x'; 256]);
    let mut outlet = Outlet::default();
    Box::new(move |step| {
        if step == Step::Run {
            for _ in 0..QUEUED {
                outlet.push(frame.clone());
            }
            // The kernel takes some, in the middle of a frame, and then the rest.
            outlet.take(10_000);
            outlet.take(usize::MAX);
        }
    })
}

fn churn(runtime: &Runtime) -> Work {
    let crowd = Rc::new(RefCell::new(runtime.block_on(Crowd::new(SESSIONS))));
    let handle = runtime.handle().clone();
    let mut number = SESSIONS;
    Box::new(move |step| {
        if step == Step::Run {
            number += 1;
            let mut crowd = crowd.borrow_mut();
            handle.block_on(async {
                let (slot, _) = enter(&mut crowd.node, number).await;
                crowd.node.leave(slot).await;
            });
        }
    })
}
