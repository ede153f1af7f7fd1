//! System messages and library requests: messages that the node may have to answer for a process.
//!
//! See `is_system_message` and `is_library_request` in `erlmesh.core.gen`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::terms::Pid;

static ATOMS: PyOnceLock<Atoms> = PyOnceLock::new();

struct Atoms {
    system: Py<PyAny>,
    gen_call: Py<PyAny>,
    io_request: Py<PyAny>,
    file_request: Py<PyAny>,
    /// Requests to a supervisor that are an atom.
    alone: [Py<PyAny>; 2],
    /// The first elements of its requests that are pairs.
    in_pairs: [Py<PyAny>; 6],
    start_task: Py<PyAny>,
}

/// True for a system message and for a library request.
#[inline]
pub fn is_special(message: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Ok(message) = message.cast_exact::<PyTuple>() else {
        return Ok(false);
    };
    match message.len() {
        3 => is_special_triple(message),
        4 => is_io_request(message),
        _ => Ok(false),
    }
}

/// `{system, {Pid, Tag}, Request}`
#[inline]
pub fn is_system_message(message: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Ok(message) = message.cast_exact::<PyTuple>() else {
        return Ok(false);
    };
    Ok(message.len() == 3
        && message.get_borrowed_item(0)?.is(&atoms(message.py())?.system)
        && caller_of(message)?.is_some())
}

/// A system message, a call of a supervisor, or `{Pid, {Pid, Tag}, Request}` of `gen_event`.
fn is_special_triple(message: &Bound<'_, PyTuple>) -> PyResult<bool> {
    let atoms = atoms(message.py())?;
    let kind = message.get_borrowed_item(0)?;
    if kind.is(&atoms.gen_call) {
        return Ok(is_supervisor_request(&message.get_item(2)?, atoms)? && caller_of(message)?.is_some());
    }
    if kind.is(&atoms.system) {
        return Ok(caller_of(message)?.is_some());
    }
    if kind.cast_exact::<Pid>().is_err() {
        return Ok(false);
    }
    caller_of(message)?.map_or(Ok(false), |caller| kind.eq(caller))
}

/// `{io_request | file_request, Pid, ReplyAs, Request}`
fn is_io_request(message: &Bound<'_, PyTuple>) -> PyResult<bool> {
    let atoms = atoms(message.py())?;
    let kind = message.get_borrowed_item(0)?;
    Ok((kind.is(&atoms.io_request) || kind.is(&atoms.file_request))
        && message.get_borrowed_item(1)?.cast_exact::<Pid>().is_ok())
}

fn is_supervisor_request(request: &Bound<'_, PyAny>, atoms: &Atoms) -> PyResult<bool> {
    let Ok(tuple) = request.cast_exact::<PyTuple>() else {
        return Ok(atoms.alone.iter().any(|atom| request.is(atom)));
    };
    match tuple.len() {
        2 => {
            let name = tuple.get_borrowed_item(0)?;
            Ok(atoms.in_pairs.iter().any(|atom| name.is(atom)))
        }
        4 => Ok(tuple.get_borrowed_item(0)?.is(&atoms.start_task)),
        _ => Ok(false),
    }
}

/// The pid in the second element of `{_, {Pid, Tag}, _}`.
fn caller_of<'py>(message: &Bound<'py, PyTuple>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let caller = message.get_borrowed_item(1)?;
    let Ok(caller) = caller.cast_exact::<PyTuple>() else {
        return Ok(None);
    };
    if caller.len() != 2 {
        return Ok(None);
    }
    let pid = caller.get_item(0)?;
    Ok(pid.cast_exact::<Pid>().is_ok().then_some(pid))
}

fn atoms(py: Python<'_>) -> PyResult<&Atoms> {
    ATOMS.get_or_try_init(py, || {
        let class = py.import("erlmesh.terms.atoms")?.getattr("Atom")?;
        let atom = |name: &str| class.call1((name,)).map(Bound::unbind);
        Ok(Atoms {
            system: atom("system")?,
            gen_call: atom("$gen_call")?,
            io_request: atom("io_request")?,
            file_request: atom("file_request")?,
            alone: [atom("which_children")?, atom("count_children")?],
            in_pairs: [
                atom("start_child")?,
                atom("terminate_child")?,
                atom("restart_child")?,
                atom("delete_child")?,
                atom("get_childspec")?,
                atom("which_child")?,
            ],
            start_task: atom("start_task")?,
        })
    })
}
