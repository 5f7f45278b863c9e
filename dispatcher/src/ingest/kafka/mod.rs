//! Events from topics of Kafka.
//!
//! One task reads all partitions that the group gives this process and hands each message to the task of its partition, which
//! takes batches in ([`super::intake`]). An offset is stored for the group when everything before it is done: stored in the
//! database, passed over, or acknowledged as a dead letter. Who loses a partition just stops: what was stored is known to the
//! next owner by its place and its name, in the database.

mod dead_letters;
mod gate;
mod partition;
mod reader;
mod settings;
mod watch;

pub(crate) use self::reader::run;
