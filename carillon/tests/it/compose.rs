//! The compose files, as far as they can be checked without Docker: what they set is what this executable reads.

use std::{collections::BTreeMap, path::PathBuf};

use serde_yaml_ng::Value;

use crate::support::server::{EXECUTABLE, Home};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn services(file: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(repository().join(file)).unwrap();
    let mut document: Value = serde_yaml_ng::from_str(&text).unwrap();
    // What is merged may itself be merged from something.
    for _ in 0..3 {
        document.apply_merge().unwrap();
    }
    serde_yaml_ng::from_value(document["services"].clone()).unwrap()
}

/// What compose would set: `${NAME:?…}` comes from the shell, and a name without a value is not set there.
fn environment(service: &Value) -> Vec<(String, String)> {
    let given = service["environment"].as_mapping().unwrap();
    given
        .iter()
        .filter_map(|(name, value)| {
            let value = match value.as_str()? {
                text if text.starts_with("${") => "0123456789abcdef0123456789abcdef",
                text => text,
            };
            Some((name.as_str()?.to_owned(), value.to_owned()))
        })
        .collect()
}

fn words(value: &Value) -> Vec<&str> {
    value
        .as_sequence()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

fn address(service: &Value) -> &str {
    service["networks"]["carillon"]["ipv4_address"].as_str().unwrap()
}

#[tokio::test]
async fn the_cluster_s_processes_take_what_compose_gives_them() {
    let services = services("compose.yaml");
    assert_eq!(
        services.keys().collect::<Vec<_>>(),
        [
            "dispatcher-1",
            "dispatcher-2",
            "hub-1",
            "hub-2",
            "nginx",
            "postgres",
            "redis"
        ]
    );
    for (name, service) in &services {
        for needed in ["healthcheck", "stop_grace_period", "mem_limit", "restart"] {
            assert!(!service[needed].is_null(), "{name}: {needed}");
        }
        if service["image"] != "carillon" {
            continue;
        }
        let command = words(&service["command"]);
        let mut home = Home::new();
        for (variable, value) in environment(service) {
            home = home.set(&variable, &value);
        }
        let mut check = home.command(EXECUTABLE);
        let output = check.arg("check").args(&command).output().await.unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        // Readiness is asked where the internal listener is.
        let internal = command
            .windows(2)
            .find(|pair| pair[0] == "--internal-listen")
            .unwrap()[1];
        let port = internal.rsplit(':').next().unwrap();
        let probe = words(&service["healthcheck"]["test"]).join(" ");
        assert!(
            probe.contains(&format!("/127.0.0.1/{port} ")) && probe.contains("GET /ready "),
            "{name}: {probe}"
        );
        // Limits by address need the one proxy.
        let trusted = service["environment"]["CARILLON_SERVER__TRUSTED_PROXIES"].as_str();
        assert_eq!(trusted, Some(address(&services["nginx"])), "{name}");
    }
}

#[test]
fn the_dispatchers_are_told_which_database_postgres_has() {
    let services = services("compose.yaml");
    let given: BTreeMap<_, _> = environment(&services["postgres"]).into_iter().collect();
    for name in ["dispatcher-1", "dispatcher-2"] {
        let told: BTreeMap<_, _> = environment(&services[name]).into_iter().collect();
        assert_eq!(told["DB_HOST"], "postgres");
        for (ours, theirs) in [
            ("DB_NAME", "POSTGRES_DB"),
            ("DB_USER", "POSTGRES_USER"),
            ("DB_PASSWORD", "POSTGRES_PASSWORD"),
        ] {
            assert_eq!(told[ours], given[theirs], "{name}");
        }
    }
}

/// Such a server starts, as far as another version can tell.
#[test]
fn postgres_takes_the_settings_that_compose_gives_it() {
    let services = services("compose.yaml");
    let mut words = words(&services["postgres"]["command"]).into_iter();
    assert_eq!(words.next(), Some("postgres"));
    let mut options = rig::postgres::Options::fast();
    while let Some(flag) = words.next() {
        assert_eq!(flag, "-c");
        let (name, value) = words.next().unwrap().split_once('=').unwrap();
        options = options.setting(name, value);
    }
    assert!(options.settings.len() > 2, "{options:?}");
    rig::postgres::Server::start(&options).unwrap();
}

#[tokio::test]
async fn nginx_is_told_where_the_processes_are() {
    let services = services("compose.yaml");
    let nginx = environment(&services["nginx"]);
    let of = |name: &str| {
        nginx
            .iter()
            .find(|(variable, _)| variable == name)
            .unwrap()
            .1
            .clone()
    };
    let hubs = ["hub-1", "hub-2"].map(|name| format!("{}:8000", address(&services[name])));
    assert_eq!(of("CARILLON_HUBS"), hubs.join(" "));
    let dispatchers =
        ["dispatcher-1", "dispatcher-2"].map(|name| format!("{}:9005", address(&services[name])));
    assert_eq!(of("CARILLON_DISPATCHERS"), dispatchers.join(" "));
    let folder = tempfile::tempdir().unwrap();
    let rendered = tokio::process::Command::new(repository().join("nginx/render.sh"))
        .arg(folder.path())
        .envs(nginx)
        .output()
        .await
        .unwrap();
    assert!(rendered.status.success(), "{rendered:?}");
    let upstreams = std::fs::read_to_string(folder.path().join("conf.d/upstreams.conf")).unwrap();
    assert!(
        hubs.iter()
            .chain(&dispatchers)
            .all(|node| upstreams.contains(node.as_str())),
        "{upstreams}"
    );
}

#[tokio::test]
async fn the_standalone_file_starts_what_the_image_starts() {
    let services = services("compose.standalone.yaml");
    let mut home = Home::new();
    for (variable, value) in environment(&services["carillon"]) {
        home = home.set(&variable, &value);
    }
    let output = home.command(EXECUTABLE).arg("check").output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}
