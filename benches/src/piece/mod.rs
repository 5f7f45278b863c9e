//! Pieces of the hot paths, each with inputs of real size. Defined once, measured twice: in time by criterion
//! (`benches/pieces.rs`), in instructions by callgrind (`benches/instructions.rs`), which a busy machine does not change.

mod bus;
mod delivery;
mod input;

use tokio::runtime::Runtime;

/// What a piece is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make or clean up what the next run needs. Not measured.
    Prepare,
    /// The work itself.
    Run,
}

/// Does the steps of a piece, `Prepare` before each `Run`.
pub type Work = Box<dyn FnMut(Step)>;

/// Something that is measured.
#[derive(Debug)]
pub struct Piece {
    /// Its name, stable: the baseline is kept under it.
    pub name: &'static str,
    /// Parts of a run, for example sessions reached: figures are for one of them.
    pub units: u64,
    /// Makes its inputs.
    pub make: fn(&Runtime) -> Work,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Piece> {
    [&delivery::PIECES[..], &bus::PIECES, &input::PIECES]
        .concat()
        .into_iter()
        .map(|(name, units, make)| Piece { name, units, make })
        .collect()
}

/// A row of a module's list.
type Row = (&'static str, u64, fn(&Runtime) -> Work);
