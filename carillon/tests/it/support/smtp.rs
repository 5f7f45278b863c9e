//! A real SMTP server, and a gate before it that can hold its answers.
//!
//! As root it is a Postfix of our own: configuration, queue and mailbox lie in a temporary folder, it listens on a free
//! loopback port, and nothing of the system's own Postfix is read or written. Postfix cannot run for an ordinary user;
//! there it is `smtp-sink` of the same package.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::{eventually, program};

/// Users and groups that Debian numbers so everywhere: `nobody`, `nogroup`.
const NOBODY: u32 = 65534;

/// The server behind the gate. Ends with this value.
#[derive(Debug)]
pub(crate) struct Smtp {
    address: SocketAddr,
    folder: TempDir,
    running: Running,
    read: u64,
    seen: HashSet<PathBuf>,
}

#[derive(Debug)]
enum Running {
    Postfix,
    Sink(Child),
}

/// A mail as the server stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) message_id: String,
    /// What stands between `number ` and ` complete` in its text.
    pub(crate) number: u64,
}

impl Smtp {
    /// Starts it, and waits until it greets.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("carillon-smtp-")
            .tempdir()
            .unwrap();
        // Both programs give up root's rights and have to reach their folders.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let running = if root {
            start_postfix(folder.path(), address);
            Running::Postfix
        } else {
            Running::Sink(start_sink(folder.path(), address))
        };
        let server = Self {
            address,
            folder,
            running,
            read: 0,
            seen: HashSet::new(),
        };
        eventually("the SMTP server greets", Duration::from_secs(30), async || {
            let mut stream = TcpStream::connect(address).await.ok()?;
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting).await.ok()?;
            stream.write_all(b"QUIT\r\n").await.ok()?;
            (greeting == *b"220").then_some(())
        })
        .await;
        server
    }

    /// What it is.
    pub(crate) fn name(&self) -> &'static str {
        match self.running {
            Running::Postfix => "Postfix",
            Running::Sink(_) => "smtp-sink",
        }
    }

    /// Whole mails that were stored since the last call.
    pub(crate) fn new_mails(&mut self) -> Vec<Mail> {
        match self.running {
            Running::Postfix => self.new_in_mailbox(),
            Running::Sink(_) => self.new_in_folder(),
        }
    }

    fn new_in_mailbox(&mut self) -> Vec<Mail> {
        use std::io::{Read, Seek, SeekFrom};
        let Ok(mut file) = fs::File::open(self.folder.path().join("mail/all")) else {
            return Vec::new();
        };
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        // The mailbox is read while it is written: only mails whose last line is there count.
        let text = String::from_utf8_lossy(&bytes);
        let Some(end) = text.rfind(" complete\n").map(|at| at + " complete\n".len()) else {
            return Vec::new();
        };
        self.read += end as u64;
        mails(&text[..end])
    }

    fn new_in_folder(&mut self) -> Vec<Mail> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder.path().join("mail")).unwrap() {
            let path = entry.unwrap().path();
            if self.seen.contains(&path) {
                continue;
            }
            // A file is there before it is whole, and vanishes when its conversation breaks off.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let mails = mails(&text);
            if !mails.is_empty() {
                self.seen.insert(path);
            }
            found.extend(mails);
        }
        found
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Postfix => {
                postfix(self.folder.path(), "stop").ok();
            }
            Running::Sink(child) => {
                child.kill().ok();
                child.wait().ok();
            }
        }
    }
}

/// The Message-ID and number of each mail in a text of mails.
fn mails(text: &str) -> Vec<Mail> {
    let mut found = Vec::new();
    let mut message_id = None;
    for line in text.lines() {
        if let Some(id) = line.strip_prefix("Message-ID: ") {
            message_id = Some(id.trim().to_owned());
        } else if let Some(number) = line
            .trim_end()
            .strip_prefix("number ")
            .and_then(|rest| rest.strip_suffix(" complete"))
        {
            let message_id = message_id
                .take()
                .unwrap_or_else(|| panic!("a mail without a Message-ID: {number}"));
            found.push(Mail {
                message_id,
                number: number.parse().unwrap(),
            });
        }
    }
    found
}

fn start_sink(folder: &Path, address: SocketAddr) -> Child {
    fs::create_dir(folder.join("mail")).unwrap();
    let template = folder.join("mail/mail.");
    let mut command = Command::new(program("smtp-sink"));
    command
        .arg("-4")
        .arg("-m")
        .arg("1000")
        .arg("-d")
        .arg(template)
        .arg(address.to_string())
        .arg("1000");
    command.stdin(Stdio::null()).spawn().unwrap()
}

fn start_postfix(folder: &Path, address: SocketAddr) {
    let user = |name: &str| {
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")));
        let id = line
            .and_then(|line| line.split(':').nth(2))
            .and_then(|id| id.parse::<u32>().ok());
        id.unwrap_or_else(|| panic!("there is no user `{name}`: run `make setup`"))
    };
    for (name, owner) in [
        ("etc", 0),
        ("queue", 0),
        ("data", user("postfix")),
        ("mail", NOBODY),
    ] {
        fs::create_dir(folder.join(name)).unwrap();
        std::os::unix::fs::chown(folder.join(name), Some(owner), None).unwrap();
    }
    let root = folder.display();
    let main = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {root}/queue\n\
         data_directory = {root}/data\n\
         maillog_file = {root}/log\n\
         maillog_file_prefixes = {root}\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         myhostname = mail.example.test\n\
         mydestination =\n\
         local_recipient_maps =\n\
         alias_maps =\n\
         alias_database =\n\
         virtual_mailbox_domains = recipients.example.test\n\
         virtual_mailbox_maps = static:all\n\
         virtual_mailbox_base = {root}/mail\n\
         virtual_uid_maps = static:{NOBODY}\n\
         virtual_gid_maps = static:{NOBODY}\n\
         virtual_mailbox_limit = 0\n\
         mynetworks = 127.0.0.0/8\n\
         smtpd_recipient_restrictions = permit_mynetworks, reject\n\
         smtpd_client_connection_count_limit = 0\n\
         smtpd_client_connection_rate_limit = 0\n\
         default_process_limit = 300\n"
    );
    fs::write(folder.join("etc/main.cf"), main).unwrap();
    // Columns: service, type, private, unprivileged, chroot, wake-up, processes, command. One `virtual` writes the one
    // mailbox. There is no `smtp`: nothing can leave this machine.
    let mut master = String::new();
    for (service, kind, private, wakeup, processes, command) in [
        (address.to_string().as_str(), "inet", "n", "-", "-", "smtpd"),
        ("cleanup", "unix", "n", "-", "0", "cleanup"),
        ("qmgr", "unix", "n", "300", "1", "qmgr"),
        ("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
        ("bounce", "unix", "-", "-", "0", "bounce"),
        ("defer", "unix", "-", "-", "0", "bounce"),
        ("error", "unix", "-", "-", "-", "error"),
        ("retry", "unix", "-", "-", "-", "error"),
        ("proxymap", "unix", "-", "-", "-", "proxymap"),
        ("anvil", "unix", "-", "-", "1", "anvil"),
        ("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
    ] {
        writeln!(
            master,
            "{service} {kind} {private} - n {wakeup} {processes} {command}"
        )
        .unwrap();
    }
    master.push_str("virtual unix - n n - 1 virtual\n");
    fs::write(folder.join("etc/master.cf"), master).unwrap();
    postfix(folder, "start").unwrap_or_else(|said| panic!("Postfix does not start: {said}"));
}

fn postfix(folder: &Path, what: &str) -> Result<(), String> {
    let mut command = Command::new(program("postfix"));
    command
        .arg("-c")
        .arg(folder.join("etc"))
        .arg(what)
        .stdin(Stdio::null());
    // Its scripts call other programs in sbin.
    command.env(
        "PATH",
        format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
    );
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    Err(format!("{}{log}", String::from_utf8_lossy(&output.stderr)))
}

/// A relay before the server. While it is closed, every mail that comes gets stuck in the middle: of every two
/// connections one before its text was sent, the other after the server took it and before the sender knows.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    open: watch::Sender<bool>,
    held: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) async fn start(server: &Smtp) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, gate) = watch::channel(true);
        let held = Arc::new(AtomicUsize::new(0));
        let (backend, counter) = (server.address, Arc::clone(&held));
        tokio::spawn(async move {
            for serial in 0usize.. {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                let Ok(server) = TcpStream::connect(backend).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let stuck = Arc::new(AtomicBool::new(false));
                tokio::spawn(commands(
                    from_client,
                    to_server,
                    serial.is_multiple_of(2),
                    Arc::clone(&stuck),
                ));
                tokio::spawn(answers(
                    from_server,
                    to_client,
                    stuck,
                    gate.clone(),
                    Arc::clone(&counter),
                ));
            }
        });
        Self { address, open, held }
    }

    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Mails that are stuck in the closed gate.
    pub(crate) fn in_flight(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Copies what the sender says, and notes when it waits for the answer that may be held. Senders wait for each answer
/// before they go on, so a command comes alone.
async fn commands(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    before_text: bool,
    stuck: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut tail = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        tail.extend_from_slice(bytes);
        tail.drain(..tail.len().saturating_sub(6));
        let waits = if before_text {
            tail.ends_with(b"DATA\r\n")
        } else {
            tail.ends_with(b"\r\n.\r\n")
        };
        stuck.store(waits, Ordering::Release);
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    stuck: Arc<AtomicBool>,
    mut gate: watch::Receiver<bool>,
    held: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if stuck.load(Ordering::Acquire) && !*gate.borrow() {
            held.fetch_add(1, Ordering::Relaxed);
            let opened = gate.wait_for(|open| *open).await.is_ok();
            held.fetch_sub(1, Ordering::Relaxed);
            if !opened {
                return;
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
