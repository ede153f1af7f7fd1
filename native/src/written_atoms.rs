//! The atoms that were written in full most recently, with their bytes.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::buffer::Out;
use crate::ffi_tools::GilCell;

/// The number of entries. An atom has one place only, which depends on its address.
const ENTRIES: usize = 512;
/// The most bytes of an entry. A longer atom is not kept.
const LONGEST: usize = 39;

#[derive(Default)]
pub struct WrittenAtoms(GilCell<Vec<Option<Entry>>>);

struct Entry {
    /// It keeps the atom alive, so no other object has its address.
    atom: Py<PyAny>,
    length: u8,
    bytes: [u8; LONGEST],
}

impl WrittenAtoms {
    /// Write the bytes of an atom that is kept. Return false, without a change, for another one. It runs no Python code.
    #[inline]
    pub fn write(&self, py: Python<'_>, atom: *mut ffi::PyObject, out: &mut Out) -> bool {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe {
            self.0.with(py, |entries| match entries.get(place(atom)) {
                Some(Some(entry)) if entry.atom.as_ptr() == atom => {
                    out.extend_padded(&entry.bytes, usize::from(entry.length));
                    true
                }
                _ => false,
            })
        }
    }

    /// Keep the bytes of an atom, in the place of another one.
    pub fn keep(&self, atom: &Bound<'_, PyAny>, written: &[u8]) {
        let mut bytes = [0; LONGEST];
        let Some(start) = bytes.get_mut(..written.len()) else {
            return;
        };
        start.copy_from_slice(written);
        let entry = Entry {
            atom: atom.clone().unbind(),
            length: written.len() as u8,
            bytes,
        };
        // SAFETY: the old entry leaves the cell before it is dropped.
        let _old = unsafe {
            self.0.with(atom.py(), |entries| {
                if entries.is_empty() {
                    entries.resize_with(ENTRIES, || None);
                }
                entries.get_mut(place(atom.as_ptr())).and_then(|old| old.replace(entry))
            })
        };
    }
}

#[inline]
fn place(atom: *mut ffi::PyObject) -> usize {
    // Objects are aligned to 16 bytes. The multiplication spreads the rest over the high bits.
    let hash = (atom as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> 32) as usize % ENTRIES
}
