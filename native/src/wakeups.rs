//! When the tasks of a node continue. See `erlmesh.runtime.wakeups`, which describes the contract.
//!
//! No cell is entered while Python code may run: a step is taken out of the queue before it runs.

use std::collections::VecDeque;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::ffi_tools::GilCell;
use crate::wire::monotonic;

static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();

/// Functions of Python's standard library.
pub struct Asyncio {
    pub get_running_loop: Py<PyAny>,
    current_task: Py<PyAny>,
    /// The table of the current tasks before Python 3.12. There `current_task` is a function in Python.
    current_tasks: Option<Py<PyDict>>,
    pub copy_context: Py<PyAny>,
    pub cancelled_error: Py<PyAny>,
    pub invalid_state_error: Py<PyAny>,
}

impl Asyncio {
    pub fn get(py: Python<'_>) -> PyResult<&'static Asyncio> {
        ASYNCIO.get_or_try_init(py, || {
            let asyncio = py.import("asyncio")?;
            let get = |name| asyncio.getattr(name).map(Bound::unbind);
            Ok(Asyncio {
                get_running_loop: get("get_running_loop")?,
                current_task: get("current_task")?,
                current_tasks: match py.version_info() < (3, 12) {
                    true => py.import("asyncio.tasks")?.getattr("_current_tasks")?.extract().ok(),
                    false => None,
                },
                cancelled_error: get("CancelledError")?,
                invalid_state_error: get("InvalidStateError")?,
                copy_context: py.import("contextvars")?.getattr("copy_context")?.unbind(),
            })
        })
    }

    /// Whether a task runs in the event loop now.
    fn is_in_task(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = event_loop.py();
        match &self.current_tasks {
            Some(tasks) => tasks.bind(py).contains(event_loop),
            None => Ok(!self.current_task.bind(py).call1((event_loop,))?.is_none()),
        }
    }
}

enum Arguments {
    /// The usual case: the callback of a task gets the wait.
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

/// A callback that runs in `context`.
struct Step {
    context: Py<PyAny>,
    callback: Py<PyAny>,
    arguments: Arguments,
}

impl Step {
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.arguments {
            // SAFETY: all arguments are valid objects, and the list of arguments ends with a null pointer.
            Arguments::One(argument) => unsafe {
                let result = ffi::PyObject_CallMethodObjArgs(
                    self.context.as_ptr(),
                    intern!(py, "run").as_ptr(),
                    self.callback.as_ptr(),
                    argument.as_ptr(),
                    std::ptr::null_mut::<ffi::PyObject>(),
                );
                Bound::from_owned_ptr_or_err(py, result)
            },
            Arguments::Many(arguments) => {
                let all = self.with_callback(py, arguments)?;
                self.context.bind(py).call_method1(intern!(py, "run"), all)
            }
        }
    }

    fn call_soon(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let options = PyDict::new(py);
        options.set_item(intern!(py, "context"), &self.context)?;
        let arguments = match &self.arguments {
            Arguments::One(argument) => PyTuple::new(py, [&self.callback, argument])?,
            Arguments::Many(arguments) => self.with_callback(py, arguments)?,
        };
        event_loop.call_method(intern!(py, "call_soon"), arguments, Some(&options))?;
        Ok(())
    }

    fn with_callback<'py>(&self, py: Python<'py>, arguments: &Py<PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
        let arguments = arguments.bind(py).iter();
        PyTuple::new(
            py,
            std::iter::once(self.callback.bind(py).clone())
                .chain(arguments)
                .collect::<Vec<_>>(),
        )
    }
}

#[pyclass(frozen, module = "erlmesh_native")]
pub struct Wakeups {
    /// The steps that the round has not run yet; None outside a round.
    steps: GilCell<Option<VecDeque<Step>>>,
    /// The class of the event loop seen last, and whether it has the method `may_run`.
    loop_class: GilCell<Option<(Py<PyType>, bool)>>,
    max_steps: usize,
    max_seconds: f64,
    clock_interval: usize,
}

#[pymethods]
impl Wakeups {
    #[new]
    #[pyo3(signature = (max_steps = 2_000, max_seconds = 0.001, clock_interval = 8))]
    fn new(max_steps: usize, max_seconds: f64, clock_interval: usize) -> Wakeups {
        Wakeups {
            steps: GilCell::new(None),
            loop_class: GilCell::new(None),
            max_steps,
            max_seconds,
            clock_interval: clock_interval.max(1),
        }
    }

    /// Call `callback(*arguments)` later: in this round, or outside a round in the next loop iteration.
    #[pyo3(signature = (event_loop, context, callback, *arguments))]
    fn schedule(
        &self,
        event_loop: &Bound<'_, PyAny>,
        context: Py<PyAny>,
        callback: Py<PyAny>,
        arguments: Py<PyTuple>,
    ) -> PyResult<()> {
        self.add(event_loop, context, callback, Arguments::Many(arguments))
    }

    /// Call `apply(*arguments)`, and then run the steps that it has scheduled. Return its result.
    #[pyo3(signature = (apply, *arguments))]
    fn run_round<'py>(
        slf: &Bound<'py, Self>,
        apply: &Bound<'py, PyAny>,
        arguments: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Wakeups::round(slf, || apply.call1(arguments))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: this is `__traverse__`.
        let steps = unsafe { self.steps.for_traverse() };
        for step in steps.iter().flatten() {
            visit.call(&step.context)?;
            visit.call(&step.callback)?;
            match &step.arguments {
                Arguments::One(argument) => visit.call(argument)?,
                Arguments::Many(arguments) => visit.call(arguments)?,
            }
        }
        Ok(())
    }
}

impl Wakeups {
    /// Call `apply`, and then run the steps that it has scheduled. Return its result.
    pub fn round<R>(slf: &Bound<'_, Self>, apply: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        let (py, this) = (slf.py(), slf.get());
        let asyncio = Asyncio::get(py)?;
        let event_loop = asyncio.get_running_loop.bind(py).call0()?;
        // SAFETY: nothing here runs Python code or drops an object.
        let in_round = unsafe { this.steps.with(py, |steps| steps.is_some()) };
        if in_round || asyncio.is_in_task(&event_loop)? {
            return apply();
        }
        // SAFETY: as above.
        unsafe { this.steps.with(py, |steps| *steps = Some(VecDeque::new())) };
        let result = apply().and_then(|result| {
            this.run_steps(&event_loop)?;
            Ok(result)
        });
        // SAFETY: as above: the steps are moved out.
        let rest = unsafe { this.steps.with(py, Option::take) };
        for step in rest.into_iter().flatten() {
            step.call_soon(&event_loop)?;
        }
        result
    }

    /// Call `callback(argument)` later, as `schedule` does.
    #[inline]
    pub fn schedule_one(
        &self,
        event_loop: &Bound<'_, PyAny>,
        context: Py<PyAny>,
        callback: Py<PyAny>,
        argument: Py<PyAny>,
    ) -> PyResult<()> {
        self.add(event_loop, context, callback, Arguments::One(argument))
    }

    #[inline]
    fn add(
        &self,
        event_loop: &Bound<'_, PyAny>,
        context: Py<PyAny>,
        callback: Py<PyAny>,
        arguments: Arguments,
    ) -> PyResult<()> {
        let step = Step {
            context,
            callback,
            arguments,
        };
        // SAFETY: nothing here runs Python code or drops an object.
        let outside = unsafe {
            self.steps.with(event_loop.py(), |steps| match steps {
                Some(steps) => {
                    steps.push_back(step);
                    None
                }
                None => Some(step),
            })
        };
        outside.map_or(Ok(()), |step| step.call_soon(event_loop))
    }

    fn next_step(&self, py: Python<'_>) -> Option<Step> {
        // SAFETY: nothing here runs Python code or drops an object: the step is moved out.
        unsafe { self.steps.with(py, |steps| steps.as_mut()?.pop_front()) }
    }

    fn has_steps(&self, py: Python<'_>) -> bool {
        // SAFETY: nothing here runs Python code or drops an object.
        unsafe {
            self.steps
                .with(py, |steps| steps.as_ref().is_some_and(|steps| !steps.is_empty()))
        }
    }

    fn run_steps(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        if !self.has_steps(py) {
            return Ok(());
        }
        let may_run = self.may_run(event_loop)?;
        // A simulated loop has a clock of its own. Otherwise a look at the clock needs no call of Python code.
        let time = || match may_run {
            Some(_) => event_loop.call_method0(intern!(py, "time"))?.extract::<f64>(),
            None => Ok(monotonic()),
        };
        let end = time()? + self.max_seconds;
        for count in 1..=self.max_steps {
            let Some(step) = self.next_step(py) else {
                return Ok(());
            };
            let deferred = match &may_run {
                Some(may_run) => !may_run.call1((&step.context,))?.is_truthy()?,
                None => false,
            };
            if deferred {
                step.call_soon(event_loop)?;
            } else if let Err(error) = step.run(py) {
                if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
                    return Err(error); // it ends the event loop, as from every callback of asyncio
                }
                report(event_loop, &step, &error)?;
            }
            if !self.has_steps(py) || (count % self.clock_interval == 0 && time()? >= end) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The method of a simulated loop that says whether a machine runs. Other loops do not have it.
    fn may_run<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = event_loop.py();
        let class = event_loop.get_type();
        // SAFETY: nothing here runs Python code or drops an object.
        let known = unsafe {
            self.loop_class.with(py, |known| match known {
                Some((seen, has)) if seen.as_ptr() == class.as_ptr() => Some(*has),
                _ => None,
            })
        };
        let name = intern!(py, "may_run");
        let has = match known {
            Some(has) => has,
            None => {
                let has = class.hasattr(name)?;
                // SAFETY: as above: the old entry is moved out.
                let _old = unsafe { self.loop_class.with(py, |known| known.replace((class.unbind(), has))) };
                has
            }
        };
        has.then(|| event_loop.getattr(name)).transpose()
    }
}

#[cold]
fn report(event_loop: &Bound<'_, PyAny>, step: &Step, error: &PyErr) -> PyResult<()> {
    let py = event_loop.py();
    let context = PyDict::new(py);
    let message = format!("Exception in callback {}", step.callback.bind(py).repr()?.to_cow()?);
    context.set_item("message", message)?;
    context.set_item("exception", error.value(py))?;
    event_loop.call_method1("call_exception_handler", (context,))?;
    Ok(())
}
