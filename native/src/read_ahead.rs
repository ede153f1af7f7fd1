//! Received bytes that wait for a blocked event loop, within a limit. See `erlmesh.proto.receive_buffer`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use pyo3::prelude::*;

/// Bytes up to which data is appended to the last piece.
const PIECE_SIZE: usize = 64 * 1024;

struct Budget {
    limit: AtomicUsize,
    total_limit: AtomicUsize,
    used: AtomicUsize,
}

/// The bytes that may wait for one connection, and for all together.
#[pyclass(frozen, module = "erlmesh_native")]
#[derive(Clone)]
pub struct ReceiveBudget(Arc<Budget>);

#[pymethods]
impl ReceiveBudget {
    #[new]
    fn new(limit: usize, total_limit: usize) -> Self {
        ReceiveBudget(Arc::new(Budget {
            limit: AtomicUsize::new(limit),
            total_limit: AtomicUsize::new(total_limit),
            used: AtomicUsize::new(0),
        }))
    }

    #[getter]
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    #[getter]
    fn total_limit(&self) -> usize {
        self.0.total_limit.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_total_limit(&self, total_limit: usize) {
        self.0.total_limit.store(total_limit, Ordering::Relaxed);
    }

    /// Bytes that wait for all connections.
    #[getter]
    fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Reserve up to `size` bytes for a connection with `buffered` bytes. Return how many; 0 at a limit.
    fn reserve(&self, size: usize, buffered: usize) -> usize {
        let room = size.min(self.limit().saturating_sub(buffered));
        let total_limit = self.total_limit();
        let granted = |used: usize| room.min(total_limit.saturating_sub(used));
        let reserved = self
            .0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used + granted(used)));
        reserved.map_or(0, granted)
    }

    /// Give `size` bytes back.
    fn release(&self, size: usize) {
        self.0.used.fetch_sub(size, Ordering::Relaxed);
    }
}

/// The bytes that wait for one connection, in order.
#[derive(Default)]
pub struct ReadAhead {
    /// None while nothing may be read.
    budget: Option<ReceiveBudget>,
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were taken already.
    offset: usize,
    size: usize,
}

impl ReadAhead {
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn is_reading(&self) -> bool {
        self.budget.is_some()
    }

    pub fn start(&mut self, budget: ReceiveBudget) {
        self.budget = Some(budget);
    }

    /// Stop, and drop everything.
    pub fn stop(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.release(self.size);
        }
        self.pieces.clear();
        (self.size, self.offset) = (0, 0);
    }

    /// Reserve room for up to `size` bytes. Return for how many; 0 at a limit. Then call `append`.
    pub fn reserve(&self, size: usize) -> usize {
        self.budget.as_ref().map_or(0, |budget| budget.reserve(size, self.size))
    }

    /// Append data, which may be shorter than the `reserved` room.
    pub fn append(&mut self, data: &[u8], reserved: usize) {
        if let Some(budget) = &self.budget {
            budget.release(reserved.saturating_sub(data.len()));
        }
        self.size += data.len();
        match self.pieces.back_mut() {
            Some(last) if last.len() + data.len() <= PIECE_SIZE => last.extend_from_slice(data),
            _ if data.is_empty() => {}
            _ => self.pieces.push_back(data.to_vec()),
        }
    }

    /// Move the first bytes to the end of `target`: at most `size`. Return how many.
    pub fn take(&mut self, size: usize, target: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        while taken < size {
            let Some(first) = self.pieces.front() else { break };
            let rest = first.get(self.offset..).unwrap_or_default();
            let part = rest.get(..size - taken).unwrap_or(rest);
            target.extend_from_slice(part);
            taken += part.len();
            if part.len() == rest.len() {
                self.pieces.pop_front();
                self.offset = 0;
            } else {
                self.offset += part.len();
            }
        }
        self.size -= taken;
        if let Some(budget) = &self.budget {
            budget.release(taken);
        }
        taken
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.stop();
    }
}
