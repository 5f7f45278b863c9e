//! The layers of the configuration, each over the one before it.

use common::config::{ConfigError, Loader};

use super::{aliases::ALIASES, database_parts};
use crate::cli::{Options, Service};

/// The commented defaults, which are loaded first.
const DEFAULTS: &str = include_str!("../../../config/carillon.toml");

/// What differs in the processes of a cluster.
const HUB_DEFAULTS: &str = include_str!("../../../config/hub.toml");
const DISPATCHER_DEFAULTS: &str = include_str!("../../../config/dispatcher.toml");

/// What is set, layer by layer.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    /// The defaults alone.
    pub(super) defaults: Loader,
    /// The file over them.
    pub(super) file: Loader,
    /// Environment and flags over both.
    pub(super) all: Loader,
}

impl Layers {
    /// Reads them.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub(super) fn read(
        service: Service,
        options: &Options,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut defaults = Loader::with_defaults(DEFAULTS)?;
        match service {
            Service::Standalone => {}
            Service::Hub => defaults = defaults.defaults(HUB_DEFAULTS)?,
            Service::Dispatcher => defaults = defaults.defaults(DISPATCHER_DEFAULTS)?,
        }
        let mut file = defaults.clone();
        if let Some(path) = &options.config {
            file = file.file(path)?;
        }
        let mut all = file
            .clone()
            .environment(database_parts::joined(environment)?, ALIASES)?;
        if let Some(address) = options.listen {
            all = all.set("server.listen", address.to_string())?;
        }
        if let Some(address) = options.internal_listen {
            all = all.set("server.internal_listen", address.to_string())?;
        }
        if let Some(address) = options.grpc_listen {
            all = all.set("server.grpc_listen", address.to_string())?;
        }
        if let Some(folder) = &options.data_dir {
            all = all.set("server.data_dir", folder.to_string_lossy().into_owned())?;
        }
        Ok(Self { defaults, file, all })
    }
}
