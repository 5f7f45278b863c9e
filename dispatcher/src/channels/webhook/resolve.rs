//! Which addresses a name stands for.

use std::{io, net::SocketAddr};

#[cfg(any(test, feature = "test-util"))]
type Script = std::sync::Arc<dyn Fn(&str) -> io::Result<Vec<std::net::IpAddr>> + Send + Sync>;

/// Where names are looked up.
#[derive(Clone, Default)]
pub enum Resolver {
    /// The operating system.
    #[default]
    System,
    /// A test says what names stand for.
    #[cfg(any(test, feature = "test-util"))]
    Scripted(Script),
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            #[cfg(any(test, feature = "test-util"))]
            Self::Scripted(_) => "Scripted",
        })
    }
}

impl Resolver {
    /// Names stand for what this says.
    #[cfg(any(test, feature = "test-util"))]
    pub fn scripted(
        script: impl Fn(&str) -> io::Result<Vec<std::net::IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self::Scripted(std::sync::Arc::new(script))
    }

    /// The addresses of a host, in the order in which they are to be tried.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            #[cfg(any(test, feature = "test-util"))]
            Self::Scripted(script) => Ok(script(host)?
                .into_iter()
                .map(|address| SocketAddr::new(address, port))
                .collect()),
        }
    }
}
