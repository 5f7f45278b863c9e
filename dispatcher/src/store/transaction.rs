//! The transaction that operations work in.

use std::{future::Future, pin::Pin};

use common::topic::TopicKey;

use super::{StoreConfig, StoreError, access::Access};
use crate::model::Micros;

/// A transaction at hand.
pub(super) struct Tx<'c> {
    pub(super) conn: Access<'c>,
    pub(super) config: &'c StoreConfig,
    pub(super) now: Micros,
    /// Keys whose feeds got entries.
    pub(super) touched: Vec<TopicKey>,
    /// The queue has something new to do.
    pub(super) work: bool,
}

pub(super) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;
