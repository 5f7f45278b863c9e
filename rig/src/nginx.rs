//! nginx with the repository's configuration, on loopback and without root.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    Error,
    folder::Folder,
    http,
    port::Port,
    process::{Process, program},
    wait::{self, ensure},
};

/// Longest start and reload.
const START: Duration = Duration::from_secs(20);
/// Longest wait for the answer to a look.
const LOOK: Duration = Duration::from_secs(2);

/// What nginx is started with. `nginx/render.sh` turns it into a configuration, and `nginx/README.md` says more of the
/// variables.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Public listeners of the hubs.
    pub hubs: Vec<SocketAddr>,
    /// Public listeners of the dispatchers.
    pub dispatchers: Vec<SocketAddr>,
    /// Certificate chain and key in PEM: with them it serves TLS.
    pub tls: Option<[PathBuf; 2]>,
    /// The port, where it matters.
    pub port: Option<u16>,
    /// More variables of `render.sh`: `("CARILLON_NGINX_SHUTDOWN", "5s")`.
    pub variables: Vec<(String, String)>,
}

/// A running nginx. It and its workers are killed when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    /// Before the folder, so that nobody writes into it while it is deleted.
    process: Process,
    port: Port,
    source: PathBuf,
    options: Options,
    folder: Folder,
}

impl Nginx {
    /// Starts one with the configuration of the folder `source`, which has a `render.sh`, and waits until it serves.
    ///
    /// # Errors
    /// [`Error::Unfit`] where the configuration cannot be rendered, [`Error::Ended`] where nginx refuses it.
    pub fn start(source: &Path, options: &Options) -> Result<Self, Error> {
        let port = match options.port {
            None => Port::free()?,
            Some(number) => {
                Port::take(number)?.ok_or_else(|| Error::Unfit(format!("port {number} is taken")))?
            }
        };
        let folder = Folder::new("nginx")?;
        for name in ["log", "run"] {
            folder.inner(name)?;
        }
        render(source, options, &port, &folder)?;
        let configuration = folder.path().join("conf");
        let mut command = Command::new(program("nginx")?);
        command
            .arg("-p")
            .arg(&configuration)
            .arg("-c")
            .arg(configuration.join("nginx.conf"))
            .arg("-e")
            .arg(folder.path().join("log/error.log"))
            .args(["-g", "daemon off;"]);
        let nginx = Self {
            process: Process::start(
                &format!("nginx {}", port.number()),
                command,
                &folder.path().join("log/output"),
            )?,
            port,
            source: source.to_owned(),
            options: options.clone(),
            folder,
        };
        nginx.wait_until_it_serves()?;
        Ok(nginx)
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// For clients: `http://127.0.0.1:8080`, or `https:`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address())
    }

    /// Reads the configuration anew, without losing a connection. Returns when the order is given: old workers go on
    /// with what they have.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn reload(&self) -> Result<(), Error> {
        self.process.check()?;
        self.process.signal(Signal::HUP)
    }

    /// Likewise, with other servers behind it from now on.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn reload_with(&mut self, hubs: &[SocketAddr], dispatchers: &[SocketAddr]) -> Result<(), Error> {
        hubs.clone_into(&mut self.options.hubs);
        dispatchers.clone_into(&mut self.options.dispatchers);
        render(&self.source, &self.options, &self.port, &self.folder)?;
        self.reload()
    }

    /// SIGQUIT: it ends when its connections have.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn quit(&self) -> Result<(), Error> {
        self.process.signal(Signal::QUIT)
    }

    /// Its master process, for signals, its end and its number.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its folder: `conf/`, `log/access.log`, `log/error.log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The access log as of now.
    #[must_use]
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.folder().join("log/access.log")).unwrap_or_default()
    }

    fn wait_until_it_serves(&self) -> Result<(), Error> {
        wait::until(&format!("nginx at {} serves", self.address()), START, || {
            self.process.check()?;
            if self.options.tls.is_some() {
                // This crate speaks no TLS; that the listener is there has to do.
                let open = std::net::TcpStream::connect_timeout(&self.address(), LOOK);
                return open.map(drop).map_err(Error::system("connecting to nginx"));
            }
            let answer = http::get(self.address(), "/nginx-health", LOOK)?;
            ensure(answer.status == 200, || format!("it answers {}", answer.status))
        })
    }
}

fn render(source: &Path, options: &Options, port: &Port, folder: &Folder) -> Result<(), Error> {
    let list = |addresses: &[SocketAddr]| {
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        addresses.join(" ")
    };
    let mut command = Command::new(source.join("render.sh"));
    command
        .arg(folder.path().join("conf"))
        .env("CARILLON_HUBS", list(&options.hubs))
        .env("CARILLON_DISPATCHERS", list(&options.dispatchers))
        .env("CARILLON_NGINX_LISTEN", port.address().to_string())
        .env("CARILLON_NGINX_LOG", folder.path().join("log"))
        .env("CARILLON_NGINX_RUN", folder.path().join("run"))
        .env("CARILLON_NGINX_WORKERS", "2");
    if let Some([certificate, key]) = &options.tls {
        command
            .env("CARILLON_NGINX_CERTIFICATE", certificate)
            .env("CARILLON_NGINX_KEY", key)
            // No second listener for plain HTTP.
            .env("CARILLON_NGINX_PLAIN_LISTEN", "");
    }
    command.envs(options.variables.iter().map(|(name, value)| (name, value)));
    let output = command
        .output()
        .map_err(Error::system(format!("running {}/render.sh", source.display())))?;
    ensure(output.status.success(), || {
        String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
    })
}
