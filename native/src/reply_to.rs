//! Where the reply of a call goes. See `erlmesh.core.gen.reply_to`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple};

use crate::terms::{ImproperList, Ref};

static ALIAS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static PURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(reply_to, module)?)
}

/// Return where to send `(tag, reply)` for `caller`, the `{Pid, Tag}` of a call.
#[pyfunction]
fn reply_to<'py>(caller: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = caller.py();
    let Some((pid, tag)) = pair(caller) else {
        return PURE.import(py, "erlmesh.core.gen", "pure_reply_to")?.call1((caller,));
    };
    if let Ok(list) = tag.cast_exact::<ImproperList>() {
        if let Some(alias) = as_alias(&tag)? {
            return Ok(alias);
        }
        let first = list.get().elements.bind(py).get_item(0)?;
        return Ok(as_alias(&first)?.unwrap_or(pid));
    }
    let first = tag.cast_exact::<PyList>().ok().and_then(|list| list.get_item(0).ok());
    Ok(match first {
        Some(first) => as_alias(&first)?.unwrap_or(pid),
        None => pid,
    })
}

#[inline]
fn pair<'py>(caller: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let caller = caller.cast_exact::<PyTuple>().ok().filter(|caller| caller.len() == 2)?;
    Some((caller.get_item(0).ok()?, caller.get_item(1).ok()?))
}

/// The reference of `[alias | Ref]`; None for any other term.
#[inline]
fn as_alias<'py>(term: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = term.py();
    let Ok(list) = term.cast_exact::<ImproperList>() else {
        return Ok(None);
    };
    let (elements, tail) = (list.get().elements.bind(py), list.get().tail.bind(py));
    if elements.len() != 1 || tail.cast_exact::<Ref>().is_err() {
        return Ok(None);
    }
    let alias = ALIAS.import(py, "erlmesh.core.gen", "ALIAS")?;
    Ok(elements.get_item(0)?.is(alias).then(|| tail.clone()))
}
