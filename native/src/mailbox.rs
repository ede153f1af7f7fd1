//! A queue with selective receive. See `erlmesh.runtime.mailbox`, which describes the contract.

use std::collections::VecDeque;

use pyo3::exceptions::PyIndexError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyIterator, PyList};

use crate::ffi_tools::GilCell;
use crate::special_messages::{is_special, is_system_message};
use crate::wait::Wait;

static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

#[pyclass(frozen, module = "erlmesh_native")]
#[derive(Default)]
pub struct Mailbox {
    messages: GilCell<VecDeque<Py<PyAny>>>,
    waiting: GilCell<Option<Py<PyAny>>>,
    attention: GilCell<Attention>,
}

/// Why `take` has to leave the messages to the slow branch of the process.
#[derive(Default, Clone, Copy)]
struct Attention {
    /// The system messages and library requests in the queue.
    special: usize,
    held: bool,
}

impl Attention {
    #[inline]
    fn needed(self) -> bool {
        self.held || self.special > 0
    }
}

#[pymethods]
impl Mailbox {
    #[new]
    fn new() -> Mailbox {
        Mailbox::default()
    }

    #[getter]
    fn waiting(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe {
            self.waiting
                .with(py, |waiting| waiting.as_ref().map(|wait| wait.clone_ref(py)))
        }
    }

    #[setter]
    fn set_waiting(&self, py: Python<'_>, wait: Option<Py<PyAny>>) {
        // SAFETY: as above: the old value is moved out.
        let _old = unsafe { self.waiting.with(py, |waiting| std::mem::replace(waiting, wait)) };
    }

    #[getter]
    fn held(&self, py: Python<'_>) -> bool {
        self.attention(py).held
    }

    #[setter]
    fn set_held(&self, py: Python<'_>, held: bool) {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe { self.attention.with(py, |attention| attention.held = held) };
    }

    /// True if `take` returns `EMPTY` because of a special message or because the mailbox is held.
    #[getter]
    fn needs_attention(&self, py: Python<'_>) -> bool {
        self.attention(py).needed()
    }

    /// Append a message and wake the process that waits. Return True for a special message.
    #[pyo3(name = "put")]
    fn put_from_python(&self, py: Python<'_>, message: Py<PyAny>) -> PyResult<bool> {
        let special = is_special(message.bind(py))?;
        if special {
            // SAFETY: nothing here runs Python code or drops an object.
            unsafe { self.attention.with(py, |attention| attention.special += 1) };
        }
        self.put(py, message).map(|()| special)
    }

    /// Remove and return the first message that `match` accepts, or `EMPTY`. Always `EMPTY` while it needs attention.
    #[pyo3(signature = (r#match = None, skip = 0))]
    fn take<'py>(
        &self,
        py: Python<'py>,
        r#match: Option<&Bound<'py, PyAny>>,
        skip: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.attention(py).needed() {
            return empty(py);
        }
        let Some(accepts) = r#match else {
            return self
                .pop(py)
                .map_or_else(|| empty(py), |message| Ok(message.into_bound(py)));
        };
        for index in skip..self.__len__(py) {
            let Some(message) = self.at(py, index) else { break };
            if accepts.call1((&message,))?.is_truthy()? {
                self.remove(py, index);
                return Ok(message);
            }
        }
        empty(py)
    }

    /// As `take`, but also while the mailbox is held. With `past_system` false it stops at the first system message.
    #[pyo3(signature = (r#match = None, past_system = false))]
    fn scan<'py>(
        &self,
        py: Python<'py>,
        r#match: Option<&Bound<'py, PyAny>>,
        past_system: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        for index in 0..self.__len__(py) {
            let Some(message) = self.at(py, index) else { break };
            if !past_system && is_system_message(&message)? {
                break;
            }
            let accepted = match r#match {
                Some(accepts) => accepts.call1((&message,))?.is_truthy()?,
                None => true,
            };
            if accepted {
                self.remove(py, index);
                return self.removed(py, message);
            }
        }
        empty(py)
    }

    /// Remove and return the first system message, or `EMPTY`.
    fn take_system<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        for index in 0..self.__len__(py) {
            let Some(message) = self.at(py, index) else { break };
            if is_system_message(&message)? {
                self.remove(py, index);
                return self.removed(py, message);
            }
        }
        empty(py)
    }

    /// Remove and return the first message of a mailbox that needs no attention.
    fn popleft(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.pop(py)
            .ok_or_else(|| PyIndexError::new_err("the mailbox is empty"))
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe { self.messages.with(py, |all| all.len()) }
    }

    fn __bool__(&self, py: Python<'_>) -> bool {
        self.__len__(py) > 0
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        // SAFETY: nothing here runs Python code or drops an object.
        let all: Vec<_> = unsafe {
            self.messages
                .with(py, |all| all.iter().map(|each| each.clone_ref(py)).collect())
        };
        PyList::new(py, all)?.try_iter()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: this is `__traverse__`.
        let (messages, waiting) = unsafe { (self.messages.for_traverse(), self.waiting.for_traverse()) };
        for message in messages {
            visit.call(message)?;
        }
        visit.call(waiting)
    }

    fn __clear__(&self, py: Python<'_>) {
        // SAFETY: the references are moved out.
        let _old = unsafe {
            (
                self.messages.with(py, std::mem::take),
                self.waiting.with(py, Option::take),
            )
        };
    }
}

impl Mailbox {
    /// Append a message and wake the process that waits.
    #[inline]
    pub fn put(&self, py: Python<'_>, message: Py<PyAny>) -> PyResult<()> {
        // SAFETY: nothing here runs Python code or drops an object: the wait is moved out.
        let waiting = unsafe {
            self.messages.with(py, |all| all.push_back(message));
            self.waiting.with(py, Option::take)
        };
        let Some(waiting) = waiting else {
            return Ok(());
        };
        match waiting.bind(py).cast::<Wait>() {
            Ok(wait) => Wait::wake(wait),
            Err(_) => waiting
                .call_method1(py, intern!(py, "set_result"), (py.None(),))
                .map(drop),
        }
    }

    #[inline]
    fn attention(&self, py: Python<'_>) -> Attention {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe { self.attention.with(py, |attention| *attention) }
    }

    fn at<'py>(&self, py: Python<'py>, index: usize) -> Option<Bound<'py, PyAny>> {
        // SAFETY: nothing here runs Python code or drops an object.
        let message = unsafe {
            self.messages
                .with(py, |all| all.get(index).map(|each| each.clone_ref(py)))
        };
        message.map(|each| each.into_bound(py))
    }

    fn remove(&self, py: Python<'_>, index: usize) {
        // SAFETY: nothing here runs Python code or drops an object: the message is moved out.
        let _removed = unsafe { self.messages.with(py, |all| all.remove(index)) };
    }

    /// Return a message that is not in the queue any more. A special message needs no attention then.
    fn removed<'py>(&self, py: Python<'py>, message: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.attention(py).special > 0 && is_special(&message)? {
            // SAFETY: nothing here runs Python code or drops an object.
            unsafe { self.attention.with(py, |attention| attention.special -= 1) };
        }
        Ok(message)
    }

    #[inline]
    fn pop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        // SAFETY: nothing here runs Python code or drops an object: the message is moved out.
        unsafe { self.messages.with(py, VecDeque::pop_front) }
    }
}

fn empty(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let empty = EMPTY.get_or_try_init(py, || {
        py.import("erlmesh.runtime.mailbox")?
            .getattr("EMPTY")
            .map(Bound::unbind)
    })?;
    Ok(empty.bind(py).clone())
}
