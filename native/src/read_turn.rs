//! What the event loop does when a socket has data: one read, the steps of the processes that it wakes up, one write.
//!
//! `DistProtocol.run_read`, `DistSocket` and `Channel.read` of erlmesh are the reference. This does the same for a usual
//! turn without Python code. What is unusual goes to their code: an error, the end of the stream, a tick, a long read,
//! signals that were not delivered directly, and a connection that is full, closing or suspended.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyList};
use pyo3::{ffi, intern, IntoPyObjectExt};

use crate::ffi_tools::{GilCell, Slot};
use crate::send_queue::lock;
use crate::wakeups::Wakeups;
use crate::watchdog::Link;
use crate::wire::{monotonic, Wire};

/// What was read and written since the last call of `take_counts`.
#[derive(Clone, Copy, Default)]
struct Counts {
    bytes_in: usize,
    signals_in: usize,
    read_at: f64,
    bytes_out: usize,
    written_at: f64,
}

/// Attributes of `DistProtocol`.
struct ProtocolSlots {
    in_read: Slot,
    flush_scheduled: Slot,
    open_channel: Slot,
    is_paused: Slot,
    busy: Slot,
    postponed: Slot,
    unfinished: Slot,
    turn_size: Slot,
    write_at: Slot,
}

/// Attributes of `DistSocket`, and one of `ReadPauses`.
struct SocketSlots {
    closing: Slot,
    detached: Slot,
    pauses: Slot,
    is_paused: Slot,
}

#[pyclass(frozen, module = "erlmesh_native")]
pub struct ReadTurn {
    protocol: Py<PyAny>,
    socket: Py<PyAny>,
    channel: Py<PyAny>,
    wire: Py<Wire>,
    link: Py<Link>,
    wakeups: Py<Wakeups>,
    fd: i32,
    /// Bytes of a read from which it may be a part of a stream.
    min_read: usize,
    /// Bytes of unfinished messages above which they count.
    counted_from: usize,
    /// The bytes that may be queued in the next iteration before they are written.
    write_threshold: Py<PyAny>,
    protocol_slots: ProtocolSlots,
    socket_slots: SocketSlots,
    lost: Slot,
    counts: GilCell<Counts>,
    /// The method `time` of an event loop whose clock is not the monotonic clock of the system.
    clock: Option<Py<PyAny>>,
    /// A list for the signals of the next read: that of the last one if it had none.
    spare: GilCell<Option<Py<PyList>>>,
}

#[pymethods]
impl ReadTurn {
    /// `objects` are the DistProtocol, its DistSocket, its Channel, and the class ReadPauses. `fd` is the descriptor of the
    /// socket. `limits` are MIN_READ, COUNTED_FROM and WRITE_THRESHOLD. `clock` returns the time of the event loop; None
    /// if that is the monotonic clock.
    #[new]
    fn new(
        objects: [Bound<'_, PyAny>; 4],
        parts: (Py<Wire>, Py<Link>, Py<Wakeups>),
        fd: i32,
        limits: (usize, usize, Py<PyAny>),
        clock: Option<Py<PyAny>>,
    ) -> PyResult<ReadTurn> {
        let [protocol, socket, channel, pauses_class] = objects;
        let (protocol_class, socket_class) = (protocol.get_type(), socket.get_type());
        let of_protocol = |name| Slot::new(&protocol_class, name);
        let of_socket = |name| Slot::new(&socket_class, name);
        let lost = Slot::new(&channel.get_type(), "lost")?;
        let (wire, link, wakeups) = parts;
        let (min_read, counted_from, write_threshold) = limits;
        Ok(ReadTurn {
            protocol: protocol.unbind(),
            socket: socket.unbind(),
            channel: channel.unbind(),
            wire,
            link,
            wakeups,
            fd,
            min_read,
            counted_from,
            write_threshold,
            protocol_slots: ProtocolSlots {
                in_read: of_protocol("_in_read")?,
                flush_scheduled: of_protocol("_flush_scheduled")?,
                open_channel: of_protocol("_open_channel")?,
                is_paused: of_protocol("_is_paused")?,
                busy: of_protocol("busy")?,
                postponed: of_protocol("_postponed")?,
                unfinished: of_protocol("_unfinished")?,
                turn_size: of_protocol("_turn_size")?,
                write_at: of_protocol("_write_at")?,
            },
            socket_slots: SocketSlots {
                closing: of_socket("_closing")?,
                detached: of_socket("_detached")?,
                pauses: of_socket("_pauses")?,
                is_paused: Slot::new(&pauses_class, "is_paused")?,
            },
            lost,
            clock,
            counts: GilCell::default(),
            spare: GilCell::default(),
        })
    }

    /// Read once, and do what follows. This is the callback of the event loop.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let (protocol, slots) = (self.protocol.bind(py), &self.protocol_slots);
        if is_true(&slots.in_read, protocol)? {
            return self.read(py);
        }
        set_flag(&slots.in_read, protocol, true)?;
        set_flag(&slots.flush_scheduled, protocol, true)?; // what is sent meanwhile leaves below, in one write
        let result = Wakeups::round(self.wakeups.bind(py), || self.read(py));
        set_flag(&slots.in_read, protocol, false)?;
        let ended = self.end(py);
        result.and(ended)
    }

    /// Return the bytes and signals received, the time of the last read, the bytes written and the time of the last
    /// write, since the last call.
    fn take_counts(&self, py: Python<'_>) -> (usize, usize, f64, usize, f64) {
        // SAFETY: nothing here runs Python code or drops an object.
        let counts = unsafe { self.counts.with(py, std::mem::take) };
        (
            counts.bytes_in,
            counts.signals_in,
            counts.read_at,
            counts.bytes_out,
            counts.written_at,
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // There is no `__clear__`: every cycle goes through the attributes of the protocol and the socket.
        visit.call(&self.protocol)?;
        visit.call(&self.socket)?;
        visit.call(&self.channel)?;
        visit.call(&self.wire)?;
        visit.call(&self.wakeups)?;
        visit.call(&self.clock)
    }
}

impl ReadTurn {
    fn read(&self, py: Python<'_>) -> PyResult<()> {
        if is_true(&self.lost, self.channel.bind(py))? {
            return self.socket.bind(py).call_method0(intern!(py, "_on_readable")).map(drop);
        }
        let wire = self.wire.get();
        // SAFETY: nothing here runs Python code or drops an object.
        let spare = unsafe { self.spare.with(py, Option::take) };
        let signals = spare.map_or_else(|| PyList::empty(py), |list| list.into_bound(py));
        let ticks = wire.ticks_in();
        match wire.read(self.fd, &signals) {
            Ok(size @ 1..) if wire.ticks_in() == ticks => self.after_read(py, size, signals),
            Ok(size) => self.unusual(py, size, signals, ticks),
            Err(error) => self.unusual(py, error.into_value(py), signals, ticks),
        }
    }

    #[cold]
    fn unusual<'py>(
        &self,
        py: Python<'py>,
        result: impl IntoPyObject<'py>,
        signals: Bound<'py, PyList>,
        ticks: u64,
    ) -> PyResult<()> {
        let result = result.into_bound_py_any(py)?;
        let name = intern!(py, "_unusual_read");
        let protocol = self.protocol.bind(py);
        protocol.call_method1(name, (result, signals, ticks)).map(drop)
    }

    #[inline]
    fn after_read(&self, py: Python<'_>, size: usize, signals: Bound<'_, PyList>) -> PyResult<()> {
        let (count, now) = (signals.len(), self.now(py)?);
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe {
            self.counts.with(py, |counts| {
                counts.bytes_in += size;
                counts.signals_in += count;
                counts.read_at = now;
            });
        }
        let socket = self.socket.bind(py);
        if size >= self.min_read || self.is_reading_paused(py)? {
            let pauses = value(&self.socket_slots.pauses, socket)?;
            if !pauses.is_none() {
                pauses.call_method1(intern!(py, "after_read"), (size, self.wire.get().signals_out()))?;
            }
        }
        if count > 0 {
            let name = intern!(py, "_pass_on");
            return socket.call_method1(name, (PyBytes::new(py, b""), signals)).map(drop);
        }
        // SAFETY: as above: the old list is moved out.
        let _old = unsafe { self.spare.with(py, |spare| spare.replace(signals.unbind())) };
        Ok(())
    }

    /// Write what was sent in this turn.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let protocol = self.protocol.bind(py);
        if !self.is_usual(py)? {
            return protocol.call_method0(intern!(py, "_end_read")).map(drop);
        }
        let io = &self.wire.get().io;
        let mut is_written = true;
        if lock(&io.queue).size() > 0 {
            let size = self.link.get().flush();
            if size > 0 {
                self.note_write(py, size)?;
            } else {
                self.socket.bind(py).call_method0(intern!(py, "flush"))?; // the socket is full or broken
            }
            is_written = lock(&io.queue).size() == 0;
        }
        let wire = self.wire.get();
        if !is_written || wire.is_decoding() || wire.buffered() > self.counted_from {
            return protocol.call_method0(intern!(py, "_end_read")).map(drop);
        }
        set(&self.protocol_slots.write_at, protocol, self.write_threshold.bind(py))?;
        set_flag(&self.protocol_slots.flush_scheduled, protocol, false)
    }

    fn note_write(&self, py: Python<'_>, size: usize) -> PyResult<()> {
        let now = match &self.clock {
            Some(_) => self.now(py)?,
            None => self.wire.get().io.last_written_at(),
        };
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe {
            self.counts.with(py, |counts| {
                counts.bytes_out += size;
                counts.written_at = now;
            });
        }
        Ok(())
    }

    #[inline]
    fn now(&self, py: Python<'_>) -> PyResult<f64> {
        match &self.clock {
            Some(clock) => clock.bind(py).call0()?.extract(),
            None => Ok(monotonic()),
        }
    }

    /// Whether `DistProtocol._end_read` would do nothing but write.
    #[inline]
    fn is_usual(&self, py: Python<'_>) -> PyResult<bool> {
        let (protocol, socket) = (self.protocol.bind(py), self.socket.bind(py));
        let (of_protocol, of_socket) = (&self.protocol_slots, &self.socket_slots);
        Ok(!value(&of_protocol.open_channel, protocol)?.is_none()
            && !is_true(&of_protocol.is_paused, protocol)?
            && !is_true(&of_protocol.busy, protocol)?
            && !is_true(&of_protocol.postponed, protocol)?
            && !is_true(&of_protocol.unfinished, protocol)?
            && !is_true(&of_protocol.turn_size, protocol)?
            && !is_true(&of_socket.closing, socket)?
            && !is_true(&of_socket.detached, socket)?
            && !self.is_reading_paused(py)?)
    }

    /// Whether the socket waits until more of a stream has arrived.
    #[inline]
    fn is_reading_paused(&self, py: Python<'_>) -> PyResult<bool> {
        let pauses = value(&self.socket_slots.pauses, self.socket.bind(py))?;
        Ok(!pauses.is_none() && is_true(&self.socket_slots.is_paused, &pauses)?)
    }
}

#[inline]
fn value<'py>(slot: &Slot, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    slot.get(object).ok_or_else(|| PyErr::fetch(object.py()))
}

#[inline]
fn is_true(slot: &Slot, object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let value = value(slot, object)?;
    // SAFETY: both are borrowed and compared only.
    unsafe {
        if value.as_ptr() == ffi::Py_False() {
            return Ok(false);
        }
    }
    value.is_truthy()
}

#[inline]
fn set(slot: &Slot, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match slot.set(object, value) {
        true => Ok(()),
        false => Err(PyErr::take(object.py()).unwrap_or_else(|| PyRuntimeError::new_err("a slot cannot be set"))),
    }
}

#[inline]
fn set_flag(slot: &Slot, object: &Bound<'_, PyAny>, flag: bool) -> PyResult<()> {
    set(slot, object, &PyBool::new(object.py(), flag).to_owned().into_any())
}
