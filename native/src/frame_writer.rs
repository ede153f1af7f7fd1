//! The sending side of a connection: signals to frames in the queue.
//!
//! It writes the same bytes as `erlmesh.proto.frame_writer`, with the same rules for prefixes and references. Rare
//! signals and terms go to the pure encoder, which asks for the same references. Nothing is changed before all parts
//! of a frame are encoded.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::atom_cache::{FixedRefs, HeaderRefs, WriterCells};
use crate::buffer::{Out, BY_REFERENCE};
use crate::context::Context;
use crate::encode::{encode, AtomRefs};
use crate::fragments::FRAGMENT_HEAD_SIZE;
use crate::prefix_cache::{Identity, Key, Kind, Prefix, PrefixCache};
use crate::pure::Pure;
use crate::send_queue::{Binary, SendQueue};
use crate::signals::{DemonitorSignal, DownSignal, MonitorSignal, SendAliasSignal, SendNameSignal, SendSignal};
use crate::terms::{Pid, Ref};

/// References in one header at most.
const MAX_REFERENCES: usize = 24;
/// Bytes of the longest frame that we send.
const MAX_FRAME: usize = 0x07FF_0000;
const FRAGMENT_SIZE: usize = 64 * 1024;
/// Bytes of the longest message that is sent in one frame.
const MAX_UNFRAGMENTED: usize = 128 * 1024;
/// Words of the references whose prefixes are cached.
const CACHED_WORDS: u32 = 3;
const WORDS_SIZE: usize = 12;

const FLAG_ATOM_CACHE: u64 = 1 << 13;
const FLAG_SEND_SENDER: u64 = 1 << 19;
const FLAG_EXIT_PAYLOAD: u64 = 1 << 22;
const FLAG_FRAGMENTS: u64 = 1 << 23;
const FLAG_ALIAS: u64 = 1 << 35;

const VERSION: u8 = 131;
const PASS_THROUGH: u8 = 112;
/// The types of a header, after the version byte.
const NORMAL: u8 = 68;
const FIRST_FRAGMENT: u8 = 69;
const FRAGMENT: u8 = 70;
const SMALL_TUPLE: u8 = 104;
const SMALL_INTEGER: u8 = 97;
/// The indexes of the nodes in every header of a connection with an atom cache.
const LOCAL: u8 = 0;
const PEER: u8 = 1;

const SEND: u8 = 2;
const REG_SEND: u8 = 6;
const MONITOR_P: u8 = 19;
const DEMONITOR_P: u8 = 20;
const SEND_SENDER: u8 = 22;
const DOWN: u8 = 28;
const SPAWN_REPLY: u8 = 31;
const ALIAS_SEND: u8 = 33;

/// A locked queue. A panic of another thread does not make its bytes wrong.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether a connection with these flags has the atom cache, and whether it has fragments.
pub fn header_flags(bits: u64) -> (bool, bool) {
    (bits & FLAG_ATOM_CACHE != 0, bits & FLAG_FRAGMENTS != 0)
}

/// A signal that the writer encodes itself.
struct Common<'a, 'py> {
    op: u8,
    /// The elements of the control tuple before the reference, in order. `None` is the unused element.
    elements: [Option<&'a Bound<'py, PyAny>>; 3],
    count: usize,
    reference: Option<&'a Bound<'py, Ref>>,
    message: Option<&'a Bound<'py, PyAny>>,
    key: Key,
    owners: [Option<&'a Bound<'py, PyAny>>; 3],
}

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
        let Some(common) = self.send_to_pid(sender, to, message)? else {
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
        if let Ok(each) = signal.cast_exact::<SendSignal>() {
            let SendSignal {
                sender,
                to,
                message,
                token,
            } = each.get();
            if token.is_none(py) {
                if let Some(common) = self.send_to_pid(sender.bind(py), to.bind(py), message.bind(py))? {
                    return self.write_common(py, &common, queue);
                }
            }
        } else if let Ok(each) = signal.cast_exact::<SendNameSignal>() {
            let SendNameSignal {
                sender,
                name,
                message,
                token,
            } = each.get();
            if token.is_none(py) {
                if let Some(common) = send_to_name(sender.bind(py), name.bind(py), message.bind(py))? {
                    return self.write_common(py, &common, queue);
                }
            }
        } else if let Ok(each) = signal.cast_exact::<SendAliasSignal>() {
            let SendAliasSignal {
                sender,
                alias,
                message,
                token,
            } = each.get();
            if token.is_none(py) && self.has(FLAG_ALIAS) {
                if let Some(common) = send_to_alias(sender.bind(py), alias.bind(py), message.bind(py))? {
                    return self.write_common(py, &common, queue);
                }
            }
        } else if let Ok(each) = signal.cast_exact::<MonitorSignal>() {
            let MonitorSignal { sender, target, r#ref } = each.get();
            let parts = (sender.bind(py), target.bind(py), r#ref.bind(py));
            if let Some(common) = with_reference(Kind::Monitor, MONITOR_P, parts, None)? {
                return self.write_common(py, &common, queue);
            }
        } else if let Ok(each) = signal.cast_exact::<DemonitorSignal>() {
            let DemonitorSignal { sender, target, r#ref } = each.get();
            let parts = (sender.bind(py), target.bind(py), r#ref.bind(py));
            if let Some(common) = with_reference(Kind::Demonitor, DEMONITOR_P, parts, None)? {
                return self.write_common(py, &common, queue);
            }
        } else if let Ok(each) = signal.cast_exact::<DownSignal>() {
            if self.has(FLAG_EXIT_PAYLOAD) {
                let DownSignal {
                    source,
                    to,
                    r#ref,
                    reason,
                } = each.get();
                let parts = (source.bind(py), to.bind(py), r#ref.bind(py));
                if self.write_packed_down(signal, parts, reason.bind(py), queue)? {
                    return Ok(());
                }
                if let Some(common) = with_reference(Kind::Down, DOWN, parts, Some(reason.bind(py)))? {
                    return self.write_common(py, &common, queue);
                }
            }
        } else if signal.get_type().as_ptr() == Pure::get(py)?.spawn_reply.as_ptr()
            && self.write_packed_spawn_reply(signal, queue)?
        {
            return Ok(());
        }
        self.write_other(signal, None, queue)
    }

    fn send_to_pid<'a, 'py>(
        &self,
        sender: &'a Bound<'py, PyAny>,
        to: &'a Bound<'py, PyAny>,
        message: &'a Bound<'py, PyAny>,
    ) -> PyResult<Option<Common<'a, 'py>>> {
        let context = Context::get(sender.py())?;
        let first = match sender.is_none() {
            true => Identity::Nothing,
            false => match Identity::of(context, sender) {
                Some(identity @ Identity::Pid(..)) => identity,
                _ => return Ok(None),
            },
        };
        let Some(second @ Identity::Pid(..)) = Identity::of(context, to) else {
            return Ok(None);
        };
        let has_sender = first != Identity::Nothing && self.has(FLAG_SEND_SENDER);
        Ok(Some(Common {
            op: if has_sender { SEND_SENDER } else { SEND },
            elements: [has_sender.then_some(sender), Some(to), None],
            count: 2,
            reference: None,
            message: Some(message),
            key: Key::new(Kind::Send, first, second, None),
            owners: [Some(sender), Some(to), None],
        }))
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
            encode_or_pure(py, message, &mut self.message, &mut FixedRefs(&prefix.atoms))?;
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
                Some(element) => encode_or_pure(py, element, &mut self.control, refs)?,
                None => encode_or_pure(py, &Context::get(py)?.atom(py, b"")?, &mut self.control, refs)?,
            }
        }
        if let Some(reference) = common.reference {
            encode_or_pure(py, reference.as_any(), &mut self.control, refs)?;
        }
        refs.encoding_message = true;
        match common.message {
            Some(message) => encode_or_pure(py, message, &mut self.message, refs),
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
            encode_or_pure(py, &control, &mut self.control, &mut refs)?;
            refs.encoding_message = true;
            match has_message {
                true => encode_or_pure(py, &message, &mut self.message, &mut refs),
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
    fn write_packed_down(
        &mut self,
        signal: &Bound<'_, PyAny>,
        (source, to, reference): (&Bound<'_, PyAny>, &Bound<'_, PyAny>, &Bound<'_, PyAny>),
        reason: &Bound<'_, PyAny>,
        queue: &Mutex<SendQueue>,
    ) -> PyResult<bool> {
        let Some((child, parent, reference)) = self.spawned_by_peer(source, to, reference) else {
            return Ok(false);
        };
        let mut control = Vec::with_capacity(64);
        control.extend_from_slice(&[SMALL_TUPLE, 4, SMALL_INTEGER, DOWN]);
        put_pid(&mut control, LOCAL, child);
        put_pid(&mut control, PEER, parent);
        put_ref(&mut control, reference);
        let key = Key::new(Kind::PackedDown, Identity::Nothing, Identity::Nothing, None);
        if !self.write_cached(signal.py(), &key, &control, Some(reason), queue)? {
            self.write_other(signal, Some((key, control.len())), queue)?;
        }
        Ok(true)
    }

    /// Write the packed SPAWN_REPLY to a process of the peer. Return false if this is not one.
    fn write_packed_spawn_reply(&mut self, signal: &Bound<'_, PyAny>, queue: &Mutex<SendQueue>) -> PyResult<bool> {
        let get = |name: &str| signal.getattr(name);
        let (reference, to, flags, result) = (get("ref")?, get("to")?, get("flags")?, get("result")?);
        let Some((child, parent, reference)) = self.spawned_by_peer(&result, &to, &reference) else {
            return Ok(false);
        };
        let Ok(flags) = flags.extract::<u8>() else {
            return Ok(false);
        };
        if !get("token")?.is_none() {
            return Ok(false);
        }
        let mut control = Vec::with_capacity(64);
        control.extend_from_slice(&[SMALL_TUPLE, 5, SMALL_INTEGER, SPAWN_REPLY]);
        put_ref(&mut control, reference);
        put_pid(&mut control, PEER, parent);
        control.extend_from_slice(&[SMALL_INTEGER, flags]);
        put_pid(&mut control, LOCAL, child);
        let key = Key::new(Kind::PackedSpawnReply, Identity::Nothing, Identity::Nothing, None);
        if !self.write_cached(signal.py(), &key, &control, None, queue)? {
            self.write_other(signal, Some((key, control.len())), queue)?;
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

fn send_to_name<'a, 'py>(
    sender: &'a Bound<'py, PyAny>,
    name: &'a Bound<'py, PyAny>,
    message: &'a Bound<'py, PyAny>,
) -> PyResult<Option<Common<'a, 'py>>> {
    let context = Context::get(sender.py())?;
    let Some(first @ Identity::Pid(..)) = Identity::of(context, sender) else {
        return Ok(None);
    };
    let Some(second @ Identity::Atom(_)) = Identity::of(context, name) else {
        return Ok(None);
    };
    Ok(Some(Common {
        op: REG_SEND,
        elements: [Some(sender), None, Some(name)],
        count: 3,
        reference: None,
        message: Some(message),
        key: Key::new(Kind::Send, first, second, None),
        owners: [Some(sender), Some(name), None],
    }))
}

fn send_to_alias<'a, 'py>(
    sender: &'a Bound<'py, PyAny>,
    alias: &'a Bound<'py, PyAny>,
    message: &'a Bound<'py, PyAny>,
) -> PyResult<Option<Common<'a, 'py>>> {
    let context = Context::get(sender.py())?;
    let Some(first @ Identity::Pid(..)) = Identity::of(context, sender) else {
        return Ok(None);
    };
    let Some(reference) = cached_reference(alias) else {
        return Ok(None);
    };
    Ok(Some(Common {
        op: ALIAS_SEND,
        elements: [Some(sender), None, None],
        count: 1,
        reference: Some(reference),
        message: Some(message),
        key: Key::new(Kind::Alias, first, Identity::Nothing, Some(reference.get())),
        owners: [Some(sender), Some(alias), None],
    }))
}

/// A control tuple of two pids or names and a reference.
fn with_reference<'a, 'py>(
    kind: Kind,
    op: u8,
    (first, second, reference): (&'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>),
    message: Option<&'a Bound<'py, PyAny>>,
) -> PyResult<Option<Common<'a, 'py>>> {
    let context = Context::get(first.py())?;
    let identities = (Identity::of(context, first), Identity::of(context, second));
    let ((Some(first_identity), Some(second_identity)), Some(owner)) = (identities, cached_reference(reference)) else {
        return Ok(None);
    };
    Ok(Some(Common {
        op,
        elements: [Some(first), Some(second), None],
        count: 2,
        reference: Some(owner),
        message,
        key: Key::new(kind, first_identity, second_identity, Some(owner.get())),
        owners: [Some(first), Some(second), Some(reference)],
    }))
}

/// Return the reference if it has as many words as those whose prefixes are cached.
fn cached_reference<'a, 'py>(term: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Ref>> {
    let reference = term.cast_exact::<Ref>().ok()?;
    (reference.get().count == CACHED_WORDS).then_some(reference)
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

/// References that the pure encoder can ask for, too.
trait PureRefs: AtomRefs {
    fn count(&self) -> usize;
    fn truncate(&mut self, count: usize);
    fn encode_pure<'py>(&mut self, term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;
}

impl PureRefs for FixedRefs<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, _count: usize) {}

    fn encode_pure<'py>(&mut self, term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = term.py();
        let indexes = PyDict::new(py);
        for (index, atom) in self.0.iter().enumerate() {
            indexes.set_item(atom, index)?;
        }
        Pure::get(py)?.encode_term.bind(py).call1((term, indexes))
    }
}

impl PureRefs for HeaderRefs {
    fn count(&self) -> usize {
        self.atoms().len()
    }

    fn truncate(&mut self, count: usize) {
        self.forget_from(count);
    }

    fn encode_pure<'py>(&mut self, term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = term.py();
        let empty = HeaderRefs::new(WriterCells::default(), 0);
        let lent = Bound::new(py, LentRefs(Mutex::new(std::mem::replace(self, empty))))?;
        let result = Pure::get(py)?.encode_term.bind(py).call1((term, &lent));
        let empty = HeaderRefs::new(WriterCells::default(), 0);
        *self = std::mem::replace(&mut lock(&lent.get().0), empty);
        result
    }
}

/// The references of a header under construction, while the pure encoder asks for them.
#[pyclass(frozen, name = "References", module = "erlmesh_native")]
struct LentRefs(Mutex<HeaderRefs>);

#[pymethods]
impl LentRefs {
    #[pyo3(signature = (atom, default = None))]
    fn get(&self, py: Python<'_>, atom: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        match lock(&self.0).get(py, atom) {
            Some(index) => Ok(index.into_pyobject(py)?.into_any().unbind()),
            None => Ok(default.unwrap_or_else(|| py.None())),
        }
    }
}

/// Encode a term; if it is not a common one, with the pure encoder and the same references.
#[inline]
fn encode_or_pure(py: Python<'_>, term: &Bound<'_, PyAny>, out: &mut Out, refs: &mut impl PureRefs) -> PyResult<()> {
    let mark = out.mark();
    let count = refs.count();
    if encode(term, out, refs).is_ok() {
        return Ok(());
    }
    let _ = py;
    out.truncate(mark);
    refs.truncate(count);
    let data = refs.encode_pure(term)?.cast_into::<PyBytes>()?;
    out.binary(&data);
    Ok(())
}

#[inline]
fn check_length(py: Python<'_>, head: usize, message: usize, has_fragments: bool) -> PyResult<()> {
    let length = head + if has_fragments { 0 } else { message }; // a fragmented message has no limit
    if length > MAX_FRAME {
        Pure::get(py)?.check_length.bind(py).call1((length,))?;
    }
    Ok(())
}

/// Queue the frame of a header, a control tuple and a message of `size` bytes. With `sequence`, a long message is sent
/// in fragments.
#[inline]
fn append(
    py: Python<'_>,
    head: &[&[u8]],
    message: &mut Out,
    size: usize,
    sequence: Option<&mut u64>,
    queue: &Mutex<SendQueue>,
) {
    match sequence {
        Some(sequence) if size > MAX_UNFRAGMENTED => {
            *sequence += 1;
            append_fragments(py, head, message, size, *sequence, &mut lock(queue));
        }
        _ => {
            let length = head.iter().map(|part| part.len()).sum::<usize>() + size;
            let length = (length as u32).to_be_bytes();
            let mut queue = lock(queue);
            let mut parts: [&[u8]; 5] = [&length, &[], &[], &[], &[]];
            for (place, part) in parts.iter_mut().skip(1).zip(head) {
                *place = part;
            }
            if message.binaries.is_empty() {
                parts[4] = &message.bytes;
                queue.append(&parts);
                return;
            }
            queue.append(&parts);
            let mut done = 0;
            for binary in message.binaries.drain(..) {
                queue.append(&[message.bytes.get(done..binary.offset).unwrap_or_default()]);
                done = binary.offset;
                queue.append_binary(Binary::whole(py, binary.data));
            }
            queue.append(&[message.bytes.get(done..).unwrap_or_default()]);
        }
    }
}

/// Queue the frames of a long message, 64 KiB of it in each.
fn append_fragments(
    py: Python<'_>,
    head: &[&[u8]],
    message: &mut Out,
    size: usize,
    sequence: u64,
    queue: &mut SendQueue,
) {
    let head: Vec<u8> = head.concat();
    let head = head.get(2..).unwrap_or_default(); // without the bytes 131 68
    let mut left = size;
    let mut number = size.div_ceil(FRAGMENT_SIZE) as u64;
    let mut room = 0;
    let mut kind = FIRST_FRAGMENT;
    let mut put = |queue: &mut SendQueue, mut piece: &[u8], owner: Option<&Py<PyBytes>>| {
        while !piece.is_empty() {
            if room == 0 {
                room = left.min(FRAGMENT_SIZE);
                let head: &[u8] = if kind == FIRST_FRAGMENT { head } else { &[] };
                let length = (FRAGMENT_HEAD_SIZE + head.len() + room) as u32;
                let (sequence, number_bytes) = (sequence.to_be_bytes(), number.to_be_bytes());
                queue.append(&[&length.to_be_bytes(), &[VERSION, kind], &sequence, &number_bytes, head]);
                kind = FRAGMENT;
                number -= 1;
            }
            let (now, rest) = piece.split_at(room.min(piece.len()));
            match owner {
                Some(owner) if now.len() >= BY_REFERENCE => {
                    queue.append_binary(Binary::part(owner.clone_ref(py), now));
                }
                _ => queue.append(&[now]),
            }
            room -= now.len();
            left -= now.len();
            piece = rest;
        }
    };
    let mut done = 0;
    for binary in message.binaries.drain(..) {
        put(queue, message.bytes.get(done..binary.offset).unwrap_or_default(), None);
        done = binary.offset;
        put(queue, binary.data.as_bytes(py), Some(&binary.data));
    }
    put(queue, message.bytes.get(done..).unwrap_or_default(), None);
}
