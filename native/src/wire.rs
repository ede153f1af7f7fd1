//! One connection: bytes to signals, and signals to a queue of bytes. See `erlmesh.proto.wire`.
//!
//! Neither the reader nor the writer is borrowed or locked while Python code may run: a call takes it out and puts it
//! back. The locks of the queue and the buffer are held for native code only. So a thread without the GIL may write and
//! read while the event loop is blocked.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::direct_delivery::DirectDelivery;
use crate::ffi_tools::NoCollection;
use crate::frame_reader::FrameReader;
use crate::frame_writer::FrameWriter;
use crate::pure::Pure;
use crate::read_ahead::ReadAhead;
use crate::recv_buffer::RecvBuffer;
use crate::send_queue::{lock, SendQueue};
use crate::signals::SendSignal;

/// Received bytes from which the garbage collector is off while they are decoded. It would find nothing to free.
const LARGE_READ: usize = 4096;
pub const TICK: [u8; 4] = [0; 4];
/// In place of a descriptor: read what the watchdog thread has read.
const READ_AHEAD: RawFd = -1;

/// What a thread without the GIL may use.
#[derive(Default)]
pub struct Io {
    pub queue: Mutex<SendQueue>,
    pub received: Mutex<Received>,
    /// How many times the event loop has read.
    pub progress: AtomicU64,
    /// When data was written last, as the bits of seconds of the monotonic clock.
    last_written_at: AtomicU64,
}

/// Received data: first that of incomplete frames, then what the watchdog thread has read.
#[derive(Default)]
pub struct Received {
    buffer: RecvBuffer,
    pub ahead: ReadAhead,
}

impl Io {
    pub fn write(&self, fd: RawFd) -> io::Result<usize> {
        let written = lock(&self.queue).write(fd)?;
        if written > 0 {
            self.note_write();
        }
        Ok(written)
    }

    pub fn note_write(&self) {
        self.last_written_at.store(monotonic().to_bits(), Ordering::Relaxed);
    }

    /// Seconds of the monotonic clock; 0 if nothing was written.
    pub fn last_written_at(&self) -> f64 {
        f64::from_bits(self.last_written_at.load(Ordering::Relaxed))
    }

    /// Drop binaries that are written. The caller holds the GIL, and none of the locks.
    pub fn drop_finished(&self) {
        let finished = lock(&self.queue).take_finished();
        drop(finished);
    }
}

impl Received {
    fn read(&mut self, fd: RawFd) -> io::Result<usize> {
        if fd == READ_AHEAD {
            return Ok(self.buffer.read_ahead(&mut self.ahead));
        }
        if self.ahead.size() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.buffer.read(fd)
    }
}

pub fn monotonic() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure that it gets.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[pyclass(frozen, module = "erlmesh_native")]
pub struct Wire {
    /// None while a call uses it.
    reader: Mutex<Option<Box<FrameReader>>>,
    writer: Mutex<Option<Box<FrameWriter>>>,
    pub io: Arc<Io>,
    flags: Py<PyAny>,
    ticks_in: AtomicU64,
    last_read: AtomicUsize,
    delivered: AtomicU64,
    signals_out: AtomicU64,
    /// Bytes of unfinished fragment sequences, and of a message that is decoded in slices.
    unfinished: AtomicUsize,
    is_decoding: AtomicBool,
}

#[pymethods]
impl Wire {
    #[new]
    fn new(
        peer: Bound<'_, PyAny>,
        local_name: Bound<'_, PyAny>,
        flags: Bound<'_, PyAny>,
        limits: (usize, usize, usize),
    ) -> PyResult<Wire> {
        let bits = flags.extract::<u64>()?;
        let (peer, flags) = (peer.unbind(), flags.unbind());
        let py = local_name.py();
        let nodes = [local_name.unbind(), peer.clone_ref(py)];
        let reader = FrameReader::new(peer.clone_ref(py), flags.clone_ref(py), bits, limits);
        Ok(Wire {
            reader: Mutex::new(Some(Box::new(reader))),
            writer: Mutex::new(Some(Box::new(FrameWriter::new(nodes, flags.clone_ref(py), bits)))),
            io: Arc::new(Io::default()),
            flags,
            ticks_in: AtomicU64::new(0),
            last_read: AtomicUsize::new(0),
            delivered: AtomicU64::new(0),
            signals_out: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            is_decoding: AtomicBool::new(false),
        })
    }

    /// From now on, put messages directly into the mailboxes of processes that `direct` knows, until a read has a
    /// signal of another kind.
    fn deliver_to(&self, direct: Py<DirectDelivery>) -> PyResult<()> {
        let mut reader = self.take_reader()?;
        reader.direct = Some(direct);
        self.put_back(reader);
        Ok(())
    }

    /// From now on, decode long messages in slices.
    fn allow_slices(&self) -> PyResult<()> {
        let mut reader = self.take_reader()?;
        reader.allows_slices = true;
        self.put_back(reader);
        Ok(())
    }

    /// A message is decoded in part. Call `decode_more`, and receive nothing before it is complete.
    #[getter]
    pub fn is_decoding(&self) -> bool {
        self.is_decoding.load(Ordering::Relaxed)
    }

    /// Decode one more slice. If that completes the message, append its signal and those of the data behind it.
    fn decode_more(&self, signals: &Bound<'_, PyList>) -> PyResult<()> {
        let mut reader = self.take_reader()?;
        let result = match reader.decode_more(signals) {
            Ok(true) => self.decode_received(&mut reader, signals),
            other => other.map(drop),
        };
        self.put_back(reader);
        result
    }

    /// Messages that were delivered directly.
    #[getter]
    fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Append to `signals` all signals that `data` completes.
    fn receive_data(&self, data: &Bound<'_, PyAny>, signals: &Bound<'_, PyList>) -> PyResult<()> {
        match data.cast::<PyBytes>() {
            Ok(data) => self.receive(data.as_bytes(), signals),
            Err(_) => {
                let copy = data.py().get_type::<PyBytes>().call1((data,))?.cast_into::<PyBytes>()?;
                self.receive(copy.as_bytes(), signals)
            }
        }
    }

    /// Read once from the non-blocking socket, and append to `signals` all signals that the data completes.
    ///
    /// Return the number of bytes, 0 at the end of the stream. `BlockingIOError` is raised if there is no data, and
    /// while data waits that the watchdog thread has read. The descriptor -1 reads that data; 0 means that there is none.
    pub fn read(&self, fd: RawFd, signals: &Bound<'_, PyList>) -> PyResult<usize> {
        self.io.progress.fetch_add(1, Ordering::Relaxed);
        let mut reader = self.take_reader()?;
        let (read, is_worth_a_look) = {
            let mut received = lock(&self.io.received);
            (received.read(fd), received.buffer.is_worth_a_look())
        };
        self.last_read.store(*read.as_ref().unwrap_or(&0), Ordering::Relaxed);
        let result = match &read {
            Ok(1..) if is_worth_a_look && !reader.is_decoding() => self.decode_received(&mut reader, signals),
            _ => Ok(()),
        };
        self.put_back(reader);
        result?;
        Ok(read?)
    }

    /// Write queued data to the non-blocking socket. Return the number of bytes; 0 if the socket is full.
    ///
    /// It stops after 1 MiB, so that one connection does not hold up the others.
    fn flush(&self, fd: RawFd) -> PyResult<usize> {
        let result = self.io.write(fd);
        self.io.drop_finished();
        Ok(result?)
    }

    /// Queue the frame of a signal, or several frames if it is fragmented. Return the bytes queued then.
    fn write(&self, signal: &Bound<'_, PyAny>) -> PyResult<usize> {
        let taken = lock(&self.writer).take();
        match taken {
            Some(mut writer) => {
                let result = writer.write(signal, &self.io.queue);
                *lock(&self.writer) = Some(writer);
                result?;
            }
            None => self.write_inside_a_write(signal)?,
        }
        Ok(self.count_signal())
    }

    /// Do the same as `write(Send(sender, to, message))`, without making the signal.
    fn send(&self, sender: &Bound<'_, PyAny>, to: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<usize> {
        let taken = lock(&self.writer).take();
        if let Some(mut writer) = taken {
            let result = writer.send(sender, to, message, &self.io.queue);
            *lock(&self.writer) = Some(writer);
            if result? {
                return Ok(self.count_signal());
            }
        }
        let signal = SendSignal {
            sender: sender.clone().unbind(),
            to: to.clone().unbind(),
            message: message.clone().unbind(),
            token: sender.py().None(),
        };
        self.write(Bound::new(sender.py(), signal)?.as_any())
    }

    /// Queue a frame of length 0.
    fn write_tick(&self) {
        lock(&self.io.queue).append(&[&TICK]);
    }

    /// Return one frame for a short signal that neither uses nor changes the atom cache. Any thread may call this.
    fn encode_standalone<'py>(&self, signal: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = signal.py();
        Pure::get(py)?.encode_standalone.bind(py).call1((signal, &self.flags))
    }

    /// Signals queued since the start.
    #[getter]
    pub fn signals_out(&self) -> u64 {
        self.signals_out.load(Ordering::Relaxed)
    }

    /// Bytes queued and not yet taken or written.
    #[getter]
    fn queued(&self) -> usize {
        lock(&self.io.queue).size()
    }

    /// Bytes of incomplete frames and unfinished fragment sequences.
    #[getter]
    pub fn buffered(&self) -> usize {
        lock(&self.io.received).buffer.len() + self.unfinished.load(Ordering::Relaxed)
    }

    /// Frames of length 0 received.
    #[getter]
    pub fn ticks_in(&self) -> u64 {
        self.ticks_in.load(Ordering::Relaxed)
    }

    /// Bytes of the last read, also if it raised an error for an invalid frame.
    #[getter]
    fn last_read(&self) -> usize {
        self.last_read.load(Ordering::Relaxed)
    }

    /// When `flush` wrote data last (`time.monotonic`); 0 if it did not.
    #[getter]
    fn last_written_at(&self) -> f64 {
        self.io.last_written_at()
    }

    /// Take everything that is queued.
    fn data_to_send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let (pieces, mut skip) = lock(&self.io.queue).take();
        let size = pieces
            .iter()
            .map(|piece| piece.as_slice().len())
            .sum::<usize>()
            .saturating_sub(skip);
        PyBytes::new_with(py, size, |mut target| {
            for piece in &pieces {
                let data = piece.as_slice().get(skip..).unwrap_or_default();
                skip = 0;
                if let Some((place, rest)) = std::mem::take(&mut target).split_at_mut_checked(data.len()) {
                    place.copy_from_slice(data);
                    target = rest;
                }
            }
            Ok(())
        })
    }

    /// Return copies of the oldest data, for a caller that writes it itself and then calls `advance`.
    fn buffers<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        lock(&self.io.queue).buffers(py)
    }

    /// Remove bytes that the caller has written.
    fn advance(&self, size: usize) {
        let mut queue = lock(&self.io.queue);
        queue.advance(size);
        let finished = queue.take_finished();
        drop(queue);
        drop(finished); // not under the lock
    }

    /// Drop everything that is queued, because the connection is lost.
    fn clear(&self) {
        let dropped = lock(&self.io.queue).take();
        drop(dropped); // not under the lock
    }

    /// Drop what has arrived in part, because the connection is lost.
    fn drop_received(&self) {
        let unfinished = lock(&self.reader).as_mut().map(|reader| reader.take_unfinished());
        let buffer = std::mem::take(&mut lock(&self.io.received).buffer);
        self.unfinished.store(0, Ordering::Relaxed);
        self.is_decoding.store(false, Ordering::Relaxed);
        drop((unfinished, buffer)); // not under the locks
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The processes of the node, which refer to this wire. While a call uses the reader, it is alive anyway.
        match self.reader.try_lock() {
            Ok(reader) => visit.call(reader.as_ref().and_then(|reader| reader.direct.as_ref())),
            Err(_) => Ok(()),
        }
    }
}

impl Wire {
    fn take_reader(&self) -> PyResult<Box<FrameReader>> {
        let taken = lock(&self.reader).take();
        taken.ok_or_else(|| PyRuntimeError::new_err("a wire cannot receive data while it decodes other data"))
    }

    fn put_back(&self, reader: Box<FrameReader>) {
        self.ticks_in.store(reader.ticks, Ordering::Relaxed);
        self.delivered.store(reader.delivered, Ordering::Relaxed);
        self.unfinished.store(reader.buffered(), Ordering::Relaxed);
        self.is_decoding.store(reader.is_decoding(), Ordering::Relaxed);
        *lock(&self.reader) = Some(reader);
    }

    fn receive(&self, data: &[u8], signals: &Bound<'_, PyList>) -> PyResult<()> {
        let mut reader = self.take_reader()?;
        let waits = {
            let mut received = lock(&self.io.received);
            let is_decoding = reader.is_decoding();
            (received.buffer.len() > 0 || is_decoding).then(|| received.buffer.append(data) && !is_decoding)
        };
        let result = match waits {
            None => self.decode_data(&mut reader, data, signals),
            Some(true) => self.decode_received(&mut reader, signals),
            Some(false) => Ok(()),
        };
        self.put_back(reader);
        result
    }

    /// Decode data of the caller, and keep a copy of an incomplete frame.
    fn decode_data(&self, reader: &mut FrameReader, data: &[u8], signals: &Bound<'_, PyList>) -> PyResult<()> {
        let mut done = 0;
        let needed = decode(reader, data, &mut done, signals)?;
        if let Some(rest @ [_, ..]) = data.get(done..) {
            lock(&self.io.received).buffer.keep_copy(rest, needed);
        }
        Ok(())
    }

    /// Decode the data in the buffer, and keep an incomplete frame there.
    fn decode_received(&self, reader: &mut FrameReader, signals: &Bound<'_, PyList>) -> PyResult<()> {
        let data = lock(&self.io.received).buffer.take();
        let mut done = 0;
        match decode(reader, &data, &mut done, signals) {
            Ok(needed) => {
                lock(&self.io.received).buffer.keep(data, done, needed);
                Ok(())
            }
            Err(error) => {
                let end = data.len();
                lock(&self.io.received).buffer.keep(data, end, 0);
                Err(error)
            }
        }
    }

    /// Count a signal that was queued. Return the bytes queued.
    #[inline]
    fn count_signal(&self) -> usize {
        self.signals_out.fetch_add(1, Ordering::Relaxed);
        lock(&self.io.queue).size()
    }

    /// Queue a signal while another call of `write` runs: a finalizer that ran in it sends a signal.
    #[cold]
    fn write_inside_a_write(&self, signal: &Bound<'_, PyAny>) -> PyResult<()> {
        let frame = self.encode_standalone(signal)?.cast_into::<PyBytes>()?;
        lock(&self.io.queue).append(&[frame.as_bytes()]);
        Ok(())
    }
}

fn decode(reader: &mut FrameReader, data: &[u8], done: &mut usize, signals: &Bound<'_, PyList>) -> PyResult<usize> {
    let _no_collection = (data.len() >= LARGE_READ).then(|| NoCollection::new(signals.py()));
    reader.read(data, done, signals)
}
