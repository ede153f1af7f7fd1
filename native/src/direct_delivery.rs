//! Puts received messages into the mailboxes of a node's processes, without a signal and without the router.
//!
//! It looks at the tables of `erlmesh.runtime.registry` and at the processes themselves, as `Router.handle_signals`
//! does. So it needs no table of its own, and sees every change at once.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::ffi_tools::{clear_error, Slot};
use crate::mailbox::Mailbox;
use crate::terms::Pid;

#[pyclass(frozen, module = "erlmesh_native")]
pub struct DirectDelivery {
    node: Py<PyAny>,
    creation: u32,
    /// `ProcessRegistry.processes`
    processes: Py<PyDict>,
    /// `ProcessRegistry.names`
    names: Py<PyDict>,
    mailbox: Slot,
    handler: Slot,
    pending_calls: Slot,
}

#[pymethods]
impl DirectDelivery {
    #[new]
    fn new(
        node: Py<PyAny>,
        creation: u32,
        processes: Py<PyDict>,
        names: Py<PyDict>,
        process_class: &Bound<'_, PyAny>,
    ) -> PyResult<DirectDelivery> {
        Ok(DirectDelivery {
            node,
            creation,
            processes,
            names,
            mailbox: Slot::new(process_class, "_mailbox")?,
            handler: Slot::new(process_class, "_handler")?,
            pending_calls: Slot::new(process_class, "_pending_calls")?,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.node)?;
        visit.call(&self.processes)?;
        visit.call(&self.names)
    }
}

impl DirectDelivery {
    /// The mailbox of a living process that takes a message as it is: it has a task, and no call that waits for an
    /// answer.
    #[inline]
    pub fn mailbox_of_pid<'py>(&self, py: Python<'py>, to: &Bound<'py, PyAny>) -> Option<Bound<'py, Mailbox>> {
        let pid = to.cast_exact::<Pid>().ok()?.get();
        if pid.creation != self.creation || pid.node.as_ptr() != self.node.as_ptr() {
            return None;
        }
        let number = u64::from(pid.id) | u64::from(pid.serial) << 32;
        self.mailbox_in(self.processes.bind(py), number)
    }

    /// The mailbox of such a process with a registered name.
    #[inline]
    pub fn mailbox_of_name<'py>(&self, name: &Bound<'py, PyAny>) -> Option<Bound<'py, Mailbox>> {
        self.mailbox_in(self.names.bind(name.py()), name)
    }

    #[inline]
    fn mailbox_in<'py>(&self, table: &Bound<'py, PyDict>, key: impl IntoPyObject<'py>) -> Option<Bound<'py, Mailbox>> {
        let py = table.py();
        let process = table.get_item(key).ok().flatten()?;
        let (Some(handler), Some(pending)) = (self.handler.get(&process), self.pending_calls.get(&process)) else {
            clear_error(py); // a process that is not complete yet
            return None;
        };
        if !handler.is_none() || !pending.cast_exact::<PyDict>().ok()?.is_empty() {
            return None;
        }
        let Some(mailbox) = self.mailbox.get(&process) else {
            clear_error(py);
            return None;
        };
        mailbox.cast_into_exact::<Mailbox>().ok()
    }
}
