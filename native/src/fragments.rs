//! Reassembly of fragmented messages. The pure `Reassembly` describes the rules and reports every fault.

use std::collections::HashMap;

use pyo3::prelude::*;

use crate::decode::GiveUp;
use crate::wire_format::{FRAGMENT, FRAGMENT_HEAD_SIZE, VERSION};

/// Unfinished sequences that a peer may have.
const MAX_SEQUENCES: usize = 4096;
/// Bytes that are reserved for a new sequence at most.
const FIRST_SPACE: usize = 1 << 20;
/// A first fragment from this size on gets space for the claimed number of fragments. Small fragments are rare, and a
/// peer could otherwise make this node reserve a multiple of what it sends: in small blocks, which are kept after use.
const LARGE_FRAGMENT: usize = 32 << 10;

/// The atoms of a complete sequence, and its bytes from the control tuple on.
pub type Reassembled = (Vec<Py<PyAny>>, Vec<u8>);

struct Sequence {
    atoms: Vec<Py<PyAny>>,
    /// The number that the next fragment must have.
    next_number: u64,
    data: Vec<u8>,
}

pub struct Reassembly {
    sequences: HashMap<u64, Sequence>,
    max_bytes: usize,
    buffered: usize,
}

impl Reassembly {
    pub fn new(max_bytes: usize) -> Self {
        Reassembly {
            sequences: HashMap::new(),
            max_bytes,
            buffered: 0,
        }
    }

    /// Bytes of all unfinished sequences together.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Return the id, the next number and the size of each unfinished sequence.
    pub fn state(&self) -> Vec<(u64, u64, usize)> {
        self.sequences
            .iter()
            .map(|(id, each)| (*id, each.next_number, each.data.len()))
            .collect()
    }

    /// Return the piece of the second of two fragments, and the bytes of its frame with the length, if `rest` starts with
    /// it. `frame` is the first one, whose own piece has `size` bytes. Such a sequence need not be added. A second
    /// fragment without a piece is not worth it.
    pub fn second_of_two<'a>(
        &self,
        frame: &[u8],
        size: usize,
        rest: &'a [u8],
        max_frame: usize,
    ) -> Option<(&'a [u8], usize)> {
        let (id, 2) = read_head(frame)? else {
            return None;
        };
        let (length, frames) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let second = frames.get(..length).filter(|_| length <= max_frame)?;
        let tail = second.get(FRAGMENT_HEAD_SIZE..)?;
        let fits = second.starts_with(&[VERSION, FRAGMENT])
            && !tail.is_empty()
            && read_head(second)? == (id, 1)
            && !self.sequences.contains_key(&id)
            && self.sequences.len() < MAX_SEQUENCES
            && size + tail.len() <= self.max_bytes.saturating_sub(self.buffered);
        fits.then_some((tail, length + 4))
    }

    /// Add the first fragment of a sequence, whose header ends at `offset` and lists `atoms`.
    ///
    /// It gives up on every fault, and without memory, before anything is changed. A fragment that is lost that way ends
    /// the connection with the next one.
    pub fn add_first(
        &mut self,
        frame: &[u8],
        offset: usize,
        atoms: Vec<Py<PyAny>>,
    ) -> Result<Option<Reassembled>, GiveUp> {
        let (id, number) = read_head(frame).ok_or(GiveUp)?;
        let piece = frame.get(offset..).ok_or(GiveUp)?;
        if number == 0
            || self.sequences.contains_key(&id)
            || self.sequences.len() >= MAX_SEQUENCES
            || piece.len() > self.max_bytes.saturating_sub(self.buffered)
        {
            return Err(GiveUp);
        }
        if number == 1 {
            return Ok(Some((atoms, piece.to_vec())));
        }
        // The number is a claim of the peer, so the first space is limited. It grows with what arrives.
        let claimed = match piece.len() {
            LARGE_FRAGMENT.. => piece
                .len()
                .saturating_mul(usize::try_from(number).unwrap_or(usize::MAX)),
            small => small,
        };
        let mut data = Vec::new();
        data.try_reserve_exact(claimed.clamp(piece.len(), FIRST_SPACE.max(piece.len())))
            .map_err(|_| GiveUp)?;
        data.extend_from_slice(piece);
        self.buffered += piece.len();
        self.sequences.insert(
            id,
            Sequence {
                atoms,
                next_number: number - 1,
                data,
            },
        );
        Ok(None)
    }

    /// Add the next fragment of a sequence. Return the whole if it is the last one.
    pub fn add_next(&mut self, frame: &[u8]) -> Result<Option<Reassembled>, GiveUp> {
        let (id, number) = read_head(frame).ok_or(GiveUp)?;
        let piece = frame.get(FRAGMENT_HEAD_SIZE..).ok_or(GiveUp)?;
        let sequence = self.sequences.get_mut(&id).ok_or(GiveUp)?;
        if number != sequence.next_number || piece.len() > self.max_bytes.saturating_sub(self.buffered) {
            return Err(GiveUp);
        }
        sequence.data.try_reserve(piece.len()).map_err(|_| GiveUp)?;
        sequence.data.extend_from_slice(piece);
        self.buffered += piece.len();
        sequence.next_number -= 1;
        if sequence.next_number > 0 {
            return Ok(None);
        }
        let done = self.sequences.remove(&id).ok_or(GiveUp)?;
        self.buffered -= done.data.len();
        Ok(Some((done.atoms, done.data)))
    }
}

fn read_head(frame: &[u8]) -> Option<(u64, u64)> {
    let id = frame.get(2..10)?.try_into().ok()?;
    let number = frame.get(10..18)?.try_into().ok()?;
    Some((u64::from_be_bytes(id), u64::from_be_bytes(number)))
}
