//! The prefixes of sent frames: the bytes of the header and the control tuple, by what the control tuple contains.
//!
//! The rules are those of the pure `FrameWriter`, so that both write the same bytes.

use pyo3::prelude::*;

use crate::atom_cache::AddressMap;
use crate::context::Context;
use crate::terms::{Pid, Ref};

/// Prefixes that are kept.
const MAX_PREFIXES: usize = 1024;
/// The distance of two prefixes that are replaced one after the other: `BoundedDict` has the reason and the same number.
const STRIDE: usize = 619;

/// A pid by value, an atom by address, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    Nothing,
    Pid(usize, u32, u32, u32),
    Atom(usize),
}

impl Identity {
    /// Return None if the term is neither a pid nor an atom.
    #[inline]
    pub fn of(context: &Context, term: &Bound<'_, PyAny>) -> Option<Identity> {
        if let Ok(pid) = term.cast_exact::<Pid>() {
            let pid = pid.get();
            return Some(Identity::Pid(
                pid.node.as_ptr() as usize,
                pid.id,
                pid.serial,
                pid.creation,
            ));
        }
        context.is_atom(term).then(|| Identity::Atom(term.as_ptr() as usize))
    }
}

/// What the prefix is for. A message to a pid and one to a name have different identities, so they share a kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Send,
    Alias,
    Monitor,
    Demonitor,
    Down,
    PackedDown,
    PackedSpawnReply,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: Kind,
    pub first: Identity,
    pub second: Identity,
    /// The node and the creation of the reference whose words are not part of the prefix; 0 if there is none.
    pub node: usize,
    pub creation: u32,
}

impl Key {
    pub fn new(kind: Kind, first: Identity, second: Identity, reference: Option<&Ref>) -> Key {
        let (node, creation) = reference.map_or((0, 0), |each| (each.node.as_ptr() as usize, each.creation));
        Key {
            kind,
            first,
            second,
            node,
            creation,
        }
    }
}

pub struct Prefix {
    /// The header from `131 68` on, and the control tuple without its last, variable part.
    pub head: Vec<u8>,
    /// The atoms of the header, by index.
    pub atoms: Vec<Py<PyAny>>,
    /// The terms that the key was made from. Their atoms must not be freed, because the key has their addresses.
    pub _owners: Vec<Py<PyAny>>,
}

#[derive(Default)]
pub struct PrefixCache {
    prefixes: AddressMap<Key, Prefix>,
    /// The keys. The position of a key does not change until it is replaced.
    keys: Vec<Key>,
    /// The position of the key to replace next.
    next: usize,
}

impl PrefixCache {
    #[inline]
    pub fn get(&self, key: &Key) -> Option<&Prefix> {
        self.prefixes.get(key)
    }

    pub fn insert(&mut self, key: Key, prefix: Prefix) {
        if self.prefixes.insert(key, prefix).is_some() {
            return;
        }
        if self.keys.len() < MAX_PREFIXES {
            self.keys.push(key);
        } else if let Some(replaced) = self.keys.get_mut(self.next) {
            self.prefixes.remove(replaced);
            *replaced = key;
            self.next = (self.next + STRIDE) % MAX_PREFIXES;
        }
    }
}
