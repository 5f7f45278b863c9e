//! Ports on loopback that nobody else gets for as long as they are held, even while their server is down.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use crate::Error;

/// Below what Linux gives to outgoing connections and to port 0 (`ip_local_port_range`, 32768 and up), so that neither
/// takes one in the moment in which a server restarts.
const RANGE: std::ops::Range<u16> = 11_000..32_000;
/// How many are tried.
const TRIES: usize = 500;

/// A port of 127.0.0.1, held against all others who ask by this type, in this process or another.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The lock goes with the descriptor, so it ends with the process in any case.
    _lock: File,
}

impl Port {
    /// Takes one that is free.
    ///
    /// # Errors
    /// [`Error::Unfit`] where none is, [`Error::System`] where the locks cannot be kept.
    pub fn free() -> Result<Self, Error> {
        for _ in 0..TRIES {
            if let Some(port) = Self::take(fastrand::u16(RANGE))? {
                return Ok(port);
            }
        }
        Err(Error::Unfit(format!(
            "no free port among {TRIES} tries in {RANGE:?}"
        )))
    }

    /// Takes this one; `None` where somebody holds it or listens on it.
    ///
    /// # Errors
    /// [`Error::System`] where the lock cannot be kept.
    pub fn take(number: u16) -> Result<Option<Self>, Error> {
        // One folder a user, as another's files cannot be opened.
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("carillon-ports-{user}"));
        fs::create_dir_all(&folder).map_err(Error::system(format!("making {}", folder.display())))?;
        let path = folder.join(number.to_string());
        let lock = File::create(&path).map_err(Error::system(format!("making {}", path.display())))?;
        if lock.try_lock().is_err() || TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_err() {
            return Ok(None);
        }
        Ok(Some(Self { number, _lock: lock }))
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with its number.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
