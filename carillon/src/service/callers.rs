//! Who callers of a process are: by tokens and by API keys, with a bound on what an address may try.

use std::sync::Arc;

use common::{
    credential::{CredentialMetrics, Credentials, Guard, KeySource, KeyUse, Keys},
    receipts::{Receipt, ReceiptSink},
    telemetry::Metrics,
    token::Verifier,
};
use tokio::sync::mpsc;

use crate::config::Config;

/// Uses of keys that may wait to be told.
const USES: usize = 1024;

/// Says who callers are: keys are read from this source, and their uses told here.
pub(super) fn credentials(
    config: &Config,
    verifier: Verifier,
    source: Arc<dyn KeySource>,
    uses: mpsc::Sender<KeyUse>,
    metrics: &Metrics,
) -> Arc<Credentials> {
    let auth = &config.auth;
    let counted = metrics.register(CredentialMetrics::register);
    let keys = Keys::start(source, auth.api_key_grace.0, Some(uses), counted.clone());
    let guard = Guard::new(auth.failures, auth.failures_window.0);
    metrics.register(|registry| verifier.keep_keys(registry));
    let credentials = Credentials::tokens(verifier).with_keys(keys);
    Arc::new(credentials.guarded(guard).counted(counted))
}

/// A hub's way to tell: with its receipts.
pub(super) fn tell_uses(receipts: ReceiptSink) -> mpsc::Sender<KeyUse> {
    let (uses, mut told) = mpsc::channel(USES);
    tokio::spawn(async move {
        while let Some(used) = told.recv().await {
            // Where it is not taken, the next minute tells.
            receipts.send(Receipt::KeyUsed(used)).await;
        }
    });
    uses
}
