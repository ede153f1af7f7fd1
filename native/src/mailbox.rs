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

/// Messages of the first notice.
const NOTICE_FROM: usize = 10_000;

#[pyclass(frozen, module = "erlmesh_native")]
pub struct Mailbox {
    messages: GilCell<VecDeque<Py<PyAny>>>,
    waiting: GilCell<Option<Py<PyAny>>>,
    attention: GilCell<Attention>,
    notices: GilCell<Notices>,
    /// The number of messages above which `put` returns True.
    call_limit: GilCell<Option<usize>>,
    /// Called with the mailbox and the number of messages.
    grown: Option<Py<PyAny>>,
}

/// At how many messages `grown` is called.
#[derive(Clone, Copy)]
struct Notices {
    /// The next time.
    at: usize,
    /// The first time after the mailbox was empty.
    first: usize,
    limit: Option<usize>,
}

impl Notices {
    fn new(limit: Option<usize>) -> Notices {
        let first = limit.map_or(NOTICE_FROM, |limit| NOTICE_FROM.min(limit.saturating_add(1)));
        Notices {
            at: first,
            first,
            limit,
        }
    }

    /// `count` messages wait. Return true if `grown` is to be called.
    #[inline]
    fn note(&mut self, count: usize, was_waiting: bool) -> bool {
        if count >= self.at {
            self.pass(count);
            return true;
        }
        if count == 1 && was_waiting {
            self.at = self.first;
        }
        false
    }

    #[cold]
    fn pass(&mut self, count: usize) {
        let mut following = NOTICE_FROM;
        while following <= count {
            following = following.saturating_mul(10);
        }
        self.at = match self.limit {
            Some(limit) if limit >= count => following.min(limit.saturating_add(1)),
            _ => following,
        };
    }
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
    #[pyo3(signature = (grown = None))]
    fn new(grown: Option<Py<PyAny>>) -> Mailbox {
        Mailbox {
            messages: GilCell::default(),
            waiting: GilCell::default(),
            attention: GilCell::default(),
            notices: GilCell::new(Notices::new(None)),
            call_limit: GilCell::default(),
            grown,
        }
    }

    #[getter]
    fn limit(&self, py: Python<'_>) -> Option<usize> {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe { self.notices.with(py, |notices| notices.limit) }
    }

    #[setter]
    fn set_limit(&self, py: Python<'_>, limit: Option<usize>) {
        // SAFETY: as above.
        unsafe { self.notices.with(py, |notices| *notices = Notices::new(limit)) };
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

    #[getter]
    fn call_limit(&self, py: Python<'_>) -> Option<usize> {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe { self.call_limit.with(py, |limit| *limit) }
    }

    #[setter]
    fn set_call_limit(&self, py: Python<'_>, new: Option<usize>) {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe { self.call_limit.with(py, |limit| *limit = new) };
    }

    /// True if `take` returns `EMPTY` because of a special message or because the mailbox is held.
    #[getter]
    fn needs_attention(&self, py: Python<'_>) -> bool {
        self.attention(py).needed()
    }

    /// Append a message and wake the process that waits. Return True for a special message, and above the limit for calls.
    #[pyo3(name = "put")]
    fn put_from_python(slf: &Bound<'_, Self>, message: Py<PyAny>) -> PyResult<bool> {
        let py = slf.py();
        let is_above = slf.get().is_full(py);
        let special = is_special(message.bind(py))?;
        if special {
            // SAFETY: nothing here runs Python code or drops an object.
            unsafe { slf.get().attention.with(py, |attention| attention.special += 1) };
        }
        Mailbox::put(slf, message).map(|()| special || is_above)
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

    /// Remove and return the newest message if `match` accepts it, else return `EMPTY`.
    fn take_newest<'py>(&self, py: Python<'py>, r#match: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Some(last) = self.__len__(py).checked_sub(1) else {
            return empty(py);
        };
        let Some(message) = self.at(py, last) else {
            return empty(py);
        };
        if !r#match.call1((&message,))?.is_truthy()? {
            return empty(py);
        }
        self.remove(py, last);
        self.removed(py, message)
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
        visit.call(waiting)?;
        visit.call(&self.grown)
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
    pub fn put(slf: &Bound<'_, Self>, message: Py<PyAny>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        // SAFETY: nothing here runs Python code or drops an object: the wait is moved out.
        let (count, waiting, is_notice) = unsafe {
            let count = this.messages.with(py, |all| {
                all.push_back(message);
                all.len()
            });
            let waiting = this.waiting.with(py, Option::take);
            let is_notice = this.notices.with(py, |notices| notices.note(count, waiting.is_some()));
            (count, waiting, is_notice)
        };
        if is_notice {
            Mailbox::call_grown(slf, count);
        }
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

    /// The message has arrived, so an error must not look as if it had not.
    #[cold]
    fn call_grown(slf: &Bound<'_, Self>, count: usize) {
        if let Some(grown) = &slf.get().grown {
            if let Err(error) = grown.call1(slf.py(), (slf, count)) {
                error.write_unraisable(slf.py(), Some(slf));
            }
        }
    }

    /// True if the next message is one above the limit for calls.
    #[inline]
    pub fn is_full(&self, py: Python<'_>) -> bool {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe { self.call_limit.with(py, |limit| *limit) }.is_some_and(|limit| self.__len__(py) >= limit)
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
