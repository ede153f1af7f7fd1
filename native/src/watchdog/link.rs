//! The socket of one connection, as far as the event loop shares it with the thread.
//!
//! The thread writes under the locks of `out` and of the queue, in this order, and reads under the lock of the received
//! data. The event loop closes the descriptor under both locks. So the thread never uses a descriptor that belongs to
//! another file.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::decisions::is_tick_due;
use crate::read_ahead::ReceiveBudget;
use crate::send_queue::lock;
use crate::wire::{monotonic, Io, Wire, TICK};

/// Bytes of one read by the thread.
pub const READ_SIZE: usize = 256 * 1024;
/// Bytes after which the thread continues with the next connection.
const TURN_SIZE: usize = 4 << 20;
/// Bytes of the last number in the frame that reports a blocked loop.
const NUMBER_SIZE: usize = 4;

static LAST_ID: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Default)]
struct ExternalWrites {
    frames: usize,
    size: usize,
    last_at: f64,
}

/// What the thread needs to write. The lock is held during each of its writes.
struct Out {
    /// The thread may write.
    is_open: bool,
    writes: ExternalWrites,
}

/// What to send while the event loop is blocked.
struct KeepAlive {
    node: u64,
    net_ticktime: f64,
    /// The report of a blocked loop. It ends with the milliseconds, four bytes.
    blocked_frame: Vec<u8>,
    /// The number of the block that was reported last.
    reported: u64,
}

#[derive(PartialEq, Eq)]
pub enum Served {
    Nothing,
    Data,
    /// Data may wait, and nothing more is read because of a limit.
    Full,
}

pub struct LinkState {
    pub id: u64,
    /// A duplicate of the transport's descriptor; -1 when it is closed.
    fd: AtomicI32,
    pub io: Arc<Io>,
    out: Mutex<Out>,
    keep_alive: Mutex<Option<KeepAlive>>,
    /// The number of the error that has broken the connection; 0 if it is not broken.
    error: AtomicI32,
    /// The connection is broken, and only its transport can end it.
    must_abort: AtomicBool,
    /// The thread waits for data of the socket.
    pub is_watched: AtomicBool,
    /// The event loop has to look at the connection, and knows it.
    pub has_attention: AtomicBool,
    last_read_at: AtomicU64,
}

impl LinkState {
    pub fn net_ticktime(&self) -> Option<f64> {
        lock(&self.keep_alive)
            .as_ref()
            .map(|keep_alive| keep_alive.net_ticktime)
    }

    pub fn forget_node(&self, node: u64) {
        let mut keep_alive = lock(&self.keep_alive);
        if keep_alive.as_ref().is_some_and(|known| known.node == node) {
            *keep_alive = None;
        }
    }

    /// The descriptor. It is certainly open only while a lock is held, and in the event loop.
    pub fn fd(&self) -> RawFd {
        self.fd.load(Ordering::Relaxed)
    }

    pub fn progress(&self) -> u64 {
        self.io.progress.load(Ordering::Relaxed)
    }

    /// Write the report of a blocked loop if it is due, or a tick if one is due. Return whether the event loop has to
    /// look at the connection. `block` is the number of a block that peers are to know, 0 if there is none.
    pub fn write_due(&self, now: f64, blocked_for: f64, block: u64) -> bool {
        let mut keep_alive = lock(&self.keep_alive);
        let Some(keep_alive) = keep_alive.as_mut() else {
            return false;
        };
        if block > keep_alive.reported {
            let end = keep_alive.blocked_frame.len().saturating_sub(NUMBER_SIZE);
            let milliseconds = (blocked_for * 1000.0) as i32;
            if let Some(number) = keep_alive.blocked_frame.get_mut(end..) {
                number.copy_from_slice(&milliseconds.to_be_bytes());
            }
            // If it cannot be written now, it is tried again at the next sample.
            let (written, needs_loop) = self.write_frame(&keep_alive.blocked_frame);
            if written {
                keep_alive.reported = block;
            }
            return needs_loop;
        }
        let idle_for = now - self.io.last_written_at();
        is_tick_due(idle_for, keep_alive.net_ticktime, blocked_for) && self.write_frame(&TICK).1
    }

    /// Write one whole frame, or, if data waits, that data. Return whether the frame was written, and whether the event
    /// loop has to look at the connection.
    fn write_frame(&self, frame: &[u8]) -> (bool, bool) {
        let mut out = lock(&self.out);
        if !out.is_open || self.error.load(Ordering::Relaxed) != 0 {
            return (false, false);
        }
        let mut queue = lock(&self.io.queue);
        let had_data = queue.size() > 0;
        let result = match had_data {
            true => queue.write(self.fd()),
            false => queue.write_frame(self.fd(), frame),
        };
        let waits = queue.size() > 0;
        drop(queue);
        match result {
            Ok(0) => (false, false),
            Ok(size) => {
                self.io.note_write();
                out.writes.frames += usize::from(!had_data);
                out.writes.size += size;
                out.writes.last_at = self.io.last_written_at();
                (!had_data, waits && !had_data)
            }
            Err(error) => {
                self.fail(&error); // under the lock of `out`, so that the descriptor stays open
                (false, true)
            }
        }
    }

    /// End the stream after a failed write, because data is missing in it. Data already received stays readable.
    fn fail(&self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        let _ = self
            .error
            .compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        lock(&self.io.queue).discard();
        // The shutdown makes the reader see the end of the stream. If it fails, the connection is either reset, which
        // the reader sees by itself, or it must be aborted.
        // SAFETY: the caller holds a lock, or is the event loop, so the descriptor is open.
        let failed = unsafe { libc::shutdown(self.fd(), libc::SHUT_RDWR) } != 0;
        let is_reset = matches!(
            number,
            libc::EPIPE | libc::ECONNRESET | libc::ECONNABORTED | libc::ESHUTDOWN
        );
        if failed && !is_reset {
            self.must_abort.store(true, Ordering::Relaxed);
        }
    }

    /// Read into the buffer, because the event loop is blocked. `scratch` is the memory for one read.
    pub fn serve(&self, scratch: &mut [u8]) -> Served {
        let Ok(mut received) = self.io.received.try_lock() else {
            return Served::Nothing; // the event loop reads at this moment
        };
        let ahead = &mut received.ahead;
        let mut total = 0;
        let mut is_full = false;
        while ahead.is_reading() && total < TURN_SIZE {
            let reserved = ahead.reserve(scratch.len());
            let read = match scratch.get_mut(..reserved) {
                Some(room) if reserved > 0 => Some(read_once(self.fd(), room)),
                _ => None,
            };
            let size = match &read {
                Some(Ok(size)) => *size,
                _ => 0,
            };
            ahead.append(scratch.get(..size).unwrap_or_default(), reserved);
            total += size;
            match read {
                Some(Ok(1..)) => continue,
                Some(Err(error)) if is_temporary(&error) => break,
                // The loop will read the end of the stream, without the error.
                Some(Err(error)) => {
                    let number = error.raw_os_error().unwrap_or(libc::EIO);
                    let _ = self
                        .error
                        .compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
                }
                Some(Ok(_)) => {}
                None => is_full = true,
            }
            self.is_watched.store(false, Ordering::Relaxed); // the loop starts to watch again
            break;
        }
        if total > 0 {
            self.last_read_at.store(monotonic().to_bits(), Ordering::Relaxed);
        }
        match (is_full, total) {
            (true, _) => Served::Full,
            (false, 1..) => Served::Data,
            (false, 0) if self.is_watched.load(Ordering::Relaxed) => Served::Nothing,
            (false, 0) => Served::Data,
        }
    }
}

impl LinkState {
    fn close(&self) {
        let fd = self.fd.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: the descriptor belongs to this object, which has just given it up.
            unsafe { libc::close(fd) };
        }
    }
}

impl Drop for LinkState {
    fn drop(&mut self) {
        self.close();
    }
}

fn read_once(fd: RawFd, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most as many bytes as `room` has.
    match unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) } {
        size if size >= 0 => Ok(size as usize),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// See `erlmesh.net.shared_socket`. All methods are for the event loop.
#[pyclass(frozen, module = "erlmesh_native")]
pub struct Link {
    pub state: Arc<LinkState>,
    budget: ReceiveBudget,
}

#[pymethods]
impl Link {
    /// `fd` is a duplicate of the transport's descriptor, which belongs to this object from now on. `first` is written
    /// before the queue of the wire, which must be empty.
    #[new]
    fn new(wire: &Bound<'_, Wire>, fd: RawFd, budget: &ReceiveBudget, first: &[u8]) -> Link {
        let io = Arc::clone(&wire.get().io);
        lock(&io.queue).append(&[first]);
        io.note_write();
        let state = LinkState {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
            fd: AtomicI32::new(fd),
            io,
            out: Mutex::new(Out {
                is_open: true,
                writes: ExternalWrites::default(),
            }),
            keep_alive: Mutex::new(None),
            error: AtomicI32::new(0),
            must_abort: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            has_attention: AtomicBool::new(false),
            last_read_at: AtomicU64::new(0),
        };
        Link {
            state: Arc::new(state),
            budget: budget.clone(),
        }
    }

    /// Identifies the link in this process.
    #[getter]
    fn id(&self) -> u64 {
        self.state.id
    }

    /// Send ticks while the event loop is blocked, and once `blocked_frame`, whose last four bytes are replaced with the
    /// milliseconds. `node` identifies the node that this is for.
    fn keep_alive(&self, node: u64, net_ticktime: f64, blocked_frame: Vec<u8>) {
        *lock(&self.state.keep_alive) = Some(KeepAlive {
            node,
            net_ticktime,
            blocked_frame,
            reported: 0,
        });
    }

    /// Bytes that wait to be written.
    #[getter]
    fn queued(&self) -> usize {
        lock(&self.state.io.queue).size()
    }

    /// Bytes that the thread has read.
    #[getter]
    fn buffered(&self) -> usize {
        lock(&self.state.io.received).ahead.size()
    }

    #[getter]
    fn progress(&self) -> u64 {
        self.state.progress()
    }

    #[getter]
    fn last_written_at(&self) -> f64 {
        self.state.io.last_written_at()
    }

    #[getter]
    fn last_thread_read_at(&self) -> Option<f64> {
        let read_at = f64::from_bits(self.state.last_read_at.load(Ordering::Relaxed));
        (read_at > 0.0).then_some(read_at)
    }

    /// Why the connection is broken.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.state.error.load(Ordering::Relaxed) {
            0 => None,
            number => {
                let text = io::Error::from_raw_os_error(number).to_string();
                let text = text.split(" (os error").next().unwrap_or_default().to_owned();
                Some(PyOSError::new_err((number, text)).into_value(py).into_any())
            }
        }
    }

    #[getter]
    fn must_abort(&self) -> bool {
        self.state.must_abort.load(Ordering::Relaxed)
    }

    /// Write what waits, until the socket is full. Return the number of bytes written.
    pub fn flush(&self) -> usize {
        let result = self.state.io.write(self.state.fd());
        self.state.io.drop_finished();
        result.unwrap_or_else(|error| {
            self.state.fail(&error);
            self.state.io.drop_finished();
            0
        })
    }

    /// Drop all that waits to be written.
    fn drop_waiting(&self) {
        lock(&self.state.io.queue).discard();
        self.state.io.drop_finished();
    }

    /// Return the frames, the bytes and the time of what the thread has written since the last call.
    fn take_external_writes(&self) -> (usize, usize, f64) {
        self.state.io.drop_finished();
        let writes = std::mem::take(&mut lock(&self.state.out).writes);
        (writes.frames, writes.size, writes.last_at)
    }

    /// From now on the thread writes nothing.
    fn stop_thread_writes(&self) {
        lock(&self.state.out).is_open = false;
    }

    /// From now on the thread may read.
    fn start_reading(&self) {
        lock(&self.state.io.received).ahead.start(self.budget.clone());
        self.state.is_watched.store(self.budget.limit() > 0, Ordering::Relaxed);
    }

    /// From now on the thread reads nothing. What it has read is dropped.
    fn stop_reading(&self) {
        self.state.is_watched.store(false, Ordering::Relaxed);
        lock(&self.state.io.received).ahead.stop();
    }

    /// The event loop has taken what the thread had read. Return whether the thread had stopped to wait for data, and
    /// waits for it again now.
    fn watch_again(&self) -> bool {
        let reads = lock(&self.state.io.received).ahead.is_reading() && self.budget.limit() > 0;
        reads && !self.state.is_watched.swap(true, Ordering::Relaxed)
    }

    /// Close the descriptor. Nothing is read or written any more.
    fn close(&self) {
        let mut out = lock(&self.state.out);
        let mut received = lock(&self.state.io.received);
        out.is_open = false;
        received.ahead.stop();
        self.state.is_watched.store(false, Ordering::Relaxed);
        self.state.close();
        drop((out, received));
        self.drop_waiting(); // with the GIL, so that the thread never drops an object
    }

    /// Do what the thread does while the event loop is blocked. For tests.
    fn serve_from_thread(&self) -> bool {
        self.state.serve(&mut vec![0; READ_SIZE]) == Served::Full
    }

    /// Do what the thread does while the event loop is blocked. For tests.
    fn write_from_thread(&self, frame: &[u8]) -> bool {
        self.state.write_frame(frame).0
    }
}
