//! The encoder: common Python objects to bytes.

use pyo3::prelude::*;

use crate::buffer::Out;
use crate::decode::GiveUp;

/// The atoms that a frame's header can list.
pub trait AtomRefs {
    /// The index that an atom has in the header of the frame; None if the atom must be written in full.
    fn get(&mut self, py: Python<'_>, atom: &Bound<'_, PyAny>) -> Option<u8>;
}

/// Write a term without byte 131. After `GiveUp`, `out` has a part of the term: the caller must truncate it.
pub fn encode(_term: &Bound<'_, PyAny>, _out: &mut Out, _atoms: &mut impl AtomRefs) -> Result<(), GiveUp> {
    Err(GiveUp)
}
