//! The queue: deliveries are claimed by lane, sent by their channel, and settled.
//!
//! In the order of a delivery's way: [`Wake`] says there is work; `claim` takes as many as there is room for (`shares`);
//! `work` commits the attempt, sends, and hands the end over to [`crate::lease`]. Beside them `upkeep` keeps what is held,
//! takes back what others lost, forgets what is too old, and measures; `expiry` ends what expired; `jobs` fans groups out; `steps` begins what is due of
//! chains.

mod alert;
mod claim;
mod expiry;
mod jobs;
mod rate;
mod shares;
mod steps;
mod upkeep;
mod work;

use std::sync::{Arc, atomic::AtomicBool};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    channels::Channels,
    config::{QueueConfig, StrategyConfig},
    lease::{Leases, Retries, Settler, Tenants},
    metrics::Metrics,
    model::{Channel, Micros},
    pausing::Pausing,
    realtime::Realtime,
    service::Service,
    settings::Settings,
    store::{OnUnknown, Store},
    wake::Wake,
};

/// What all parts of the queue share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: QueueConfig,
    pub(crate) strategy: StrategyConfig,
    /// Accepts what the queue itself has to say.
    pub(crate) service: Service,
    /// This process's name in claims.
    pub(crate) worker: String,
    pub(crate) store: Store,
    pub(crate) channels: Channels,
    pub(crate) realtime: Realtime,
    pub(crate) retries: Retries,
    pub(crate) settings: Settings,
    pub(crate) leases: Leases,
    pub(crate) settler: Settler,
    pub(crate) wake: Wake,
    pub(crate) metrics: Metrics,
    /// No new claims, no new attempts.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: Tasks,
    /// False while leases cannot be extended: then nothing more is taken.
    pub(crate) can_hold: AtomicBool,
    pub(crate) pausing: Pausing,
    /// How many deliveries this process holds of each tenant.
    pub(crate) tenants: Tenants,
}

/// The tasks of a dispatcher: counted, and dropped where they stand when it is killed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    pub(crate) kill: CancellationToken,
    pub(crate) tracker: TaskTracker,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.tracker.spawn(async move {
            // None: it was killed, which needs no answer.
            kill.run_until_cancelled_owned(task).await;
        });
    }
}

impl Context {
    fn lease_until(&self) -> Micros {
        Micros::now().plus(self.config.lease.0)
    }

    /// The channel's policy in the form that the store takes: a plain function, so one for each combination there is.
    fn on_unknown(&self) -> fn(Channel) -> OnUnknown {
        fn policy<const MAIL: bool, const HOOK: bool>(channel: Channel) -> OnUnknown {
            let holds = match channel {
                Channel::Sms => true,
                Channel::Email => MAIL,
                Channel::Webhook => HOOK,
                _ => false,
            };
            if holds { OnUnknown::Hold } else { OnUnknown::Resend }
        }
        let holds = |channel| self.channels.on_unknown(channel) == OnUnknown::Hold;
        match (holds(Channel::Email), holds(Channel::Webhook)) {
            (false, false) => policy::<false, false>,
            (false, true) => policy::<false, true>,
            (true, false) => policy::<true, false>,
            (true, true) => policy::<true, true>,
        }
    }
}

/// Takes back what a life before this one held, where this process is the only one; else what ran out.
pub(crate) async fn rescue_at_start(context: &Context, exclusive: bool) {
    let now = if exclusive {
        Micros(i64::MAX)
    } else {
        Micros::now()
    };
    upkeep::rescue(context, now).await;
}

/// Begins to work. Ends with the context's `stop`.
pub(crate) fn spawn(context: &Arc<Context>) {
    context.tasks.spawn(claim::run(Arc::clone(context)));
    context.tasks.spawn(jobs::run(Arc::clone(context)));
    context.tasks.spawn(expiry::run(Arc::clone(context)));
    context.tasks.spawn(steps::run(Arc::clone(context)));
    context.tasks.spawn(upkeep::rescue_regularly(Arc::clone(context)));
    context.tasks.spawn(upkeep::prune_regularly(Arc::clone(context)));
    context.tasks.spawn(upkeep::forget_regularly(Arc::clone(context)));
    context.tasks.spawn(upkeep::stop_regularly(Arc::clone(context)));
    context.tasks.spawn(upkeep::measure(Arc::clone(context)));
    context.tasks.spawn(upkeep::keep_leases(Arc::clone(context)));
}
