//! What a task awaits. See `erlmesh.runtime.wakeups.PureWait`, which describes the contract.
//!
//! An awaited object is its own iterator, so a wait needs no coroutine. asyncio's tasks use it as a future.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTimeoutError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::ffi_tools::GilCell;
use crate::wakeups::{Asyncio, Wakeups};

#[derive(Default)]
struct State {
    /// The context and the callback of the task that waits.
    waiter: Option<(Py<PyAny>, Py<PyAny>)>,
    /// None stands for Python's None.
    result: Option<Py<PyAny>>,
    exception: Option<Py<PyAny>>,
}

#[pyclass(frozen, subclass, module = "erlmesh_native")]
pub struct Wait {
    wakeups: Py<Wakeups>,
    event_loop: Py<PyAny>,
    is_done: AtomicBool,
    /// asyncio's mark for a future that was yielded to a task.
    blocking: AtomicBool,
    /// It was yielded to the task, and the task has not continued yet.
    yielded: AtomicBool,
    timed_out: AtomicBool,
    state: GilCell<State>,
}

#[pymethods]
impl Wait {
    #[new]
    fn new(wakeups: Bound<'_, Wakeups>) -> PyResult<Wait> {
        let py = wakeups.py();
        let event_loop = Asyncio::get(py)?.get_running_loop.bind(py).call0()?;
        Ok(Wait {
            wakeups: wakeups.unbind(),
            event_loop: event_loop.unbind(),
            is_done: AtomicBool::new(false),
            blocking: AtomicBool::new(false),
            yielded: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            state: GilCell::new(State::default()),
        })
    }

    #[getter]
    fn timed_out(&self) -> bool {
        self.timed_out.load(Relaxed)
    }

    #[getter]
    fn _asyncio_future_blocking(&self) -> bool {
        self.blocking.load(Relaxed)
    }

    #[setter]
    #[pyo3(name = "_asyncio_future_blocking")]
    fn set_blocking(&self, value: bool) {
        self.blocking.store(value, Relaxed);
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf.get().yielded.store(false, Relaxed);
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Yield the wait itself once, unless it is done. Then return the result by StopIteration.
    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let wait = slf.get();
        if !wait.is_done.load(Relaxed) && !wait.yielded.swap(true, Relaxed) {
            wait.blocking.store(true, Relaxed);
            return Ok(Some(slf.as_any().clone()));
        }
        let py = slf.py();
        match wait.take_result(py)? {
            Some(result) => Err(PyStopIteration::new_err((result,))),
            None => Ok(None), // the iterator ends, and the value is None
        }
    }

    fn done(&self) -> bool {
        self.is_done.load(Relaxed)
    }

    pub fn set_result(slf: &Bound<'_, Self>, result: Bound<'_, PyAny>) -> PyResult<()> {
        let result = (!result.is_none()).then(|| result.unbind());
        finish(slf, |state| state.result = result)
    }

    fn set_exception(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        finish(slf, |state| state.exception = Some(exception))
    }

    fn expire(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().timed_out.store(true, Relaxed);
        if slf.get().is_done.load(Relaxed) {
            return Ok(());
        }
        let error = PyTimeoutError::new_err(()).into_value(slf.py());
        finish(slf, |state| state.exception = Some(error.into_any()))
    }

    fn renew(&self) {
        self.is_done.store(false, Relaxed);
        self.yielded.store(false, Relaxed);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, wait) = (slf.py(), slf.get());
        // SAFETY: nothing here runs Python code or drops an object.
        if unsafe { wait.state.with(py, |state| state.waiter.is_some()) } {
            return Err(PyRuntimeError::new_err("only one task can await this object"));
        }
        let context = match context {
            Some(context) => context,
            None => Asyncio::get(py)?.copy_context.bind(py).call0()?.unbind(),
        };
        if wait.is_done.load(Relaxed) {
            let argument = slf.clone().unbind().into_any();
            let event_loop = wait.event_loop.bind(py);
            return wait.wakeups.get().schedule_one(event_loop, context, callback, argument);
        }
        // SAFETY: as above: the old waiter is moved out.
        let _old = unsafe { wait.state.with(py, |state| state.waiter.replace((context, callback))) };
        Ok(())
    }

    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        if slf.get().is_done.load(Relaxed) {
            return Ok(false);
        }
        let class = Asyncio::get(slf.py())?.cancelled_error.bind(slf.py());
        let error = match msg {
            None => class.call0()?,
            Some(message) => class.call1((message,))?,
        };
        finish(slf, |state| state.exception = Some(error.unbind()))?;
        Ok(true)
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.take_result(py)?.unwrap_or_else(|| py.None()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: this is `__traverse__`.
        let state = unsafe { self.state.for_traverse() };
        if let Some((context, callback)) = &state.waiter {
            visit.call(context)?;
            visit.call(callback)?;
        }
        visit.call(&state.result)?;
        visit.call(&state.exception)?;
        visit.call(&self.wakeups)?;
        visit.call(&self.event_loop)
    }

    fn __clear__(&self, py: Python<'_>) {
        // SAFETY: the references are moved out.
        let _old = unsafe { self.state.with(py, std::mem::take) };
    }
}

impl Wait {
    /// The result, or None for Python's None. An exception is raised only once.
    fn take_result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if !self.is_done.load(Relaxed) {
            let class = Asyncio::get(py)?.invalid_state_error.bind(py);
            let error = class.call1(("the task continued before it was woken up",))?;
            return Err(PyErr::from_value(error));
        }
        // SAFETY: nothing here runs Python code or drops an object: the exception is moved out.
        let (exception, result) = unsafe {
            self.state.with(py, |state| {
                let result = state.result.as_ref().map(|result| result.clone_ref(py));
                (state.exception.take(), result)
            })
        };
        match exception {
            Some(exception) => Err(PyErr::from_value(exception.into_bound(py))),
            None => Ok(result),
        }
    }

    /// Let the task continue with the result None.
    #[inline]
    pub fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        finish(slf, |_| ())
    }
}

/// End the wait, unless it has ended. `set` stores the result; it must not drop an object.
#[inline]
fn finish(slf: &Bound<'_, Wait>, set: impl FnOnce(&mut State)) -> PyResult<()> {
    let (py, wait) = (slf.py(), slf.get());
    if wait.is_done.swap(true, Relaxed) {
        return Ok(());
    }
    // SAFETY: nothing here runs Python code or drops an object: what was there is moved out.
    let (old, waiter) = unsafe {
        wait.state.with(py, |state| {
            let old = (state.result.take(), state.exception.take());
            set(state);
            (old, state.waiter.take())
        })
    };
    drop(old);
    let Some((context, callback)) = waiter else {
        return Ok(());
    };
    let argument = slf.clone().unbind().into_any();
    let event_loop = wait.event_loop.bind(py);
    wait.wakeups.get().schedule_one(event_loop, context, callback, argument)
}
