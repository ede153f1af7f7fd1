//! The bytes that wait to be written to one connection.
//!
//! Frames are appended whole. So the queue always ends with a whole frame; its start may be inside a frame. No method
//! runs Python code, except that a dropped `Py` may release an object. So the queue may be used under a lock. It gives
//! finished binaries back to the caller, who drops them after it has released the lock.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Pieces of one `writev`.
const MAX_VECTORS: usize = 64;
/// Bytes up to which short frames are appended to the same piece.
const PIECE_SIZE: usize = 64 * 1024;

/// Bytes after which a write ends even if the socket takes more.
const WRITE_SIZE: usize = 1 << 20;
/// Bytes of one call of `buffers`.
const COPIED_AT_A_TIME: usize = 256 * 1024;

/// A part of an immutable `bytes` object, which is written without a copy.
pub struct Binary {
    owner: Py<PyBytes>,
    address: usize,
    length: usize,
}

impl Binary {
    pub fn whole(py: Python<'_>, owner: Py<PyBytes>) -> Self {
        let data = owner.as_bytes(py);
        Binary {
            address: data.as_ptr() as usize,
            length: data.len(),
            owner,
        }
    }

    /// `data` must be a part of the contents of `owner`.
    pub fn part(owner: Py<PyBytes>, data: &[u8]) -> Self {
        Binary {
            owner,
            address: data.as_ptr() as usize,
            length: data.len(),
        }
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: the address and the length are a part of `owner`, which is immutable and which this value keeps alive.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.length) }
    }
}

pub enum Piece {
    Bytes(Vec<u8>),
    Binary(Binary),
}

impl Piece {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Binary(binary) => binary.as_slice(),
        }
    }
}

/// Lock a queue or another part of a connection. A panic of another thread does not make its bytes wrong.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
pub struct SendQueue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are already written.
    offset: usize,
    size: usize,
    /// Binaries that are written. A thread without the GIL must not drop them.
    finished: Vec<Py<PyBytes>>,
}

impl SendQueue {
    /// Bytes that are not yet written or taken.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Append the bytes of all parts.
    pub fn append(&mut self, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length == 0 {
            return;
        }
        self.size += length;
        if let Some(Piece::Bytes(last)) = self.pieces.back_mut() {
            if last.len() + length <= PIECE_SIZE {
                for part in parts {
                    last.extend_from_slice(part);
                }
                return;
            }
        }
        let mut piece = Vec::with_capacity(length.max(512));
        for part in parts {
            piece.extend_from_slice(part);
        }
        self.pieces.push_back(Piece::Bytes(piece));
    }

    pub fn append_binary(&mut self, binary: Binary) {
        if binary.length > 0 {
            self.size += binary.length;
            self.pieces.push_back(Piece::Binary(binary));
        }
    }

    /// Take everything out of the queue: the pieces, and how many bytes of the first one are already written.
    pub fn take(&mut self) -> (VecDeque<Piece>, usize) {
        self.size = 0;
        (std::mem::take(&mut self.pieces), std::mem::take(&mut self.offset))
    }

    /// Drop everything. Binaries are finished then, because this may run without the GIL.
    pub fn discard(&mut self) {
        let (pieces, _) = self.take();
        for piece in pieces {
            if let Piece::Binary(binary) = piece {
                self.finished.push(binary.owner);
            }
        }
    }

    /// Write one whole frame, only if nothing waits before it. Append what the socket does not take of it, unless that
    /// is all of it: a frame that waits for long would be out of date. Return the number of bytes written.
    pub fn write_frame(&mut self, fd: RawFd, frame: &[u8]) -> io::Result<usize> {
        // SAFETY: the kernel reads `frame`, which lives until the call returns.
        let written = unsafe { libc::write(fd, frame.as_ptr().cast(), frame.len()) };
        if written < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(0),
                _ => Err(error),
            };
        }
        let written = written as usize;
        if written > 0 {
            self.append(&[frame.get(written..).unwrap_or_default()]);
        }
        Ok(written)
    }

    /// Return copies of the oldest bytes, for a caller that writes them itself and then calls `advance`.
    pub fn buffers<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let mut room = COPIED_AT_A_TIME;
        let mut skip = self.offset;
        let mut buffers = Vec::new();
        for piece in &self.pieces {
            let data = piece.as_slice().get(skip..).unwrap_or_default();
            skip = 0;
            buffers.push(PyBytes::new(py, data.get(..room).unwrap_or(data)));
            room = room.saturating_sub(data.len());
            if room == 0 || buffers.len() == MAX_VECTORS {
                break;
            }
        }
        buffers
    }

    /// Return the binaries that are written. The caller drops them with the GIL held and the lock released.
    pub fn take_finished(&mut self) -> Vec<Py<PyBytes>> {
        std::mem::take(&mut self.finished)
    }

    /// Write to the non-blocking descriptor until it is full, the queue is empty or `WRITE_SIZE` bytes are written. Return the number of bytes written.
    pub fn write(&mut self, fd: RawFd) -> io::Result<usize> {
        let mut total = 0;
        while self.size > 0 && total < WRITE_SIZE {
            match self.write_once(fd) {
                Ok((written, wanted)) => {
                    total += written;
                    if written < wanted {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What was written is reported first. The next call meets the same error.
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Return the bytes written and the bytes passed to the kernel.
    fn write_once(&mut self, fd: RawFd) -> io::Result<(usize, usize)> {
        let mut vectors = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; MAX_VECTORS];
        let mut count = 0;
        let mut wanted = 0;
        let mut skip = self.offset;
        for (vector, piece) in vectors.iter_mut().zip(&self.pieces) {
            let data = piece.as_slice().get(skip..).unwrap_or_default();
            skip = 0;
            *vector = libc::iovec {
                iov_base: data.as_ptr() as *mut libc::c_void,
                iov_len: data.len(),
            };
            wanted += data.len();
            count += 1;
        }
        // SAFETY: the first `count` vectors point into pieces that live until the call returns. It only reads them.
        let written = unsafe { libc::writev(fd, vectors.as_ptr(), count as libc::c_int) };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
        self.advance(written as usize);
        Ok((written as usize, wanted))
    }

    /// Remove bytes that are written.
    pub fn advance(&mut self, written: usize) {
        let written = written.min(self.size);
        self.size -= written;
        let mut rest = self.offset + written;
        while let Some(piece) = self.pieces.front() {
            let length = piece.as_slice().len();
            if rest < length {
                break;
            }
            rest -= length;
            if let Some(Piece::Binary(binary)) = self.pieces.pop_front() {
                self.finished.push(binary.owner);
            }
        }
        self.offset = rest;
    }
}
