//! Processes, and what is left of them.

use std::{path::Path, process::Command, time::Duration};

use rig::{folder::Folder, port::Port, process::Process, wait};

const SOON: Duration = Duration::from_secs(20);

fn shell(folder: &Folder, script: &str) -> Process {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    Process::start("a shell", command, &folder.path().join("log")).unwrap()
}

fn exists(pid: &str) -> bool {
    // A zombie has ended; somebody else is to reap it.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn a_dropped_one_takes_its_children_along() {
    let folder = Folder::new("test").unwrap();
    let parent = shell(&folder, "sleep 600 & echo $!; wait");
    let child = wait::until("the child is told", SOON, || {
        let log = parent.log();
        wait::ensure(log.ends_with('\n'), || log.clone()).map(|()| log.trim().to_owned())
    })
    .unwrap();
    assert!(exists(&child));
    drop(parent);
    wait::until("the child ends", SOON, || {
        wait::ensure(!exists(&child), String::new)
    })
    .unwrap();
}

#[test]
fn its_end_is_told_with_its_last_words() {
    let folder = Folder::new("test").unwrap();
    let process = shell(&folder, "echo last words; exit 3");
    assert_eq!(process.wait(SOON).unwrap().code(), Some(3));
    let told = process.check().unwrap_err().to_string();
    assert!(
        told.contains("exit status: 3") && told.contains("last words"),
        "{told}"
    );
}

#[test]
fn a_polite_end_is_its_own() {
    let folder = Folder::new("test").unwrap();
    let process = shell(
        &folder,
        "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done",
    );
    wait::until("it is ready", SOON, || {
        wait::ensure(process.log().contains("ready"), String::new)
    })
    .unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait(SOON).unwrap().code(), Some(0));
    assert!(process.log().contains("bye"));
}

fn three<T>(make: impl Fn() -> T) -> (T, T, T) {
    (make(), make(), make())
}

/// This very test binary runs again, without its destructors: it leaves a process and a folder, both of which its
/// watcher takes away.
#[test]
fn nothing_outlives_a_killed_owner() {
    const OWNER: &str = "RIG_TEST_OWNER_NOTES";
    if let Some(notes) = std::env::var_os(OWNER) {
        // What has ended before is no concern of the watcher's any more, whatever stands around it in its lists.
        let (before, folder, behind) = three(|| Folder::new("test").unwrap());
        let (early, process, late) = three(|| shell(&folder, "sleep 600 & wait"));
        drop((before, behind, early, late));
        let note = format!("{} {}", process.pid(), folder.path().display());
        std::fs::write(&notes, note).unwrap();
        std::process::abort();
    }
    let folder = Folder::new("test").unwrap();
    let notes = folder.path().join("notes");
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner
        .args(["--exact", "process::nothing_outlives_a_killed_owner"])
        .env(OWNER, &notes)
        .env("TMPDIR", folder.path());
    let owner = Process::start("the owner", owner, &folder.path().join("log")).unwrap();
    assert!(!owner.wait(SOON).unwrap().success(), "{}", owner.log());
    let notes = std::fs::read_to_string(notes).unwrap();
    let (pid, path) = notes.split_once(' ').unwrap();
    wait::until("its process and folder are gone", SOON, || {
        wait::ensure(!exists(pid) && !Path::new(path).exists(), || notes.clone())
    })
    .unwrap();
}

#[test]
fn a_held_port_is_nobody_elses() {
    let port = Port::free().unwrap();
    assert!(Port::take(port.number()).unwrap().is_none());
    let number = port.number();
    drop(port);
    let taken = Port::take(number).unwrap().unwrap();
    drop(taken);
    let listener = std::net::TcpListener::bind(("127.0.0.1", number)).unwrap();
    assert!(Port::take(number).unwrap().is_none());
    drop(listener);
}
