//! The receiving side of a connection: bytes to signals.
//!
//! It reads what `erlmesh.proto.frame_reader` describes. A frame that is invalid goes to the pure reader, which raises
//! the error. A control tuple or a message that is rare goes to the pure decoder with the same bytes and atoms.

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::atom_cache::ReaderCells;
use crate::control_terms::{read_name, read_other, read_pid, read_pid_or_name, read_ref};
use crate::decode::{decode, decode_in_two_parts, GiveUp};
use crate::direct_delivery::{ByAlias, DirectDelivery};
use crate::element_count::{first_beyond, UNCOUNTED_PART};
use crate::fragments::Reassembly;
use crate::mailbox::Mailbox;
use crate::pure::Pure;
use crate::signals::{DemonitorSignal, DownSignal, MonitorSignal, SendAliasSignal, SendNameSignal, SendSignal};
use crate::spawn_signals::read_spawn_signal;
use crate::special_messages::is_special;
use crate::terms::Pid;
use crate::wait::Wait;
use crate::wire_format::{
    ALIAS_SEND, DEMONITOR_P, DOWN, FIRST_FRAGMENT, FLAG_ATOM_CACHE, FLAG_FRAGMENTS, FRAGMENT, FRAGMENT_HEAD_SIZE,
    MONITOR_P, NORMAL, PASS_THROUGH, REG_SEND, SEND_SENDER, SMALL_INTEGER, SMALL_TUPLE, SPAWN_REPLY, SPAWN_REQUEST,
    VERSION,
};

/// A message with more elements is decoded in slices, if the caller allows it.
const SLICED_ELEMENTS: usize = 1 << 16;
/// Bytes of a message up to which it is not counted for this: it is decoded quickly, whatever it holds.
const NEVER_SLICED: usize = SLICED_ELEMENTS / UNCOUNTED_PART;

pub struct FrameReader {
    peer: Py<PyAny>,
    flags: Py<PyAny>,
    max_frame: usize,
    max_unfinished: usize,
    max_elements: usize,
    has_fragments: bool,
    has_header: bool,
    cells: ReaderCells,
    reassembly: Reassembly,
    /// The atoms of the current frame. It is kept for its capacity.
    atoms: Vec<Py<PyAny>>,
    /// Frames of length 0 received.
    pub ticks: u64,
    /// Where signals are applied that no signal object of the same read precedes. None: all become objects.
    pub direct: Option<Py<DirectDelivery>>,
    /// The frame that is decoded now is not preceded by a signal of the same read.
    is_first: bool,
    /// Signals that were applied directly.
    pub delivered: u64,
    /// Long messages are decoded in slices.
    pub allows_slices: bool,
    /// Decodes the message that is decoded in slices now, and the bytes of its frame.
    slices: Option<(Py<PyAny>, usize)>,
}

impl FrameReader {
    /// `limits` are those of a frame, of all unfinished sequences, and of the elements of a message.
    pub fn new(peer: Py<PyAny>, flags: Py<PyAny>, bits: u64, limits: (usize, usize, usize)) -> Self {
        let (max_frame, max_unfinished, max_elements) = limits;
        FrameReader {
            peer,
            flags,
            max_frame,
            max_unfinished,
            max_elements,
            has_fragments: bits & FLAG_FRAGMENTS != 0,
            has_header: bits & (FLAG_FRAGMENTS | FLAG_ATOM_CACHE) != 0,
            cells: ReaderCells::default(),
            reassembly: Reassembly::new(max_unfinished),
            atoms: Vec::new(),
            ticks: 0,
            direct: None,
            is_first: false,
            delivered: 0,
            allows_slices: false,
            slices: None,
        }
    }

    /// Bytes of unfinished fragment sequences, and of a message that is decoded in slices.
    pub fn buffered(&self) -> usize {
        self.reassembly.buffered() + self.slices.as_ref().map_or(0, |(_, size)| *size)
    }

    /// Forget the unfinished fragment sequences and a message that is decoded in slices. Return them to be dropped.
    pub fn take_unfinished(&mut self) -> (Reassembly, Option<(Py<PyAny>, usize)>) {
        let sequences = std::mem::replace(&mut self.reassembly, Reassembly::new(self.max_unfinished));
        (sequences, self.slices.take())
    }

    /// A message is decoded in part. Nothing may be read before it is complete.
    pub fn is_decoding(&self) -> bool {
        self.slices.is_some()
    }

    /// Decode one more slice. Return whether the message is complete; its signal is appended then.
    pub fn decode_more(&mut self, signals: &Bound<'_, PyList>) -> PyResult<bool> {
        let py = signals.py();
        let Some((slices, size)) = self.slices.take() else {
            return Ok(false);
        };
        match slices.bind(py).call_method1(intern!(py, "send"), (py.None(),)) {
            Ok(_) => {
                self.slices = Some((slices, size));
                Ok(false)
            }
            Err(end) if end.is_instance_of::<PyStopIteration>(py) => {
                signals.append(end.value(py).getattr(intern!(py, "value"))?)?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Decode all complete frames and append their signals. `done` is then the offset of the first incomplete frame.
    ///
    /// Return the bytes from there on that must have arrived before another look is worth it.
    pub fn read(&mut self, data: &[u8], done: &mut usize, signals: &Bound<'_, PyList>) -> PyResult<usize> {
        let py = signals.py();
        while let Some(rest) = data.get(*done..) {
            let Some((length, frames)) = rest.split_first_chunk::<4>() else {
                break;
            };
            let length = u32::from_be_bytes(*length) as usize;
            if length > self.max_frame {
                return Err(self.too_long(py, length));
            }
            let Some(frame) = frames.get(..length) else {
                return Ok(length + 4);
            };
            *done += length + 4;
            if length == 0 {
                self.ticks += 1;
                continue;
            }
            self.is_first = self.direct.is_some() && signals.is_empty();
            let rest = data.get(*done..).unwrap_or_default();
            if let Some(signal) = self.read_frame(py, frame, rest, done)? {
                signals.append(signal)?;
            } else if self.slices.is_some() {
                break;
            }
        }
        Ok(4) // at most a part of a length field is left
    }

    #[cold]
    fn too_long(&self, py: Python<'_>, length: usize) -> PyErr {
        let raised = Pure::get(py).and_then(|pure| {
            pure.frame_too_long
                .bind(py)
                .call_method1("of", (length, self.max_frame))
        });
        raised.map_or_else(|error| error, PyErr::from_value)
    }

    #[cold]
    fn too_many(&self, py: Python<'_>, at: usize) -> PyErr {
        let raised = Pure::get(py).and_then(|pure| {
            pure.too_many_elements
                .bind(py)
                .call_method1("of", (self.max_elements, at))
        });
        raised.map_or_else(|error| error, PyErr::from_value)
    }

    /// Decode one frame without its length. Return None for a fragment that does not complete its message, and for a
    /// message that was delivered.
    ///
    /// If a fragment and the next frame, with which `rest` starts, are a whole message, `done` skips that frame.
    fn read_frame<'py>(
        &mut self,
        py: Python<'py>,
        frame: &[u8],
        rest: &[u8],
        done: &mut usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.has_header {
            if frame.first() == Some(&PASS_THROUGH) && frame.len() > self.uncounted() {
                if let Some(at) = first_beyond(frame, 1, self.counted_to(frame.len())) {
                    return self.too_long_to_decode_at_once(py, frame, 1, at, &[]);
                }
            }
            return self.read_pure(py, frame);
        }
        match frame {
            [VERSION, NORMAL, ..] => {
                let mut atoms = std::mem::take(&mut self.atoms);
                let mut pos = 2;
                let result = match self.cells.read(py, frame, &mut pos, &mut atoms) {
                    Ok(()) => self.read_terms(py, frame, pos, &[], &atoms),
                    Err(GiveUp) => self.read_pure(py, frame),
                };
                atoms.clear();
                self.atoms = atoms;
                result
            }
            [VERSION, FIRST_FRAGMENT | FRAGMENT, ..] if self.has_fragments => self.read_fragment(py, frame, rest, done),
            _ => self.read_pure(py, frame),
        }
    }

    fn read_fragment<'py>(
        &mut self,
        py: Python<'py>,
        frame: &[u8],
        rest: &[u8],
        done: &mut usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let added = if frame.get(1) == Some(&FRAGMENT) {
            self.reassembly.add_next(frame)
        } else {
            let mut atoms = Vec::new();
            let mut pos = FRAGMENT_HEAD_SIZE;
            match self.cells.read(py, frame, &mut pos, &mut atoms) {
                Ok(()) => {
                    let size = frame.len().saturating_sub(pos);
                    if let Some((tail, skipped)) = self.reassembly.second_of_two(frame, size, rest, self.max_frame) {
                        // A BEAM sends a binary of 64 KiB in two fragments, of which the second has some bytes.
                        *done += skipped;
                        return self.read_terms(py, frame, pos, tail, &atoms);
                    }
                    self.reassembly.add_first(frame, pos, atoms)
                }
                Err(give_up) => Err(give_up),
            }
        };
        match added {
            Ok(Some((atoms, whole))) => self.read_terms(py, &whole, 0, &[], &atoms),
            Ok(None) => Ok(None),
            Err(GiveUp) => self.read_pure(py, frame),
        }
    }

    /// Let a pure reader in the same state read the frame. It raises the error of an invalid frame.
    #[cold]
    fn read_pure<'py>(&self, py: Python<'py>, frame: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let cells = PyDict::new(py);
        for (cell, atom) in self.cells.filled(py) {
            cells.set_item(cell, atom)?;
        }
        let limits = (self.max_frame, self.max_unfinished, self.max_elements);
        let reader = Pure::get(py)?.frame_reader.bind(py).call_method1(
            "restored",
            (&self.peer, &self.flags, limits, cells, self.reassembly.state()),
        )?;
        let signal = reader.call_method1("read_frame", (copied(py, frame)?,))?;
        Ok((!signal.is_none()).then_some(signal))
    }

    /// Bytes of a message up to which its elements are not counted.
    fn uncounted(&self) -> usize {
        let part = self.max_elements / UNCOUNTED_PART;
        if self.allows_slices {
            part.min(NEVER_SLICED)
        } else {
            part
        }
    }

    /// Up to which number the elements of a message of `size` bytes are counted.
    fn counted_to(&self, size: usize) -> usize {
        if self.allows_slices && size > NEVER_SLICED {
            self.max_elements.min(SLICED_ELEMENTS)
        } else {
            self.max_elements
        }
    }

    /// Decode a message in slices later, or refuse it. The element at `at` is the first that is too many.
    #[cold]
    fn too_long_to_decode_at_once<'py>(
        &mut self,
        py: Python<'py>,
        frame: &[u8],
        pos: usize,
        at: usize,
        atoms: &[Py<PyAny>],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.allows_slices || frame.len().saturating_sub(pos) <= NEVER_SLICED {
            return Err(self.too_many(py, at));
        }
        let atoms = PyTuple::new(py, atoms)?;
        let arguments = (copied(py, frame)?, pos, atoms, &self.peer, self.max_elements);
        let slices = Pure::get(py)?.read_in_slices.bind(py).call1(arguments)?;
        self.slices = Some((slices.unbind(), frame.len()));
        Ok(None)
    }

    /// Decode the control tuple and the message. Return None for a message that was delivered, or that is decoded in
    /// slices.
    ///
    /// The bytes are those of `frame` from `pos` on, and `tail`.
    fn read_terms<'py>(
        &mut self,
        py: Python<'py>,
        frame: &[u8],
        pos: usize,
        tail: &[u8],
        atoms: &[Py<PyAny>],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let op = frame.get(pos + 3).copied().unwrap_or_default();
        let size = frame.len().saturating_sub(pos) + tail.len();
        if size > self.uncounted() {
            // A short tail is decoded quickly. Often it is the end of a binary.
            let is_exact =
                tail.is_empty() || (tail.len() <= NEVER_SLICED && size <= self.max_elements / UNCOUNTED_PART);
            let beyond = is_exact.then(|| first_beyond(frame, pos, self.counted_to(size)));
            match beyond {
                Some(None) => (),
                Some(Some(at)) if tail.is_empty() => {
                    return self.too_long_to_decode_at_once(py, frame, pos, at, atoms);
                }
                _ => {
                    let whole = [frame.get(pos..).unwrap_or_default(), tail].concat();
                    return self.read_terms(py, &whole, 0, &[], atoms);
                }
            }
        }
        if !tail.is_empty() {
            if matches!(op, REG_SEND | SEND_SENDER | ALIAS_SEND) {
                if let Ok(signal) = self.read_common(py, frame, pos, tail, atoms) {
                    return Ok(signal);
                }
            }
            let whole = [frame.get(pos..).unwrap_or_default(), tail].concat();
            return self.read_terms(py, &whole, 0, &[], atoms);
        }
        if matches!(op, REG_SEND | MONITOR_P | DEMONITOR_P | SEND_SENDER | DOWN | ALIAS_SEND) {
            if let Ok(signal) = self.read_common(py, frame, pos, tail, atoms) {
                return Ok(signal);
            }
        } else if matches!(op, SPAWN_REQUEST | SPAWN_REPLY) {
            if let Ok(signal) = read_spawn_signal(frame, pos, atoms, self.peer.bind(py)) {
                return Ok(Some(signal));
            }
        } else if let Ok((control, message)) = read_other(py, frame, pos, atoms) {
            let pure = Pure::get(py)?;
            let message = message.unwrap_or_else(|| pure.no_message.bind(py).clone());
            return pure
                .decode_control
                .bind(py)
                .call1((control, message, &self.peer))
                .map(Some);
        }
        let atoms = PyTuple::new(py, atoms)?;
        Pure::get(py)?
            .read_terms
            .bind(py)
            .call1((copied(py, frame)?, pos, atoms, &self.peer))?
            .get_item(0)
            .map(Some)
    }

    /// Decode one of the common signals. Return None for a message that was delivered.
    #[inline]
    fn read_common<'py>(
        &mut self,
        py: Python<'py>,
        frame: &[u8],
        pos: usize,
        tail: &[u8],
        atoms: &[Py<PyAny>],
    ) -> Result<Option<Bound<'py, PyAny>>, GiveUp> {
        let Some(&[SMALL_TUPLE, arity, SMALL_INTEGER, op]) = frame.get(pos..pos + 4) else {
            return Err(GiveUp);
        };
        let mut pos = pos + 4;
        match (op, arity) {
            (SEND_SENDER, 3) => {
                let sender = read_pid(py, frame, &mut pos, atoms)?;
                let to = read_pid(py, frame, &mut pos, atoms)?;
                let message = decode_in_two_parts(py, frame, pos, tail, atoms)?.unbind();
                if let Some(mailbox) = self.direct_to_pid(py, &to, &message) {
                    return self.deliver(&mailbox, message);
                }
                made(
                    py,
                    SendSignal {
                        sender,
                        to,
                        message,
                        token: py.None(),
                    },
                )
            }
            (REG_SEND, 4) => {
                let sender = read_pid(py, frame, &mut pos, atoms)?;
                decode(py, frame, &mut pos, atoms)?; // unused
                let name = read_name(py, frame, &mut pos, atoms)?;
                let message = decode_in_two_parts(py, frame, pos, tail, atoms)?.unbind();
                if let Some(mailbox) = self.direct_to_name(py, &name, &message) {
                    return self.deliver(&mailbox, message);
                }
                made(
                    py,
                    SendNameSignal {
                        sender,
                        name,
                        message,
                        token: py.None(),
                    },
                )
            }
            (ALIAS_SEND, 3) => {
                let sender = read_pid(py, frame, &mut pos, atoms)?;
                let alias = read_ref(py, frame, &mut pos, atoms)?;
                let message = decode_in_two_parts(py, frame, pos, tail, atoms)?.unbind();
                if self.deliver_to_alias(py, &alias, &message) {
                    return Ok(None);
                }
                made(
                    py,
                    SendAliasSignal {
                        sender,
                        alias,
                        message,
                        token: py.None(),
                    },
                )
            }
            (MONITOR_P | DEMONITOR_P, 4) => {
                let sender = read_pid(py, frame, &mut pos, atoms)?;
                if !self.is_of_peer(py, &sender) {
                    return Err(GiveUp);
                }
                let target = read_pid_or_name(py, frame, &mut pos, atoms)?;
                let r#ref = read_ref(py, frame, &mut pos, atoms)?;
                if self.is_monitor_applied(py, op, (&sender, &target, &r#ref)) {
                    return Ok(None);
                }
                if op == MONITOR_P {
                    made(py, MonitorSignal { sender, target, r#ref })
                } else {
                    made(py, DemonitorSignal { sender, target, r#ref })
                }
            }
            (DOWN, 4) => {
                let source = read_pid_or_name(py, frame, &mut pos, atoms)?;
                let to = read_pid(py, frame, &mut pos, atoms)?;
                let r#ref = read_ref(py, frame, &mut pos, atoms)?;
                let reason = decode(py, frame, &mut pos, atoms)?.unbind();
                made(
                    py,
                    DownSignal {
                        source,
                        to,
                        r#ref,
                        reason,
                    },
                )
            }
            _ => Err(GiveUp),
        }
    }

    fn direct_to_pid<'py>(&self, py: Python<'py>, to: &Term, message: &Term) -> Option<Bound<'py, Mailbox>> {
        let direct = self.direct.as_ref().filter(|_| self.is_first)?;
        let mailbox = direct.get().mailbox_of_pid(to.bind(py))?;
        (is_ordinary(py, message) && !mailbox.get().is_full(py)).then_some(mailbox)
    }

    fn direct_to_name<'py>(&self, py: Python<'py>, name: &Term, message: &Term) -> Option<Bound<'py, Mailbox>> {
        let direct = self.direct.as_ref().filter(|_| self.is_first)?;
        let mailbox = direct.get().mailbox_of_name(name.bind(py))?;
        (is_ordinary(py, message) && !mailbox.get().is_full(py)).then_some(mailbox)
    }

    /// Put a message into a mailbox. Nothing may follow that can give up: the message would be delivered twice.
    fn deliver<'py>(
        &mut self,
        mailbox: &Bound<'py, Mailbox>,
        message: Term,
    ) -> Result<Option<Bound<'py, PyAny>>, GiveUp> {
        self.delivered += 1;
        if let Err(error) = Mailbox::put(mailbox, message) {
            // The event loop is closed. The message is in the mailbox.
            error.write_unraisable(mailbox.py(), Some(mailbox.as_any()));
        }
        Ok(None)
    }

    /// Give a reply to the call that waits at an alias, or drop it. Return false if the router must do so. Nothing may follow that can
    /// give up.
    fn deliver_to_alias(&mut self, py: Python<'_>, alias: &Term, message: &Term) -> bool {
        let Some(direct) = self.direct.as_ref().filter(|_| self.is_first) else {
            return false;
        };
        let result = match direct.get().by_alias(alias.bind(py)) {
            ByAlias::Process => return false,
            ByAlias::Nowhere => Ok(()),
            ByAlias::Call(wait) => Wait::set_result(&wait, reply_in(message.bind(py))),
        };
        self.delivered += 1;
        if let Err(error) = result {
            // The event loop is closed.
            error.write_unraisable(py, Some(alias.bind(py)));
        }
        true
    }

    /// Apply a MONITOR_P or DEMONITOR_P. Return false if the router must do so.
    fn is_monitor_applied(
        &mut self,
        py: Python<'_>,
        op: u8,
        (sender, target, reference): (&Term, &Term, &Term),
    ) -> bool {
        let Some(direct) = self.direct.as_ref().filter(|_| self.is_first) else {
            return false;
        };
        let (sender, reference) = (sender.bind(py), reference.bind(py));
        let applied = match op {
            MONITOR_P => direct.get().monitor(sender, target.bind(py), reference),
            _ => direct.get().demonitor(reference, sender),
        };
        let is_applied = applied.unwrap_or_else(|error| {
            error.write_unraisable(py, Some(reference)); // there was no memory
            true
        });
        self.delivered += u64::from(is_applied);
        is_applied
    }

    fn is_of_peer(&self, py: Python<'_>, pid: &Py<PyAny>) -> bool {
        pid.bind(py)
            .cast_exact::<Pid>()
            .is_ok_and(|pid| pid.get().node.as_ptr() == self.peer.as_ptr())
    }
}

/// False for a special message: the router passes it on, because a process that never receives is answered for.
#[inline]
fn is_ordinary(py: Python<'_>, message: &Term) -> bool {
    match is_special(message.bind(py)) {
        Ok(special) => !special,
        Err(_) => false, // the router will fail with the same error, and can report it
    }
}

/// Copy bytes of any size. Without memory it raises MemoryError; `PyBytes::new` would panic.
fn copied<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, data.len(), |target| {
        target.copy_from_slice(data);
        Ok(())
    })
}

type Term = Py<PyAny>;

/// The reply in `{Tag, Reply}`; the whole message if it has another form.
fn reply_in<'py>(message: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    match message.cast_exact::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => pair.get_item(1).unwrap_or_else(|_| message.clone()),
        _ => message.clone(),
    }
}

fn made<'py, T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True>>(
    py: Python<'py>,
    signal: T,
) -> Result<Option<Bound<'py, PyAny>>, GiveUp>
where
    pyo3::PyClassInitializer<T>: From<T>,
{
    Bound::new(py, signal)
        .map(|signal| Some(signal.into_any()))
        .map_err(|_| GiveUp)
}
