//! A scripted SMTP server (RFC 5321): a test says what it answers, and gets what it received.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::config::Span;
use dispatcher::config::{DispatcherConfig, SmtpTls};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Connect,
    /// EHLO.
    Hello,
    /// The whole AUTH line, and whether it was encrypted.
    Login(String, bool),
    Mail,
    Rcpt(String),
    /// Without a recipient where none was taken.
    Data(String),
    /// The message came whole; to whom.
    Body(String),
}

/// What the server does about it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The usual reply.
    Usual,
    /// This line.
    Say(&'static str),
    /// Nothing, while the connection stays open.
    Hang,
    /// Closes the connection.
    Cut,
}

/// A mail that came whole, whatever was answered.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) to: String,
    pub(crate) text: String,
}

impl Mail {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.split("\r\n")
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// How a server that can TLS is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protected {
    FromTheStart,
    ByStarttls,
}

/// A made certificate for `localhost`, and the file with it for clients to believe.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    pub(super) file: Arc<NamedTempFile>,
}

type Script = Arc<dyn Fn(&Event) -> Answer + Send + Sync>;

/// The server; it ends when this is dropped.
pub(crate) struct SmtpServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    mails: mpsc::Receiver<Mail>,
    identity: Option<Identity>,
    task: JoinHandle<()>,
}

/// Takes several commands at once (RFC 2920), unless a test says otherwise.
const SEVERAL: &str = "250-test\r\n250-AUTH PLAIN\r\n250-PIPELINING\r\n250 8BITMIME";

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SmtpServer {
    pub(crate) async fn start(script: impl Fn(&Event) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_protected(None, script).await
    }

    pub(crate) async fn start_protected(
        protected: Option<Protected>,
        script: impl Fn(&Event) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let identity = protected.map(|_| Identity::make());
        let tls = protected.zip(identity.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mails) = mpsc::channel(100_000);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let script: Script = Arc::new(script);
        let task = tokio::spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (script, sender, tls) = (Arc::clone(&script), sender.clone(), tls.clone());
                sessions.spawn(async move {
                    // A client that goes away ends its session.
                    drop(session(stream, tls, &script, &sender).await);
                });
                while sessions.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            connections,
            mails,
            identity,
            task,
        }
    }

    /// Answers everything as usual.
    pub(crate) async fn friendly() -> Self {
        Self::start(|_| Answer::Usual).await
    }

    /// The configuration with this server as the mail server.
    pub(crate) fn configure(&self, mut config: DispatcherConfig) -> DispatcherConfig {
        config.smtp.host = Some(self.address.ip().to_string());
        config.smtp.port = Some(self.address.port());
        config.smtp.tls = SmtpTls::None;
        config.smtp.from = Some("Carillon <noreply@carillon.example>".to_owned());
        config.validate().unwrap();
        config
    }

    /// The same for a server that can TLS.
    pub(crate) fn configure_protected(&self, config: DispatcherConfig, tls: SmtpTls) -> DispatcherConfig {
        let mut config = self.configure(config);
        config.smtp.host = Some("localhost".to_owned());
        config.smtp.tls = tls;
        config.smtp.ca_file = self.identity.as_ref().map(|made| made.file.path().to_owned());
        config.smtp.username = Some("carillon".to_owned());
        config.smtp.password = Some("a secret".to_owned().into());
        config.validate().unwrap();
        config
    }

    /// With a bound for each step, for servers that hang.
    pub(crate) fn configure_impatient(&self, config: DispatcherConfig) -> DispatcherConfig {
        let mut config = self.configure(config);
        config.smtp.timeout = Span(std::time::Duration::from_millis(200));
        config
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The next mail that came whole.
    pub(crate) async fn mail(&mut self) -> Mail {
        super::soon("a mail", self.mails.recv())
            .await
            .expect("the server runs")
    }

    /// What came and was not taken by [`SmtpServer::mail`].
    pub(crate) fn further_mails(&mut self) -> Vec<Mail> {
        std::iter::from_fn(|| self.mails.try_recv().ok()).collect()
    }
}

impl Identity {
    pub(super) fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(made.cert.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            file: Arc::new(file),
        }
    }
}

async fn session(
    stream: TcpStream,
    tls: Option<(Protected, Identity)>,
    script: &Script,
    mails: &mpsc::Sender<Mail>,
) -> std::io::Result<()> {
    let state = |greet, starttls, encrypted| State {
        script,
        mails,
        greet,
        starttls,
        encrypted,
    };
    match tls {
        None => {
            serve(BufReader::new(stream), state(true, false, false)).await?;
        }
        Some((Protected::FromTheStart, identity)) => {
            let stream = identity.acceptor.accept(stream).await?;
            serve(BufReader::new(stream), state(true, false, true)).await?;
        }
        Some((Protected::ByStarttls, identity)) => {
            if let Some(stream) = serve(BufReader::new(stream), state(true, true, false)).await? {
                let stream = identity.acceptor.accept(stream.into_inner()).await?;
                serve(BufReader::new(stream), state(false, false, true)).await?;
            }
        }
    }
    Ok(())
}

struct State<'a> {
    script: &'a Script,
    mails: &'a mpsc::Sender<Mail>,
    greet: bool,
    starttls: bool,
    encrypted: bool,
}

/// Serves until the client goes; gives the stream back where the client began TLS.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    state: State<'_>,
) -> std::io::Result<Option<BufReader<S>>> {
    let script = state.script;
    if state.greet && !answer(&mut stream, script, &Event::Connect, "220 test ESMTP").await? {
        return Ok(None);
    }
    let mut to = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let (verb, _) = line.trim_end().split_at(line.trim_end().len().min(4));
        let go_on = match verb.to_ascii_uppercase().as_str() {
            "EHLO" if state.starttls => say(&mut stream, "250-test\r\n250 STARTTLS").await?,
            "EHLO" => answer(&mut stream, script, &Event::Hello, SEVERAL).await?,
            "STAR" => {
                say(&mut stream, "220 go ahead").await?;
                return Ok(Some(stream));
            }
            "AUTH" => {
                let event = Event::Login(line.trim_end().to_owned(), state.encrypted);
                answer(&mut stream, script, &event, "235 2.7.0 welcome").await?
            }
            "MAIL" => answer(&mut stream, script, &Event::Mail, "250 2.1.0 ok").await?,
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                let event = Event::Rcpt(to.clone());
                let reply = script(&event);
                if matches!(reply, Answer::Say(no) if no.starts_with(['4', '5'])) {
                    to.clear();
                }
                give(&mut stream, reply, "250 2.1.5 ok").await?
            }
            "DATA" if to.is_empty() => match script(&Event::Data(String::new())) {
                Answer::Say(line) if line.starts_with('3') => {
                    say(&mut stream, line).await?;
                    assert_eq!(body(&mut stream).await?, "", "nobody gets an empty message");
                    say(&mut stream, "554 5.5.1 no valid recipients").await?
                }
                _ => say(&mut stream, "554 5.5.1 no valid recipients").await?,
            },
            "DATA" => {
                let event = Event::Data(to.clone());
                if !answer(&mut stream, script, &event, "354 go ahead").await? {
                    return Ok(None);
                }
                if matches!(script(&event), Answer::Say(_)) {
                    true
                } else {
                    let text = body(&mut stream).await?;
                    let event = Event::Body(to.clone());
                    let mail = Mail { to: to.clone(), text };
                    // The test may have ended.
                    drop(state.mails.send(mail).await);
                    answer(&mut stream, script, &event, "250 2.0.0 queued").await?
                }
            }
            "QUIT" => {
                say(&mut stream, "221 bye").await?;
                return Ok(None);
            }
            _ => say(&mut stream, "250 ok").await?,
        };
        if !go_on {
            return Ok(None);
        }
    }
}

async fn body<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    script: &Script,
    event: &Event,
    usual: &str,
) -> std::io::Result<bool> {
    give(stream, script(event), usual).await
}

async fn give<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    answer: Answer,
    usual: &str,
) -> std::io::Result<bool> {
    match answer {
        Answer::Usual => say(stream, usual).await,
        Answer::Say(line) => say(stream, line).await,
        Answer::Hang => std::future::pending().await,
        Answer::Cut => Ok(false),
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    line: &str,
) -> std::io::Result<bool> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await?;
    Ok(true)
}
