//! The children of a server which give themselves groups of their own, as PostgreSQL's do: a signal to the server's group
//! misses them.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Longest wait for a signal to show. What is inside a stuck system call takes longer, and is then left to itself.
const SHOWN: Duration = Duration::from_secs(5);

/// Who they are now. Where the system does not tell, there are none.
pub(crate) fn of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero();
    let words = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let numbers = words
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}

/// Kills those of a process that is just being stopped, and waits for it. As it reaps none of them, their numbers stay
/// their own, and as it learns of no death, it repairs nothing: for its data all of them crash at once.
pub(crate) fn kill(parent: Pid) {
    wait_for(parent, &['T', 'Z']);
    let children = of(parent);
    send(&children, Signal::KILL);
    for child in children {
        wait_for(child, &['Z']);
    }
}

/// A signal to each; who has ended meanwhile needs none.
pub(crate) fn send(children: &[Pid], signal: Signal) {
    for child in children {
        kill_process(*child, signal).ok();
    }
}

/// Waits until the process has one of these states (proc(5)), or is gone.
fn wait_for(pid: Pid, states: &[char]) {
    let what = format!("process {} has a state of {states:?}", pid.as_raw_nonzero());
    let look = || match state(pid) {
        Some(state) if !states.contains(&state) => wait::ensure(false, || state.to_string()),
        _ => Ok(()),
    };
    // The caller can do nothing about it that it would not do anyway.
    wait::until(&what, SHOWN, look).ok();
}

fn state(pid: Pid) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // Behind the name, which may have anything in it.
    text.rsplit_once(')')?.1.trim_start().chars().next()
}
