//! Secrets that are made for one start and are worth nothing elsewhere.

use std::{fs::File, io::Read as _};

use crate::Error;

/// 32 random bytes in hex.
///
/// # Errors
/// [`Error::System`].
pub(crate) fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::system("reading /dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
