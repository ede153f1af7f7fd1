//! A queue with selective receive. See `erlmesh.runtime.mailbox`, which describes the contract.

use std::collections::VecDeque;

use pyo3::exceptions::PyIndexError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyIterator, PyList};

use crate::ffi_tools::GilCell;
use crate::wait::Wait;

static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

#[pyclass(frozen, module = "erlmesh_native")]
#[derive(Default)]
pub struct Mailbox {
    messages: GilCell<VecDeque<Py<PyAny>>>,
    waiting: GilCell<Option<Py<PyAny>>>,
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

    /// Append a message and wake the process that waits.
    #[pyo3(name = "put")]
    fn put_from_python(&self, py: Python<'_>, message: Py<PyAny>) -> PyResult<()> {
        self.put(py, message)
    }

    /// Remove and return the first message that `match` accepts, or `EMPTY`.
    #[pyo3(signature = (r#match = None, skip = 0))]
    fn take<'py>(
        &self,
        py: Python<'py>,
        r#match: Option<&Bound<'py, PyAny>>,
        skip: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(accepts) = r#match else {
            return self
                .pop(py)
                .map_or_else(|| empty(py), |message| Ok(message.into_bound(py)));
        };
        for index in skip..self.__len__(py) {
            // SAFETY: nothing here runs Python code or drops an object.
            let message = unsafe {
                self.messages
                    .with(py, |all| all.get(index).map(|each| each.clone_ref(py)))
            };
            let Some(message) = message else { break };
            if accepts.call1((&message,))?.is_truthy()? {
                // SAFETY: as above: the message is moved out.
                let _removed = unsafe { self.messages.with(py, |all| all.remove(index)) };
                return Ok(message.into_bound(py));
            }
        }
        empty(py)
    }

    /// Remove and return the first message.
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
