//! The processes that Carillon can be, each wired from the same parts: everything in one, a hub, the dispatcher.

mod bus;
mod callers;
mod dispatcher;
mod ending;
mod hub;
mod listeners;
mod standalone;
mod waiting;

pub(crate) use self::dispatcher::Database;
use crate::{
    cli::Service,
    config::{Config, Runtime},
};

/// Runs a process until a signal, then ends it in order.
///
/// # Errors
/// When something cannot be started; nothing has been accepted then.
pub(crate) async fn run(service: Service, config: Config, runtime: Runtime) -> anyhow::Result<()> {
    tokio::spawn(runtime.clone().watch());
    match service {
        Service::Standalone => Box::pin(standalone::run(config, &runtime)).await,
        Service::Hub => hub::run(config, &runtime).await,
        Service::Dispatcher => Box::pin(dispatcher::run(config, &runtime)).await,
    }
}
