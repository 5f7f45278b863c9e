//! A real Kafka broker, alone and its own controller (KRaft), from the jars that `make setup` copies to `target/tools/kafka`.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    Error,
    folder::Folder,
    port::Port,
    process::{Process, program},
    wait,
};

/// Longest start, of a Java program on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Longest wait for a look.
const LOOK: Duration = Duration::from_secs(1);
/// Of every broker here; a cluster's id is 16 bytes in base64.
const CLUSTER: &str = "Y2FyaWxsb24tdGVzdHMtMQ";
/// What the broker writes when it serves.
const STARTED: &str = "Kafka Server started";

/// A running broker, on a port that outlasts its process. Killed when dropped.
#[derive(Debug)]
pub struct Broker {
    /// Before the folder, so that nobody writes into it while it is deleted.
    process: Mutex<Process>,
    port: Port,
    _controller: Port,
    folder: Folder,
}

static SHARED: Mutex<Option<&'static Broker>> = Mutex::new(None);

/// The one that all tests of this process share.
///
/// # Errors
/// As [`Broker::start`]; the next call tries again.
pub fn shared() -> Result<&'static Broker, Error> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broker) = *shared {
        return Ok(broker);
    }
    let broker = Broker::start()?;
    Ok(shared.insert(Box::leak(Box::new(broker))))
}

impl Broker {
    /// Starts one and waits until it serves. Topics are made when they are first written to, with six partitions.
    ///
    /// # Errors
    /// [`Error::NotInstalled`], [`Error::Ended`], and what the system says.
    pub fn start() -> Result<Self, Error> {
        let (folder, port, controller) = (Folder::new("kafka")?, Port::free()?, Port::free()?);
        let file = folder.path().join("server.properties");
        let text = settings(&folder.inner("data")?, port.number(), controller.number());
        fs::write(&file, text).map_err(Error::system(format!("writing {}", file.display())))?;
        let mut format = java(folder.path())?;
        format
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
            .arg(&file);
        let formatting = Process::start("kafka-storage", format, &folder.path().join("format.log"))?;
        let status = formatting.wait(START)?;
        wait::ensure(status.success(), || {
            format!("kafka-storage says:\n{}", formatting.log())
        })?;
        let broker = Self {
            process: Mutex::new(run(folder.path())?),
            port,
            _controller: controller,
            folder,
        };
        broker.wait_until_it_serves(1)?;
        Ok(broker)
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// kill -9. What it had not yet told anybody may be lost.
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub fn kill(&self) -> Result<(), Error> {
        self.with(Process::kill)
    }

    /// Starts it again on the same port, with what it had.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&self) -> Result<(), Error> {
        let times = {
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            process.kill()?;
            let times = process.log().matches(STARTED).count();
            *process = run(self.folder.path())?;
            times + 1
        };
        self.wait_until_it_serves(times)
    }

    /// SIGSTOP: connections stay open and are silent.
    ///
    /// # Errors
    /// As [`Process::pause`].
    pub fn pause(&self) -> Result<(), Error> {
        self.with(Process::pause)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Process::resume`].
    pub fn resume(&self) -> Result<(), Error> {
        self.with(Process::resume)
    }

    fn with<T>(&self, act: impl FnOnce(&Process) -> T) -> T {
        act(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wait_until_it_serves(&self, times: usize) -> Result<(), Error> {
        wait::until("kafka serves", START, || {
            self.with(Process::check)?;
            let log = self.with(Process::log);
            wait::ensure(log.matches(STARTED).count() >= times, || "it starts".to_owned())?;
            TcpStream::connect_timeout(&self.address(), LOOK)
                .map(drop)
                .map_err(Error::system("connecting to kafka"))
        })
    }
}

fn run(folder: &Path) -> Result<Process, Error> {
    let mut command = java(folder)?;
    command.arg("kafka.Kafka").arg(folder.join("server.properties"));
    Process::start("kafka", command, &folder.join("kafka.out"))
}

/// Java with the jars, for programs that start soon and stay small.
fn java(folder: &Path) -> Result<Command, Error> {
    let jars = jars()?;
    let logging = folder.join("log4j2.xml");
    fs::write(&logging, LOGGING).map_err(Error::system(format!("writing {}", logging.display())))?;
    let mut command = Command::new(program("java")?);
    command
        .args([
            "-Xmx512m",
            "-Xms128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ])
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
        .arg(format!("-Dkafka.logs.dir={}", folder.display()))
        .arg("-cp")
        .arg(jars.join("*"))
        .current_dir(folder);
    Ok(command)
}

/// Beside the programs that `make setup` fetched, which the Makefile puts on the PATH; else in this checkout's target folder.
fn jars() -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    std::env::split_paths(&path)
        .filter(|folder| folder.ends_with("tools/bin"))
        .map(|folder| folder.join("../kafka"))
        .chain([target.join("tools/kafka")])
        .find(|folder| folder.is_dir())
        .ok_or_else(|| Error::NotInstalled {
            program: "kafka".to_owned(),
        })
}

fn settings(data: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={}
num.partitions=6
auto.create.topics.enable=true
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.enable=false
",
        data.display()
    )
}

const LOGGING: &str = r#"<Configuration status="ERROR"><Appenders><Console name="out"><PatternLayout pattern="%d %p %c %m%n"/></Console></Appenders>
<Loggers><Logger name="kafka.server.KafkaRaftServer" level="INFO"/><Logger name="kafka.server.BrokerServer" level="INFO"/>
<Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"#;
