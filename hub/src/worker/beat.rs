//! What happens with time: heartbeats, token expiry, slow readers, idle topics, drain.

use std::time::Duration;

use common::protocol::{Close, Dialect, ServerFrame};

use super::{SessionId, Worker, session::Phase, wheel::Due};
use crate::ws;

/// Two unanswered pings end a session.
const MAX_UNANSWERED: u8 = 2;

/// Sessions that are told to reconnect are asked to wait up to so many milliseconds.
const RESTART_SPREAD_MS: u32 = 2000;

impl Worker {
    pub(super) fn tick(&mut self) {
        let (beats, due) = self.wheel.tick();
        let mut kept = Vec::with_capacity(beats.len());
        for id in beats {
            if self.beat(id) {
                kept.push(id);
            }
        }
        self.wheel.keep(kept);
        for due in due {
            self.due(due);
        }
        self.look_at_blocked();
        self.tick_plans();
        self.say_on();
        // Each topic is compared once an interval, a share of them each second.
        let parts = usize::try_from(self.shared.config.head_check.0.as_secs())
            .unwrap_or(30)
            .max(1);
        self.compare_share(self.wheel.now() as usize % parts, parts);
    }

    /// Pings a session; whether it lives on.
    fn beat(&mut self, id: SessionId) -> bool {
        let Some(session) = self.session(id) else {
            return false;
        };
        if session.phase == Phase::Closing {
            return false;
        }
        if session.unanswered >= MAX_UNANSWERED {
            self.close(id, Close::HeartbeatLost);
            return false;
        }
        // A blocked session is not pinged: its queue, bounded in age, says more about it than an answer could.
        if !session.is_blocked() {
            if session.stream.answers() {
                session.unanswered += 1;
                self.send_control(id, ws::encode_ping(b""));
            } else {
                // It keeps the connection alive, shows when it is not, and moves the positions that come with the
                // client's next request.
                self.tell_positions(id);
            }
        }
        self.watch_expiry(id);
        true
    }

    fn due(&mut self, due: Due) {
        match due {
            Due::Linger(topic) => self.end_linger(topic),
            Due::Absent(absence) => self.end_absence(absence),
            Due::Drop(id) => self.remove(id, "close_timeout"),
            Due::Drain(id) => self.close_for_restart(id),
            Due::Expiring(id) => {
                let Some(session) = self.session(id).filter(|session| session.phase == Phase::Live) else {
                    return;
                };
                let at = session.who.expires_at;
                // A refresh may have moved the end since this was set.
                let soon = at - jiff::Timestamp::now().as_second() <= 61;
                if session.dialect == Dialect::CarillonV1 && soon {
                    self.send_json(id, ServerFrame::Expiring { at }.to_json());
                }
            }
            Due::Expired(id) => {
                let Some(session) = self.session(id) else { return };
                let left = session.who.expires_at - jiff::Timestamp::now().as_second();
                if left <= 0 {
                    self.close(id, Close::TokenExpired);
                } else if left <= 5 {
                    // The worker's seconds run ahead of the wall clock's by a part of one.
                    self.wheel.after(1, Due::Expired(id));
                }
            }
        }
    }

    /// Tells a session to come back, and when: not all at once.
    fn close_for_restart(&mut self, id: SessionId) {
        let reason = format!(
            "{}; retry_after_ms={}",
            Close::Restart.text(),
            fastrand::u32(0..RESTART_SPREAD_MS)
        );
        self.close_with(id, Close::Restart.code(), &reason, Close::Restart.label());
    }

    /// The process ends: sessions are told in random order, spread over the window.
    pub(super) fn drain(&mut self, window: Duration) {
        self.draining = true;
        let sessions: Vec<SessionId> = self
            .sessions
            .iter()
            .map(|(slot, session)| SessionId {
                slot: slot as u32,
                generation: session.generation,
            })
            .collect();
        let seconds = u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
        for id in sessions {
            if seconds == 0 {
                self.close_for_restart(id);
            } else {
                self.wheel.after(fastrand::u32(0..=seconds), Due::Drain(id));
            }
        }
    }
}
