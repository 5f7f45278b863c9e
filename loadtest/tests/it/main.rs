//! The programs of this crate, run as a whole.

mod floor;
