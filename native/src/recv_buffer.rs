//! The received bytes of one connection that do not yet make a whole frame.
//!
//! An idle connection holds no buffer. A read takes a large buffer from a small pool and gives it back when all its
//! frames are decoded. A connection keeps the buffer only while a long frame is incomplete.

use std::io;
use std::os::fd::RawFd;
use std::sync::Mutex;

use crate::read_ahead::ReadAhead;

/// Bytes of one read at most, so that one connection does not hold up the others.
pub const READ_SIZE: usize = 256 * 1024;
/// An incomplete frame up to this size is kept in a buffer of its own size.
const SMALL: usize = 4 * 1024;
/// Buffers that wait for the next read. More are needed only if a read runs inside another one.
const POOL_SIZE: usize = 4;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn take_buffer() -> Vec<u8> {
    let pooled = POOL.lock().ok().and_then(|mut pool| pool.pop());
    pooled.unwrap_or_else(|| Vec::with_capacity(READ_SIZE))
}

fn give_back(mut buffer: Vec<u8>) {
    // A buffer that grew for a long frame is freed instead.
    if buffer.capacity() <= READ_SIZE * 2 && buffer.capacity() >= READ_SIZE {
        buffer.clear();
        if let Ok(mut pool) = POOL.lock() {
            if pool.len() < POOL_SIZE {
                pool.push(buffer);
            }
        }
    }
}

#[derive(Default)]
pub struct RecvBuffer {
    /// The start of an incomplete frame, with its length field.
    partial: Vec<u8>,
    /// The size that `partial` must have before it is worth another look: a whole frame, or its length field.
    needed: usize,
}

impl RecvBuffer {
    pub fn len(&self) -> usize {
        self.partial.len()
    }

    /// Append data of another source. Return whether the data is worth a look.
    ///
    /// Without this check, a long frame in many pieces would take quadratic time.
    pub fn append(&mut self, data: &[u8]) -> bool {
        self.partial.extend_from_slice(data);
        self.partial.len() >= self.needed
    }

    /// Read once from the non-blocking descriptor. Return the number of bytes; 0 at the end of the stream.
    pub fn read(&mut self, fd: RawFd) -> io::Result<usize> {
        if self.partial.capacity() < READ_SIZE {
            let mut buffer = take_buffer();
            buffer.extend_from_slice(&self.partial);
            self.partial = buffer;
        }
        let room = self.partial.capacity() - self.partial.len();
        if room < READ_SIZE / 2 {
            // The buffer grows with the data that arrives, not with the length that the peer announces.
            let more = READ_SIZE.max(self.partial.len());
            self.partial
                .try_reserve(more)
                .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        }
        let result = read_once(fd, &mut self.partial);
        if self.partial.len() <= SMALL && !matches!(result, Ok(size) if size > 0) {
            self.keep_from(0, self.needed);
        }
        result
    }

    /// Take data that was read ahead, as `read` does with data of a descriptor.
    pub fn read_ahead(&mut self, ahead: &mut ReadAhead) -> usize {
        ahead.take(READ_SIZE, &mut self.partial)
    }

    pub fn is_worth_a_look(&self) -> bool {
        self.partial.len() >= self.needed
    }

    /// Take the data out while its frames are decoded. The caller gives it back with `keep`.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// Keep the data from the offset `done` on. `needed` is counted from there.
    pub fn keep(&mut self, data: Vec<u8>, done: usize, needed: usize) {
        let later = std::mem::replace(&mut self.partial, data);
        self.keep_from(done, needed);
        // Data that another thread read while the frames were decoded.
        self.partial.extend_from_slice(&later);
    }

    /// Keep a copy of the end of data that belongs to somebody else.
    pub fn keep_copy(&mut self, rest: &[u8], needed: usize) {
        let later = std::mem::take(&mut self.partial);
        self.partial.reserve(rest.len() + later.len());
        self.partial.extend_from_slice(rest);
        self.partial.extend_from_slice(&later);
        self.needed = needed;
    }

    fn keep_from(&mut self, done: usize, needed: usize) {
        self.needed = needed;
        let rest = self.partial.len().saturating_sub(done);
        if rest > SMALL {
            self.partial.copy_within(done.., 0);
            self.partial.truncate(rest);
            if self.partial.capacity() > READ_SIZE * 2 && self.partial.capacity() > needed.max(rest) * 4 {
                self.partial.shrink_to(READ_SIZE.max(rest)); // a long frame is done, and a short one is incomplete
            }
            return;
        }
        let small = self.partial.get(done..).unwrap_or_default().to_vec();
        give_back(std::mem::replace(&mut self.partial, small));
    }
}

fn read_once(fd: RawFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let room = buffer.spare_capacity_mut();
        let size = room.len().min(READ_SIZE);
        // SAFETY: the kernel writes at most `size` bytes, which is not more than the spare capacity.
        let count = unsafe { libc::read(fd, room.as_mut_ptr().cast(), size) };
        if count >= 0 {
            let filled = buffer.len() + count as usize;
            // SAFETY: the kernel has initialised `count` bytes after the old end.
            unsafe { buffer.set_len(filled) };
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
