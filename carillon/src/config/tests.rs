//! Layers, aliases, and what each process is refused for.

use super::*;

fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_for(Service::Standalone, variables)
}

fn load_for(service: Service, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let options = Options {
        config: None,
        data_dir: None,
        listen: None,
        internal_listen: None,
        grpc_listen: None,
    };
    Config::load(
        service,
        &options,
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

#[test]
fn the_commented_defaults_are_those_of_the_code() {
    let config = load(&[]).unwrap();
    let code = DispatcherConfig::default();
    assert_eq!(format!("{:?}", config.database), format!("{:?}", code.database));
    assert_eq!(config.queue, code.queue);
    assert_eq!(config.channels, code.channels);
    assert_eq!(config.inbox, code.inbox);
    assert_eq!(config.retention, code.retention);
    assert_eq!(config.audit, code.audit);
    assert_eq!(config.realtime, code.realtime);
    assert_eq!(config.strategy, code.strategy);
    assert_eq!(config.limits, code.limits);
    assert_eq!(config.schedules, code.schedules);
    assert_eq!(format!("{:?}", config.smtp), format!("{:?}", code.smtp));
    assert_eq!(format!("{:?}", config.webhook), format!("{:?}", code.webhook));
}

#[test]
fn the_seeds_variables_configure_carillon() {
    let config = load(&[
        ("SECRET_KEY", "second-second-second-second-second"),
        ("JWT_SECRET_KEY", "first-first-first-first-first-first"),
        ("SMTP_HOST", "smtp.example.com"),
        ("SMTP_PORT", "2525"),
        ("SMTP_USER", "noreply@example.com"),
        ("SMTP_PASSWORD", "p"),
        ("SMTP_USE_TLS", "false"),
        (
            "CORS_ORIGINS",
            r#"["http://localhost:3000", "http://localhost:8080"]"#,
        ),
    ])
    .unwrap();
    use secrecy::ExposeSecret;
    assert!(config.auth.secret.unwrap().expose_secret().starts_with("first"));
    assert_eq!(config.smtp.port(), 2525);
    assert_eq!(config.smtp.tls, dispatcher::config::SmtpTls::None);
    assert_eq!(config.smtp.sender(), Some("noreply@example.com"));
    assert_eq!(config.server.allowed_origins.len(), 2);
    // Our own name, of a key without a default.
    let own = load(&[("CARILLON_SMTP__PORT", "26"), ("SMTP_PORT", "25")]).unwrap();
    assert_eq!(own.smtp.port(), 26);
    let implicit = load(&[
        ("SMTP_HOST", "h"),
        ("SMTP_FROM", "a@b.example"),
        ("SMTP_PORT", "465"),
        ("SMTP_USE_TLS", "true"),
    ]);
    assert_eq!(implicit.unwrap().smtp.tls, dispatcher::config::SmtpTls::Tls);
}

/// S0.11, S3.15.
#[test]
fn the_seeds_variables_say_where_the_database_is() {
    use secrecy::ExposeSecret;
    let url = |variables: &[(&str, &str)]| {
        let url = load(variables).unwrap().database.url;
        url.map(|url| url.expose_secret().to_owned())
    };
    for (variables, expected) in [
        (&[][..], None),
        (
            &[(
                "DATABASE_URL",
                "postgresql+asyncpg://user:password@localhost:5432/notification_db",
            )],
            Some("postgresql+asyncpg://user:password@localhost:5432/notification_db"),
        ),
        (
            &[
                ("DB_HOST", "localhost"),
                ("DB_PORT", "5432"),
                ("DB_NAME", "voiceassistant"),
            ],
            Some("postgres://localhost:5432/voiceassistant"),
        ),
        (
            &[
                ("DB_HOST", "::1"),
                ("DB_USER", "a@b"),
                ("DB_PASSWORD", "p/w:%?#é"),
                ("DB_NAME", "n"),
            ],
            Some("postgres://a%40b:p%2Fw%3A%25%3F%23%C3%A9@[::1]:5432/n"),
        ),
        // The whole wins over its parts, and our own name over both.
        (
            &[
                ("DB_HOST", "a"),
                ("DB_NAME", "n"),
                ("DATABASE_URL", "postgres://b/n"),
            ],
            Some("postgres://b/n"),
        ),
        (
            &[
                ("DATABASE_URL", "postgres://b/n"),
                ("CARILLON_DATABASE__URL", "postgres://c/n"),
            ],
            Some("postgres://c/n"),
        ),
        (&[("DB_HOST", ""), ("DB_PORT", "5432"), ("DB_NAME", "n")], None),
    ] {
        assert_eq!(url(variables).as_deref(), expected, "{variables:?}");
    }
    for (variables, named) in [
        (
            &[("DB_HOST", "h"), ("DB_PORT", "five"), ("DB_NAME", "n")][..],
            "DB_PORT",
        ),
        (&[("DB_HOST", "h")], "DB_NAME"),
        (
            &[("DB_HOST", "h"), ("DB_NAME", "n"), ("DB_PASSWORD", "s3cret")],
            "DB_USER",
        ),
        (&[("DB_HOST", "h/s3cret"), ("DB_NAME", "n")], "DB_HOST"),
        (&[("DATABASE_URL", "mysql://u:s3cret@h/n")], "database.url"),
    ] {
        let refused = load(variables).unwrap_err().to_string();
        assert!(
            refused.contains(named) && !refused.contains("s3cret"),
            "{refused}"
        );
    }
}

const SECRET: (&str, &str) = ("CARILLON_AUTH__SECRET", "0123456789abcdef0123456789abcdef");
const CLUSTER: [Service; 2] = [Service::Hub, Service::Dispatcher];

#[test]
fn a_cluster_has_defaults_of_its_own() {
    for (service, ports) in [(Service::Hub, (8000, 8001)), (Service::Dispatcher, (9005, 9006))] {
        let config = load_for(service, &[SECRET, ("REDIS_URL", "redis://localhost:6379/0")]).unwrap();
        assert_eq!(
            (config.server.listen.port(), config.server.internal_listen.port()),
            ports
        );
        assert!(config.auth.default_tenant.is_none() && config.auth.public_topics.is_empty());
        assert_eq!(config.redis.kind, RedisKind::Servers);
    }
    let config = load(&[]).unwrap();
    assert_eq!(config.auth.default_tenant.unwrap().as_str(), "default");
    assert_eq!(config.server.listen.port(), 8000);
}

#[test]
fn the_seeds_variables_say_where_redis_is() {
    for (variables, kind, places) in [
        (
            &[("REDIS_ADDR", "localhost:6380")][..],
            RedisKind::Servers,
            &["localhost:6380"][..],
        ),
        (
            &[("REDIS_ADDR", "b:1"), ("REDIS_URL", "redis://a")],
            RedisKind::Servers,
            &["a:6379"],
        ),
        (
            &[("REDIS_URL", "redis://a"), ("CARILLON_REDIS__KIND", "cluster")],
            RedisKind::Cluster,
            &["a:6379"],
        ),
        (
            &[
                ("REDIS_URL", "redis://a"),
                ("CARILLON_REDIS__URLS", "redis://b,redis://c"),
            ],
            RedisKind::Servers,
            &["b:6379", "c:6379"],
        ),
    ] {
        for service in CLUSTER {
            let all: Vec<_> = variables.iter().copied().chain([SECRET]).collect();
            let redis = load_for(service, &all).unwrap().redis;
            let found: Vec<_> = redis.urls.iter().map(ToString::to_string).collect();
            assert_eq!(
                (redis.kind, found.as_slice()),
                (
                    kind,
                    places
                        .iter()
                        .map(|place| (*place).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice()
                )
            );
        }
    }
    // Standalone needs no Redis; an environment that names one all the same is no error.
    load(&[("REDIS_URL", "redis://localhost:6379/0")]).unwrap();
}

#[test]
fn an_incomplete_cluster_is_told_all_that_is_missing() {
    for (variables, missing) in [
        (&[][..], &["redis.kind", "redis.urls", "auth.secret"][..]),
        (&[SECRET], &["redis.kind", "redis.urls"]),
        (
            &[("CARILLON_REDIS__KIND", "cluster")],
            &["redis.urls", "auth.secret"],
        ),
        (&[SECRET, ("CARILLON_REDIS__URLS", "redis://a")], &["redis.kind"]),
        (&[("REDIS_ADDR", "a:1")], &["auth.secret"]),
    ] {
        for (service, name) in CLUSTER.into_iter().zip(["hub", "dispatcher"]) {
            let error = load_for(service, variables).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("incomplete for `carillon {name}`")),
                "{error}"
            );
            let found: Vec<_> = error
                .lines()
                .skip(1)
                .map(|line| line.trim().split(' ').next().unwrap())
                .collect();
            assert_eq!(found, missing, "{error}");
        }
    }
    for (name, value, key) in [
        ("CARILLON_REDIS__URLS", "localhost:6379", "redis.urls[0]"),
        ("CARILLON_REDIS__KIND", "one", "redis.kind"),
        ("CARILLON_REDIS__PARTITIONS", "3", "redis.partitions"),
        ("CARILLON_AUTH__SECRET", "short", "auth.secret"),
        ("CARILLON_AUTH__DEFAULT_TENANT", "a b", "auth.default_tenant"),
    ] {
        let error = load_for(Service::Hub, &[SECRET, ("REDIS_URL", "redis://a"), (name, value)]);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}:")), "{name}={value}: {error}");
    }
}

#[test]
fn certificates_that_cannot_be_read_are_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let no_pem = folder.path().join("redis-ca.pem");
    std::fs::write(&no_pem, "not a certificate").unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for path in [&folder.path().join("nothing.pem"), &no_pem, &broken] {
        for url in ["rediss://a", "redis://a"] {
            for service in [Service::Hub, Service::Dispatcher] {
                let file = path.to_str().unwrap();
                let variables = [SECRET, ("REDIS_URL", url), ("CARILLON_REDIS__CA_FILE", file)];
                let error = load_for(service, &variables).unwrap_err().to_string();
                assert!(error.starts_with("redis.ca_file: "), "{error}");
                assert!(error.contains(file), "{error}");
            }
        }
    }
}

#[test]
fn each_process_has_the_time_of_its_own_parts() {
    let deadline = |service, time: &str| {
        let variables = [
            SECRET,
            ("REDIS_URL", "redis://a"),
            ("CARILLON_SERVER__SHUTDOWN_DEADLINE", time),
        ];
        load_for(service, &variables).map(drop)
    };
    for (service, too_short, enough) in [
        (Service::Standalone, "25s", "26s"),
        (Service::Hub, "15s", "16s"),
        (Service::Dispatcher, "10s", "11s"),
    ] {
        assert!(deadline(service, too_short).is_err(), "{service:?}");
        deadline(service, enough).unwrap();
    }
}

#[test]
fn topics_come_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let write = |age: &str| {
        let text = format!("[[topics]]\npattern = \"topic:*\"\nslow = \"latest\"\nhistory_age = \"{age}\"\n");
        std::fs::write(&path, text).unwrap();
        let options = Options {
            config: Some(path.clone()),
            data_dir: None,
            listen: None,
            internal_listen: None,
            grpc_listen: None,
        };
        Config::load(Service::Standalone, &options, [])
    };
    let policies = write("1h").unwrap().policies().unwrap();
    let key = common::topic::TopicKey::parse("t:t:a").unwrap();
    assert_eq!(policies.of(&key).slow, common::policy::SlowPolicy::Latest);
    let error = write("31d").unwrap_err().to_string();
    assert!(error.starts_with("topics[0].history_age:"), "{error}");
}

#[test]
fn refusals_name_the_key() {
    for (name, value, key) in [
        ("CARILLON_HUB__MAX_CONECTIONS", "1", "hub.max_conections"),
        ("CARILLON_HUB__HEARTBEAT", "soon", "hub.heartbeat"),
        ("CARILLON_HUB__HEARTBEAT", "0s", "hub.heartbeat"),
        (
            "CARILLON_SERVER__SHUTDOWN_DEADLINE",
            "10s",
            "server.shutdown_deadline",
        ),
        ("CARILLON_SERVER__LISTEN", "nowhere", "server.listen"),
        ("SMTP_PORT", "x", "SMTP_PORT"),
        ("SECRET_KEY", "short", "auth.secret"),
        ("CARILLON_AUTH__SECRET", "", "auth.secret"),
        ("CARILLON_LOG__LEVEL", "zz=zz=zz", "log.level"),
        ("CARILLON_BUS__IDEMPOTENCY_AGE", "31d", "bus.idempotency_age"),
        ("CARILLON_BUS__IDEMPOTENCY_KEYS", "999", "bus.idempotency_keys"),
        ("CARILLON_NOPE", "1", "CARILLON_NOPE"),
        ("CARILLON_HUB", "5", "CARILLON_HUB"),
    ] {
        let error = load(&[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}:")), "{name}={value}: {error}");
    }
}
