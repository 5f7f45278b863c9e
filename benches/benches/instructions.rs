//! Instructions that each piece of the hot paths takes, counted by callgrind: the same on a busy machine as on an idle
//! one, so that a regression shows. The kernel's own are not counted.
//!
//! `make instructions` compares with `benches/callgrind.toml` and fails where a piece takes 5 % more. With
//! `ARGS=--save` the file is written anew. Arguments that are no flags choose pieces by a part of their name.

#![expect(clippy::print_stdout, reason = "a report for people")]

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use benches::piece::{self, Piece, Step};
use tokio::runtime::Builder;

/// More than the baseline by so many percent fails.
const MARGIN: u64 = 5;

/// Runs before those that are counted: caches of the program itself, lazily made tables.
const WARM: u64 = 20;

/// Runs that are counted.
const COUNTED: u64 = 20;

/// In the child, which callgrind runs: the piece's name.
const CHILD: &str = "CARILLON_BENCH_PIECE";

/// Callgrind counts while this function runs; it is named in `count`.
#[inline(never)]
fn counted_by_callgrind(work: &mut piece::Work) {
    work(Step::Run);
}

fn child(name: &str) {
    // One thread: what other tasks do is not to be counted.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let piece = find(name);
    let mut work = (piece.make)(&runtime);
    for _ in 0..WARM {
        work(Step::Prepare);
        work(Step::Run);
    }
    for _ in 0..COUNTED {
        work(Step::Prepare);
        counted_by_callgrind(&mut work);
    }
}

fn find(name: &str) -> Piece {
    let all = piece::all();
    all.into_iter()
        .find(|piece| piece.name == name)
        .expect("the parent knows the names")
}

/// Instructions of one unit of a piece.
fn count(piece: &Piece) -> u64 {
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
        ])
        .arg("--toggle-collect=*counted_by_callgrind*")
        .arg(env::current_exe().expect("this program has a path"))
        .env(CHILD, piece.name)
        .output()
        .expect("valgrind: run scripts/setup.sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", piece.name);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let instructions: u64 = collected
        .and_then(|(_, count)| count.trim().parse().ok())
        .expect("callgrind says what it collected");
    assert!(instructions > 0, "{}: nothing was counted", piece.name);
    instructions / COUNTED / piece.units
}

fn baseline() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/callgrind.toml"))
}

fn main() {
    if let Ok(name) = env::var(CHILD) {
        child(&name);
        return;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let save = arguments.iter().any(|argument| argument == "--save");
    let parts: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let text = fs::read_to_string(baseline()).unwrap_or_default();
    let mut known: BTreeMap<String, u64> =
        toml::from_str(&text).expect("benches/callgrind.toml: name = count");
    let mut worse = Vec::new();
    println!("{:<44}{:>14}{:>14}", "instructions", "now", "baseline");
    for piece in piece::all() {
        if !parts.is_empty() && !parts.iter().any(|part| piece.name.contains(part.as_str())) {
            continue;
        }
        let now = count(&piece);
        let before = known.get(piece.name).copied();
        let change = before.map_or_else(String::new, |before| {
            format!("{:>+8.1} %", (now as f64 / before as f64 - 1.0) * 100.0)
        });
        let shown = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        println!("{:<44}{now:>14}{shown:>14}{change}", piece.name);
        if before.is_none_or(|before| now * 100 > before * (100 + MARGIN)) {
            worse.push(piece.name);
        }
        known.insert(piece.name.to_owned(), now);
    }
    if save {
        let head = "# Instructions of one unit of each piece, by `make instructions ARGS=--save`.\n";
        let rows: String = known
            .iter()
            .map(|(name, count)| format!("\"{name}\" = {count}\n"))
            .collect();
        fs::write(baseline(), format!("{head}{rows}")).expect("benches/callgrind.toml can be written");
        return;
    }
    assert!(
        worse.is_empty(),
        "more than {MARGIN} % over the baseline, or without one: {worse:?}"
    );
}
