//! The stack of the decoder: finished terms of containers that are still open.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::context::Context;

/// Owned references to finished terms. What is left is released at the end, also after `GiveUp`.
pub struct Stack<'a, 'py> {
    py: Python<'py>,
    context: &'a Context,
    items: Vec<Py<PyAny>>,
}

/// The memory of a stack up to this size is kept for the next one.
const KEPT_STACK: usize = 4096;

impl<'a, 'py> Stack<'a, 'py> {
    #[inline]
    pub fn new(py: Python<'py>, context: &'a Context) -> Self {
        // SAFETY: `take` runs no Python code.
        let items = unsafe { context.stack.with(py, std::mem::take) };
        Stack { py, context, items }
    }

    /// A stack with the items of an earlier one.
    pub fn with_items(py: Python<'py>, context: &'a Context, items: Vec<Py<PyAny>>) -> Self {
        Stack { py, context, items }
    }

    /// Take all items, for a later `with_items`.
    pub fn take_items(&mut self) -> Vec<Py<PyAny>> {
        std::mem::take(&mut self.items)
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    #[inline]
    pub fn push(&mut self, item: Bound<'py, PyAny>) {
        self.items.push(item.unbind());
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Bound<'py, PyAny>> {
        Some(self.items.pop()?.into_bound(self.py))
    }

    /// Hand the items from `base` on to `take`, with their index from 0. It owns them then.
    #[inline]
    pub fn pop_into(&mut self, base: usize, mut take: impl FnMut(isize, *mut ffi::PyObject)) {
        for (index, item) in self.items.drain(base..).enumerate() {
            take(index as isize, item.into_ptr());
        }
    }
}

impl Drop for Stack<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        while let Some(item) = self.items.pop() {
            drop(item.into_bound(self.py)); // This can run Python code, which finds another stack.
        }
        if self.items.capacity() <= KEPT_STACK {
            let items = std::mem::take(&mut self.items);
            // SAFETY: the replaced vector is empty, so no object is released.
            unsafe { self.context.stack.with(self.py, |kept| *kept = items) };
        }
    }
}
