//! Postfix's `smtp-sink`: a real SMTP server that others wrote.

use std::{
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    process::Stdio,
};

use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use super::eventually;

/// A running `smtp-sink`, ended when dropped.
pub(crate) struct SmtpSink {
    pub(crate) address: SocketAddr,
    mails: TempDir,
    _child: Child,
}

impl SmtpSink {
    pub(crate) async fn start() -> Self {
        let program = [
            "/usr/sbin/smtp-sink",
            "/usr/local/sbin/smtp-sink",
            "/usr/bin/smtp-sink",
        ]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .expect("smtp-sink (Debian package postfix) is not installed: run `make setup`");
        // It cannot choose a port itself; the time between this look and its bind is short, and a clash fails loudly.
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let mails = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        let us = std::fs::metadata("/proc/self").unwrap().uid();
        if us == 0 {
            // It insists on giving up root's rights, and has to write here afterwards.
            std::fs::set_permissions(mails.path(), Permissions::from_mode(0o777)).unwrap();
            command.args(["-u", "nobody"]);
        }
        command
            .arg("-d")
            .arg("mail.")
            .arg(address.to_string())
            .arg("128")
            .current_dir(mails.path())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let child = command.spawn().expect("smtp-sink starts");
        eventually("smtp-sink listens", async || {
            TcpStream::connect(address).await.ok()
        })
        .await;
        Self {
            address,
            mails,
            _child: child,
        }
    }

    /// All mails that came, each as one text.
    pub(crate) fn mails(&self) -> Vec<String> {
        std::fs::read_dir(self.mails.path())
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
            .collect()
    }
}
