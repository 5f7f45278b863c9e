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
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Folders are deleted only where their name shows that they were made here.
pub(crate) const FOLDER_PREFIX: &str = "carillon-rig-";

/// Reads `+`/`-` and the words `group <id>` or `folder <path>`, one a line.
const SCRIPT: &str = r#"
groups=' '; folders=
while IFS=' ' read -r what rest; do
  case $what in
  +group) groups="$groups$rest " ;;
  -group) case $groups in *" $rest "*) groups="${groups%%" $rest "*} ${groups#*" $rest "}" ;; esac ;;
  +folder) folders="$folders$rest
" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
printf '%s' "$folders" | while IFS= read -r folder; do
  case $folder in */"$0"*) rm -rf -- "$folder" ;; esac
done
"#;

static PIPE: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// What the watcher knows of for as long as this lives.
#[derive(Debug)]
pub(crate) struct Watched(u32);

impl Watched {
    /// Watches a process group.
    pub(crate) fn group(id: u32) -> Self {
        tell(format_args!("+group {id}"));
        Self(id)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        tell(format_args!("-group {}", self.0));
    }
}

/// Has a folder deleted at the end, if it is still there.
pub(crate) fn folder(path: &std::path::Path) {
    if let Some(path) = path.to_str().filter(|path| !path.contains('\n')) {
        tell(format_args!("+folder {path}"));
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
