//! Several hubs over a real Redis Cluster, with faults. The executable of Carillon has to lie where `rig` looks for it.

use std::{path::Path, process::Command};

use serde_json::Value;

/// Runs it with a few sockets and without nginx; what it said, its exit code, and the report.
fn run(scenario: &[&str], folder: &Path) -> (String, Option<i32>, Value) {
    let json = folder.join("result.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(scenario)
        .args([
            "--balancer",
            "none",
            "--hubs",
            "2",
            "--sockets",
            "60",
            "--rate",
            "60",
            "--topics",
            "12",
        ])
        .args(["--json", json.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(json.exists(), "{said}");
    let report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    (said, output.status.code(), report)
}

#[test]
fn a_hub_and_its_connections_die_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    std::fs::write(
        &plan,
        "[[at]]\nseconds = 1\nfault = \"hub_killed\"\n[[at]]\nseconds = 2\nfault = \"connections_killed\"\n\
         [[at]]\nseconds = 3\nfault = \"clients_cut\"\n[options]\nhub_away_seconds = 0.5\ncut_seconds = 1\n",
    )
    .unwrap();
    let (said, code, report) = run(
        &["chaos", "--seconds", "5", "--plan", plan.to_str().unwrap()],
        folder.path(),
    );
    assert_eq!(code, Some(0), "{said}");
    let figure = |name: &str| report["figures"][name].as_f64().unwrap();
    assert_eq!(
        [figure("faults"), figure("lost"), figure("resyncs")],
        [3.0, 0.0, 0.0],
        "{said}"
    );
    assert!(figure("resumed") >= 30.0 && figure("due") >= 300.0, "{said}");
    let marks: Vec<&str> = report["marks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mark| mark["name"].as_str().unwrap())
        .collect();
    assert_eq!(marks, ["hub killed", "hub connections killed", "clients cut"]);
    assert!(report["series"]["ready: hub 1"].is_array(), "{said}");
}
