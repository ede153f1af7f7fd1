//! The checks of messages between the servers of process groups. They can have hundreds of thousands of pids.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::terms::Pid;

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(is_sync_of, module)?)
}

/// True for ``[{Group, [Pid]}]`` with processes of ``node`` only.
///
/// See ``erlmesh.services.pg.payloads.pure_is_sync_of``.
#[pyfunction]
fn is_sync_of(node: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> bool {
    let Ok(groups) = value.cast_exact::<PyList>() else {
        return false;
    };
    groups.iter().all(|group| {
        let Ok(group) = group.cast_exact::<PyTuple>() else {
            return false;
        };
        group.len() == 2 && group.get_borrowed_item(1).is_ok_and(|pids| are_pids_on(node, &pids))
    })
}

/// Whether it is a list of pids of this node. Atoms are interned, so the nodes are compared by address.
fn are_pids_on(node: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> bool {
    value.cast_exact::<PyList>().is_ok_and(|pids| {
        pids.iter().all(|pid| {
            pid.cast_exact::<Pid>()
                .is_ok_and(|pid| pid.get().node.as_ptr() == node.as_ptr())
        })
    })
}
