//! Ends what this process leaves behind when it dies without dropping its values: a killed test, a `static`.
//!
//! One shell reads from a pipe which process groups and folders are in use. The pipe's end, which comes whatever this
//! process dies of, is its sign to end and delete them. `PR_SET_PDEATHSIG` would not do: it follows the thread that
//! started the process, and a test's thread ends before what it shares with others; and it spares grandchildren such
//! as the workers of nginx.

use std::{
    fmt::Display,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Folders are deleted only where their name shows that they were made here.
pub(crate) const FOLDER_PREFIX: &str = "carillon-rig-";

/// Reads `+`/`-` and the words `group <id>`, `server <pid>` or `folder <path>`, one a line. A server is first asked to end at
/// once, by SIGQUIT; its group is another line.
const SCRIPT: &str = r#"
nl='
'
groups=$nl; servers=$nl; folders=$nl
while IFS=' ' read -r what rest; do
  line=$nl$rest$nl
  case $what in
  +group) groups=$groups$rest$nl ;;
  +server) servers=$servers$rest$nl ;;
  +folder) folders=$folders$rest$nl ;;
  -group) case $groups in *"$line"*) groups=${groups%%"$line"*}$nl${groups#*"$line"} ;; esac ;;
  -server) case $servers in *"$line"*) servers=${servers%%"$line"*}$nl${servers#*"$line"} ;; esac ;;
  -folder) case $folders in *"$line"*) folders=${folders%%"$line"*}$nl${folders#*"$line"} ;; esac ;;
  esac
done
for server in $servers; do kill -s CONT "$server"; kill -s QUIT "$server"; done
for server in $servers; do
  looks=50
  while [ "$looks" -gt 0 ] && kill -s 0 "$server"; do looks=$((looks - 1)); sleep 0.1; done
done
for group in $groups; do kill -s KILL -- "-$group"; done
printf '%s' "$folders" | while IFS= read -r folder; do
  case $folder in */"$0"*) rm -rf -- "$folder" ;; esac
done
"#;

static PIPE: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// What the watcher knows of for as long as this lives.
#[derive(Debug)]
pub(crate) struct Watched(String);

impl Watched {
    /// Watches a process group.
    pub(crate) fn group(id: u32) -> Self {
        Self::new(format!("group {id}"))
    }

    /// Watches a server which leaves something behind unless it ends by itself, on SIGQUIT.
    pub(crate) fn server(pid: u32) -> Self {
        Self::new(format!("server {pid}"))
    }

    /// Watches a folder; `None` for a path that does not fit on a line.
    pub(crate) fn folder(path: &Path) -> Option<Self> {
        let path = path.to_str().filter(|path| !path.contains('\n'))?;
        Some(Self::new(format!("folder {path}")))
    }

    fn new(what: String) -> Self {
        tell(format_args!("+{what}"));
        Self(what)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        tell(format_args!("-{}", self.0));
    }
}

/// Without a shell nothing is watched, and values end their processes all the same.
fn tell(line: impl Display) {
    let mut pipe = PIPE.lock().unwrap_or_else(PoisonError::into_inner);
    if pipe.is_none() {
        *pipe = start();
    }
    if let Some(open) = pipe.as_mut()
        && writeln!(open, "{line}").is_err()
    {
        *pipe = None;
    }
}

fn start() -> Option<ChildStdin> {
    let child = Command::new("/bin/sh")
        .args(["-c", SCRIPT, FOLDER_PREFIX])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at a terminal goes to this process's group, and the watcher is to outlive it.
        .process_group(0)
        .spawn();
    child.ok()?.stdin
}
