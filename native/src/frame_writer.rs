//! The sending side of a connection: signals to frames in the queue.
//!
//! It writes the same bytes as `erlmesh.proto.frame_writer`, with the same rules for prefixes and references. Rare
//! signals and terms go to the pure encoder, which asks for the same references. Nothing is changed before all parts
//! of a frame are encoded.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::atom_cache::{FixedRefs, HeaderRefs, WriterCells};
use crate::buffer::Out;
use crate::common_signals::{common_signal, send_to_pid, Common, CACHED_WORDS};
use crate::context::Context;
use crate::encode::AtomRefs;
use crate::frames::{append, check_length, FRAGMENT_SIZE};
use crate::prefix_cache::{Identity, Key, Kind, Prefix, PrefixCache};
use crate::pure::Pure;
use crate::pure_refs::encode_or_pure;
use crate::send_queue::SendQueue;
use crate::signals::{DownSignal, SpawnReplySignal};
use crate::terms::{Pid, Ref};
use crate::wire_format::{
    DOWN, FLAG_ATOM_CACHE, FLAG_EXIT_PAYLOAD, FLAG_FRAGMENTS, NORMAL, PASS_THROUGH, SMALL_INTEGER, SMALL_TUPLE,
    SPAWN_REPLY, VERSION,
};

/// References in one header at most.
const MAX_REFERENCES: usize = 24;
const WORDS_SIZE: usize = 12;
/// The indexes of the nodes in every header of a connection with an atom cache.
const LOCAL: u8 = 0;
const PEER: u8 = 1;

/// Where the prefix of a frame is kept for the next frames.
struct Cacheable<'a, 'py> {
    key: Key,
    /// Bytes at the end of the control tuple that belong to this frame only.
    suffix: usize,
    /// The terms that the key was made from.
    owners: &'a [Option<&'a Bound<'py, PyAny>>],
}

pub struct FrameWriter {
    /// The local node and the peer. Every header lists them first.
    nodes: [Py<PyAny>; 2],
    flags: Py<PyAny>,
    bits: u64,
    cells: WriterCells,
    prefixes: PrefixCache,
    /// The id of the last fragment sequence.
    sequence: u64,
    /// Space for the parts of one frame, kept for its capacity.
    header: Vec<u8>,
    control: Out,
    message: Out,
}

impl FrameWriter {
    pub fn new(nodes: [Py<PyAny>; 2], flags: Py<PyAny>, bits: u64) -> Self {
        FrameWriter {
            nodes,
            flags,
            bits,
            cells: WriterCells::default(),
            prefixes: PrefixCache::default(),
            sequence: 0,
            header: Vec::new(),
            control: Out::default(),
            message: Out::default(),
        }
    }

    fn has(&self, flag: u64) -> bool {
        self.bits & flag != 0
    }

    /// Queue the frame of a signal, or several frames if it is fragmented.
    pub fn write(&mut self, signal: &Bound<'_, PyAny>, queue: &Mutex<SendQueue>) -> PyResult<()> {
        let result = self.write_signal(signal, queue);
        self.tidy();
        result
    }

    /// Queue a message to a pid without a signal. Return whether that was possible.
    #[inline]
    pub fn send<'py>(
        &mut self,
        sender: &Bound<'py, PyAny>,
        to: &Bound<'py, PyAny>,
        message: &Bound<'py, PyAny>,
        queue: &Mutex<SendQueue>,
    ) -> PyResult<bool> {
        let Some(common) = send_to_pid(self.bits, sender, to, message)? else {
            return Ok(false);
        };
        let result = self.write_common(sender.py(), &common, queue);
        self.tidy();
        result.map(|()| true)
    }

    /// Drop the references of a frame, and the space that a long one took.
    fn tidy(&mut self) {
        for out in [&mut self.control, &mut self.message] {
            out.bytes.clear();
            out.binaries.clear();
            if out.bytes.capacity() > FRAGMENT_SIZE {
                out.bytes = Vec::new();
            }
        }
    }

    fn write_signal(&mut self, signal: &Bound<'_, PyAny>, queue: &Mutex<SendQueue>) -> PyResult<()> {
        let py = signal.py();
        if let (Ok(down), true) = (signal.cast_exact::<DownSignal>(), self.has(FLAG_EXIT_PAYLOAD)) {
            if self.write_packed_down(down, queue)? {
                return Ok(());
            }
        }
        if let Some(common) = common_signal(signal, self.bits)? {
            return self.write_common(py, &common, queue);
        }
        if let Ok(reply) = signal.cast_exact::<SpawnReplySignal>() {
            if self.write_packed_spawn_reply(reply, queue)? {
                return Ok(());
            }
        }
        self.write_other(signal, None, queue)
    }

    /// Write a signal from its cached prefix, or in full.
    #[inline]
    fn write_common(&mut self, py: Python<'_>, common: &Common<'_, '_>, queue: &Mutex<SendQueue>) -> PyResult<()> {
        let mut words = [0; WORDS_SIZE];
        let mut suffix: &[u8] = &[];
        if let Some(reference) = common.reference {
            for (place, word) in words.chunks_exact_mut(4).zip(reference.get().word_slice()) {
                place.copy_from_slice(&word.to_be_bytes());
            }
            suffix = &words;
        }
        if self.write_cached(py, &common.key, suffix, common.message, queue)? {
            return Ok(());
        }
        let mut refs = self.new_header(py);
        let result = self.encode_common(py, common, &mut refs).and_then(|()| {
            let (key, suffix, owners) = (common.key, suffix.len(), &common.owners[..]);
            let key = Some(Cacheable { key, suffix, owners });
            self.finish(py, &mut refs, common.message.is_some(), key, queue)
        });
        self.cells = refs.cells;
        result
    }

    /// Write a signal with a cached prefix, `suffix` as the rest of the control tuple, and its message. Return false if
    /// there is no prefix.
    #[inline]
    fn write_cached(
        &mut self,
        py: Python<'_>,
        key: &Key,
        suffix: &[u8],
        message: Option<&Bound<'_, PyAny>>,
        queue: &Mutex<SendQueue>,
    ) -> PyResult<bool> {
        let Some(prefix) = self.prefixes.get(key) else {
            return Ok(false);
        };
        if let Some(message) = message {
            encode_or_pure(message, &mut self.message, &mut FixedRefs(&prefix.atoms))?;
        }
        let has_fragments = self.bits & FLAG_FRAGMENTS != 0;
        let size = self.message.len();
        check_length(py, prefix.head.len() + suffix.len(), size, has_fragments)?;
        let sequence = has_fragments.then_some(&mut self.sequence);
        append(py, &[&prefix.head, suffix], &mut self.message, size, sequence, queue);
        Ok(true)
    }

    /// Encode a signal in full, with the references of a new header.
    fn encode_common(&mut self, py: Python<'_>, common: &Common<'_, '_>, refs: &mut HeaderRefs) -> PyResult<()> {
        let arity = 1 + common.count + usize::from(common.reference.is_some());
        self.control
            .extend(&[SMALL_TUPLE, arity as u8, SMALL_INTEGER, common.op]);
        for element in common.elements.iter().take(common.count) {
            match element {
                Some(element) => encode_or_pure(element, &mut self.control, refs)?,
                None => encode_or_pure(&Context::get(py)?.atom(py, b"")?, &mut self.control, refs)?,
            }
        }
        if let Some(reference) = common.reference {
            encode_or_pure(reference.as_any(), &mut self.control, refs)?;
        }
        refs.encoding_message = true;
        match common.message {
            Some(message) => encode_or_pure(message, &mut self.message, refs),
            None => Ok(()),
        }
    }

    /// Write any signal through the pure `encode_control`. `key` and the size of the suffix are for its prefix.
    fn write_other(
        &mut self,
        signal: &Bound<'_, PyAny>,
        key: Option<(Key, usize)>,
        queue: &Mutex<SendQueue>,
    ) -> PyResult<()> {
        let py = signal.py();
        let pure = Pure::get(py)?;
        let parts = pure
            .encode_control
            .bind(py)
            .call1((signal, &self.flags))?
            .cast_into::<PyTuple>()?;
        let (control, message) = (parts.get_item(0)?, parts.get_item(1)?);
        let has_message = !message.is(&pure.no_message);
        let mut refs = self.new_header(py);
        let mut encode_parts = || {
            encode_or_pure(&control, &mut self.control, &mut refs)?;
            refs.encoding_message = true;
            match has_message {
                true => encode_or_pure(&message, &mut self.message, &mut refs),
                false => Ok(()),
            }
        };
        let result = encode_parts().and_then(|()| {
            let key = key.map(|(key, suffix)| Cacheable {
                key,
                suffix,
                owners: &[],
            });
            self.finish(py, &mut refs, has_message, key, queue)
        });
        self.cells = refs.cells;
        result
    }

    /// Start a header that lists the names of both nodes first. It stays empty if there is no atom cache.
    fn new_header(&mut self, py: Python<'_>) -> HeaderRefs {
        let limit = if self.has(FLAG_ATOM_CACHE) { MAX_REFERENCES } else { 0 };
        let mut refs = HeaderRefs::new(std::mem::take(&mut self.cells), limit);
        for node in &self.nodes {
            refs.get(py, node.bind(py));
        }
        refs
    }

    /// Queue the frame whose control tuple and message are encoded.
    fn finish(
        &mut self,
        py: Python<'_>,
        refs: &mut HeaderRefs,
        has_message: bool,
        cacheable: Option<Cacheable<'_, '_>>,
        queue: &Mutex<SendQueue>,
    ) -> PyResult<()> {
        if !self.control.binaries.is_empty() {
            // Only old forms have a term of any size in the control tuple.
            let mut joined = Vec::with_capacity(self.control.len());
            self.control.pieces(py, |piece| joined.extend_from_slice(piece));
            self.control.bytes = joined;
            self.control.binaries.clear();
        }
        let has_fragments = self.has(FLAG_FRAGMENTS);
        let size = self.message.len();
        check_length(py, self.control.bytes.len(), size, has_fragments)?;
        if !has_fragments && !self.has(FLAG_ATOM_CACHE) {
            let version: &[u8] = if has_message { &[VERSION] } else { &[] };
            let head: [&[u8]; 3] = [&[PASS_THROUGH, VERSION], &self.control.bytes, version];
            append(py, &head, &mut self.message, size, None, queue);
            return Ok(());
        }
        let texts = refs.texts(py)?;
        // From here on nothing may fail: the header fills cells, so the frame must be sent.
        self.header.clear();
        self.header.extend_from_slice(&[VERSION, NORMAL]);
        let has_new = refs.write(py, &texts, &mut self.header);
        if let (Some(Cacheable { key, suffix, owners }), false) = (cacheable, has_new) {
            // A header with new references must not be sent again.
            let end = self.control.bytes.len().saturating_sub(suffix);
            let head = [&self.header, self.control.bytes.get(..end).unwrap_or_default()].concat();
            let atoms = refs.atoms().iter().map(|atom| atom.clone_ref(py)).collect();
            let owners = owners.iter().flatten().map(|each| (*each).clone().unbind()).collect();
            self.prefixes.insert(
                key,
                Prefix {
                    head,
                    atoms,
                    _owners: owners,
                },
            );
        }
        let sequence = has_fragments.then_some(&mut self.sequence);
        append(
            py,
            &[&self.header, &self.control.bytes],
            &mut self.message,
            size,
            sequence,
            queue,
        );
        Ok(())
    }

    /// Write the packed DOWN of a process that the peer has spawned. Return false if this is not one.
    fn write_packed_down(&mut self, signal: &Bound<'_, DownSignal>, queue: &Mutex<SendQueue>) -> PyResult<bool> {
        let py = signal.py();
        let DownSignal {
            source,
            to,
            r#ref,
            reason,
        } = signal.get();
        let parts = self.spawned_by_peer(source.bind(py), to.bind(py), r#ref.bind(py));
        let Some((child, parent, reference)) = parts else {
            return Ok(false);
        };
        let mut control = Vec::with_capacity(64);
        control.extend_from_slice(&[SMALL_TUPLE, 4, SMALL_INTEGER, DOWN]);
        put_pid(&mut control, LOCAL, child);
        put_pid(&mut control, PEER, parent);
        put_ref(&mut control, reference);
        let key = Key::new(Kind::PackedDown, Identity::Nothing, Identity::Nothing, None);
        if !self.write_cached(py, &key, &control, Some(reason.bind(py)), queue)? {
            self.write_other(signal.as_any(), Some((key, control.len())), queue)?;
        }
        Ok(true)
    }

    /// Write the packed SPAWN_REPLY to a process of the peer. Return false if this is not one.
    fn write_packed_spawn_reply(
        &mut self,
        signal: &Bound<'_, SpawnReplySignal>,
        queue: &Mutex<SendQueue>,
    ) -> PyResult<bool> {
        let py = signal.py();
        let SpawnReplySignal {
            r#ref,
            to,
            flags,
            result,
            token,
        } = signal.get();
        let parts = self.spawned_by_peer(result.bind(py), to.bind(py), r#ref.bind(py));
        let Some((child, parent, reference)) = parts else {
            return Ok(false);
        };
        let Ok(flags) = flags.extract::<u8>(py) else {
            return Ok(false);
        };
        if !token.is_none(py) {
            return Ok(false);
        }
        let mut control = Vec::with_capacity(64);
        control.extend_from_slice(&[SMALL_TUPLE, 5, SMALL_INTEGER, SPAWN_REPLY]);
        put_ref(&mut control, reference);
        put_pid(&mut control, PEER, parent);
        control.extend_from_slice(&[SMALL_INTEGER, flags]);
        put_pid(&mut control, LOCAL, child);
        let key = Key::new(Kind::PackedSpawnReply, Identity::Nothing, Identity::Nothing, None);
        if !self.write_cached(py, &key, &control, None, queue)? {
            self.write_other(signal.as_any(), Some((key, control.len())), queue)?;
        }
        Ok(true)
    }

    /// Return the parts if the packed forms fit: a local child, and a parent and a reference of the peer.
    fn spawned_by_peer<'a>(
        &self,
        child: &'a Bound<'_, PyAny>,
        parent: &'a Bound<'_, PyAny>,
        reference: &'a Bound<'_, PyAny>,
    ) -> Option<(&'a Pid, &'a Pid, &'a Ref)> {
        let child = child.cast_exact::<Pid>().ok()?.get();
        let parent = parent.cast_exact::<Pid>().ok()?.get();
        let reference = reference.cast_exact::<Ref>().ok()?.get();
        let [local, peer] = &self.nodes;
        let fits = self.has(FLAG_ATOM_CACHE)
            && reference.count == CACHED_WORDS
            && child.node.is(local)
            && parent.node.is(peer)
            && reference.node.is(peer);
        fits.then_some((child, parent, reference))
    }
}

fn put_pid(out: &mut Vec<u8>, node: u8, pid: &Pid) {
    out.extend_from_slice(&[b'X', b'R', node]);
    for number in [pid.id, pid.serial, pid.creation] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Write a reference of the peer with three words.
fn put_ref(out: &mut Vec<u8>, reference: &Ref) {
    out.extend_from_slice(&[b'Z', 0, 3, b'R', PEER]);
    out.extend_from_slice(&reference.creation.to_be_bytes());
    for word in reference.word_slice() {
        out.extend_from_slice(&word.to_be_bytes());
    }
}
