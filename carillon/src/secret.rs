//! The secret that standalone makes for itself.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};
use secrecy::SecretString;

/// Name of its file in the data folder.
const FILE: &str = "auth.secret";

/// The configured secret, or the one of the data folder, which is made when there is none.
///
/// # Errors
/// When the folder or the file cannot be read or written, or others may read the file.
pub(crate) fn configured_or_kept(
    configured: Option<&SecretString>,
    folder: &Path,
) -> anyhow::Result<SecretString> {
    if let Some(secret) = configured {
        return Ok(secret.clone());
    }
    let path = folder.join(FILE);
    match read(&path) {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => make(folder, &path),
        Err(error) => Err(error.context(format!("the secret in {}", path.display()))),
    }
}

/// Makes the data folder, where there is none, for its owner alone: it holds what people were told.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("the data folder {}", folder.display()))
}

fn read(path: &Path) -> anyhow::Result<Option<SecretString>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("others may read it (mode {mode:o}); make it yours alone with `chmod 600`, or replace it");
    }
    let secret = text.trim();
    if secret.is_empty() {
        bail!("is empty; remove the file, and a new secret is made");
    }
    Ok(Some(SecretString::from(secret.to_owned())))
}

fn make(folder: &Path, path: &Path) -> anyhow::Result<SecretString> {
    make_folder(folder)?;
    let mut bytes = [0u8; 32];
    // Two version 4 UUIDs would have fixed bits; the operating system's generator has none.
    fs::File::open("/dev/urandom")
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut bytes))?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Under another name first: whoever reads the file finds it whole.
    let draft = folder.join(format!("{FILE}.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(secret.as_bytes())?;
            file.sync_all()
        });
    written.with_context(|| format!("writing {}", draft.display()))?;
    // Not over a file that another process made meanwhile: its secret is the one.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => Ok(SecretString::from(secret)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(path)?.context("the secret went away while it was read")
        }
        Err(error) => Err(error).with_context(|| format!("writing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn it_is_made_once_and_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = configured_or_kept(None, &data).unwrap();
        assert_eq!(first.expose_secret().len(), 64);
        assert_eq!(
            fs::metadata(data.join(FILE)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            configured_or_kept(None, &data).unwrap().expose_secret(),
            first.expose_secret()
        );
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no draft is left");

        fs::set_permissions(data.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(configured_or_kept(None, &data).is_err());
    }

    #[test]
    fn a_configured_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let configured = SecretString::from("x".repeat(32));
        let secret = configured_or_kept(Some(&configured), folder.path()).unwrap();
        assert_eq!(secret.expose_secret(), configured.expose_secret());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
