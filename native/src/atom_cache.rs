//! The atom cache of a connection: 2,048 cells for each direction, and the header that names them.
//!
//! The header has the form that `erlmesh.proto.atom_cache` describes. Both implementations write the same bytes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::context::Context;
use crate::decode::GiveUp;
use crate::encode::AtomRefs;

const CELLS: usize = 8 * 256;
/// In the flags of a reference: it fills its cell. The other three bits are the segment.
const NEW: u8 = 8;
/// In the last flags: the lengths of all texts have two bytes.
const LONG_ATOMS: u8 = 1;

/// A hasher for addresses. They are no choice of the peer, so a strong hash is not needed. The prefix cache also hashes
/// the numbers of pids with it, which a peer can choose: that cache has a bounded number of entries.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

pub type AddressMap<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// The receiving side: the cells that the peer has filled.
#[derive(Default)]
pub struct ReaderCells {
    cells: Vec<Option<Py<PyAny>>>,
}

impl ReaderCells {
    /// Read the references at `pos`, where N is, append their atoms, and move `pos` behind the header.
    ///
    /// It gives up on every fault. Cells that were filled before stay filled.
    pub fn read(
        &mut self,
        py: Python<'_>,
        data: &[u8],
        pos: &mut usize,
        atoms: &mut Vec<Py<PyAny>>,
    ) -> Result<(), GiveUp> {
        let count = usize::from(*data.get(*pos).ok_or(GiveUp)?);
        if count == 0 {
            *pos += 1;
            return Ok(());
        }
        let flags_end = *pos + 1 + count / 2 + 1;
        let flags = data.get(*pos + 1..flags_end).ok_or(GiveUp)?;
        let long_atoms = nibble(flags, count) & LONG_ATOMS != 0;
        let mut at = flags_end;
        for index in 0..count {
            let flag = nibble(flags, index);
            let cell = usize::from(flag & 7) << 8 | usize::from(*data.get(at).ok_or(GiveUp)?);
            at += 1;
            if flag & NEW != 0 {
                let atom = read_text(py, data, &mut at, long_atoms)?;
                atoms.push(atom.clone_ref(py));
                self.fill(cell, atom);
            } else {
                let atom = self.cells.get(cell).and_then(Option::as_ref).ok_or(GiveUp)?;
                atoms.push(atom.clone_ref(py));
            }
        }
        *pos = at;
        Ok(())
    }

    fn fill(&mut self, cell: usize, atom: Py<PyAny>) {
        if self.cells.len() <= cell {
            self.cells.resize_with(cell + 1, || None);
        }
        if let Some(place) = self.cells.get_mut(cell) {
            *place = Some(atom);
        }
    }

    /// Return the number and the atom of each filled cell.
    pub fn filled<'py>(&self, py: Python<'py>) -> Vec<(usize, Bound<'py, PyAny>)> {
        let cells = self.cells.iter().enumerate();
        cells
            .filter_map(|(cell, atom)| atom.as_ref().map(|atom| (cell, atom.bind(py).clone())))
            .collect()
    }
}

fn read_text(py: Python<'_>, data: &[u8], at: &mut usize, long_atoms: bool) -> Result<Py<PyAny>, GiveUp> {
    let mut size = usize::from(*data.get(*at).ok_or(GiveUp)?);
    *at += 1;
    if long_atoms {
        size = size << 8 | usize::from(*data.get(*at).ok_or(GiveUp)?);
        *at += 1;
    }
    let text = data.get(*at..*at + size).ok_or(GiveUp)?;
    *at += size;
    let context = Context::get(py).map_err(|_| GiveUp)?;
    context.atom(py, text).map(Bound::unbind).map_err(|_| GiveUp)
}

/// Return the flags with this index: the low half of a byte first, then the high half.
fn nibble(flags: &[u8], index: usize) -> u8 {
    let byte = flags.get(index / 2).copied().unwrap_or_default();
    if index & 1 == 1 {
        byte >> 4
    } else {
        byte & 15
    }
}

/// The sending side: the cells that we fill, in order. A cell is never given to another atom.
#[derive(Default)]
pub struct WriterCells {
    /// By the address of the atom. The address is right because `atoms` keeps the atom alive.
    numbers: AddressMap<usize, u16>,
    atoms: Vec<Py<PyAny>>,
}

impl WriterCells {
    fn number_of(&self, atom: usize) -> Option<u16> {
        self.numbers.get(&atom).copied()
    }

    fn fill(&mut self, py: Python<'_>, atom: &Py<PyAny>) -> u16 {
        let number = self.atoms.len() as u16; // at most CELLS, see `HeaderRefs::may_fill`
        self.numbers.insert(atom.as_ptr() as usize, number);
        self.atoms.push(atom.clone_ref(py));
        number
    }
}

/// The references of a header under construction. It does not change the cells until `write`.
///
/// The rules are those of the pure `References`.
pub struct HeaderRefs {
    pub cells: WriterCells,
    limit: usize,
    atoms: Vec<Py<PyAny>>,
    /// While this is true, new atoms may use only the first half of all cells.
    pub encoding_message: bool,
}

impl HeaderRefs {
    pub fn new(cells: WriterCells, limit: usize) -> Self {
        HeaderRefs {
            cells,
            limit,
            atoms: Vec::with_capacity(limit),
            encoding_message: false,
        }
    }

    pub fn atoms(&self) -> &[Py<PyAny>] {
        &self.atoms
    }

    /// Forget the references after the first `count`, which a failed attempt has added.
    pub fn forget_from(&mut self, count: usize) {
        self.atoms.truncate(count);
    }

    fn may_fill(&self) -> bool {
        let limit = if self.encoding_message { CELLS / 2 } else { CELLS };
        self.cells.atoms.len() + self.atoms.len() < limit
    }

    /// Return the names of the references that are new; None for the others. It changes nothing.
    pub fn texts<'py>(&self, py: Python<'py>) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let context = Context::get(py)?;
        let mut texts = Vec::with_capacity(self.atoms.len());
        for atom in &self.atoms {
            texts.push(match self.cells.number_of(atom.as_ptr() as usize) {
                Some(_) => None,
                None => Some(context.atom_name.get(atom.bind(py)).ok_or_else(|| PyErr::fetch(py))?),
            });
        }
        Ok(texts)
    }

    /// Append the header, from N on, and fill the cells of new references. Return whether there are any.
    ///
    /// `texts` is what `texts` returned.
    pub fn write(&mut self, py: Python<'_>, texts: &[Option<Bound<'_, PyAny>>], out: &mut Vec<u8>) -> bool {
        let count = self.atoms.len();
        out.push(count as u8);
        if count == 0 {
            return false;
        }
        let texts = texts
            .iter()
            .map(|text| text.as_ref().map_or(&[][..], text_of))
            .collect::<Vec<_>>();
        let long_atoms = texts.iter().any(|text| text.len() > 255);
        let flags_at = out.len();
        out.resize(flags_at + count / 2 + 1, 0);
        set_nibble(out, flags_at, count, if long_atoms { LONG_ATOMS } else { 0 });
        let mut has_new = false;
        for (index, (atom, text)) in self.atoms.iter().zip(&texts).enumerate() {
            let known = self.cells.number_of(atom.as_ptr() as usize);
            let cell = known.unwrap_or_else(|| self.cells.fill(py, atom));
            set_nibble(
                out,
                flags_at,
                index,
                (cell >> 8) as u8 | if known.is_none() { NEW } else { 0 },
            );
            out.push(cell as u8);
            if known.is_none() {
                has_new = true;
                if long_atoms {
                    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
                } else {
                    out.push(text.len() as u8);
                }
                out.extend_from_slice(text);
            }
        }
        has_new
    }
}

/// The UTF-8 of an atom's name. The name of an atom can always be encoded.
fn text_of<'a>(name: &'a Bound<'_, PyAny>) -> &'a [u8] {
    name.cast::<PyString>()
        .ok()
        .and_then(|name| name.to_str().ok())
        .unwrap_or_default()
        .as_bytes()
}

fn set_nibble(out: &mut [u8], flags_at: usize, index: usize, flags: u8) {
    if let Some(byte) = out.get_mut(flags_at + index / 2) {
        *byte |= if index & 1 == 1 { flags << 4 } else { flags };
    }
}

/// Return the index of an atom among the references of a header.
pub fn index_of(atoms: &[Py<PyAny>], atom: usize) -> Option<u8> {
    atoms
        .iter()
        .position(|each| each.as_ptr() as usize == atom)
        .map(|index| index as u8)
}

impl AtomRefs for HeaderRefs {
    fn get(&mut self, _py: Python<'_>, atom: &Bound<'_, PyAny>) -> Option<u8> {
        let address = atom.as_ptr() as usize;
        let index = index_of(&self.atoms, address);
        if index.is_some() || self.atoms.len() >= self.limit {
            return index;
        }
        if self.cells.number_of(address).is_none() && !self.may_fill() {
            return None;
        }
        self.atoms.push(atom.clone().unbind());
        Some((self.atoms.len() - 1) as u8)
    }
}

/// The references of a header that was sent before. No atom is added.
pub struct FixedRefs<'a>(pub &'a [Py<PyAny>]);

impl AtomRefs for FixedRefs<'_> {
    fn get(&mut self, _py: Python<'_>, atom: &Bound<'_, PyAny>) -> Option<u8> {
        index_of(self.0, atom.as_ptr() as usize)
    }
}
