//! Applies received signals to a node's tables and mailboxes, without a signal object and without the router.
//!
//! These are messages to processes with a task, replies to calls that wait for them, and monitors. It looks at the
//! tables of `erlmesh.runtime.registry` and `erlmesh.core.monitors`, and at the processes themselves, as the router
//! does. So it needs no table of its own, and sees every change at once.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::ffi_tools::{clear_error, Slot};
use crate::mailbox::Mailbox;
use crate::terms::Pid;
use crate::wait::Wait;

#[pyclass(frozen, module = "erlmesh_native")]
pub struct DirectDelivery {
    node: Py<PyAny>,
    creation: u32,
    /// `ProcessRegistry.processes`
    processes: Py<PyDict>,
    /// `ProcessRegistry.names`
    names: Py<PyDict>,
    /// `ProcessRegistry.aliases`
    aliases: Py<PyDict>,
    targets: TargetTables,
    pid: Slot,
    mailbox: Slot,
    handler: Slot,
    pending_calls: Slot,
}

/// The tables of `Monitors` about local processes that are monitored.
struct TargetTables {
    /// `Monitors._target_by_ref`
    by_ref: Py<PyDict>,
    /// `Monitors._targets_by_pid`
    by_pid: Py<PyDict>,
    /// `Monitors._targets_by_origin_node`
    by_origin_node: Py<PyDict>,
    /// `NodeState.demonitor_callbacks`
    callbacks: Py<PyDict>,
}

/// Where a message goes that was sent to an alias.
pub enum ByAlias<'py> {
    /// The alias does not exist any more.
    Nowhere,
    /// A call waits for it.
    Call(Bound<'py, Wait>),
    /// The router must deliver it.
    Process,
}

#[pymethods]
impl DirectDelivery {
    /// `registry` are its tables by pid, name and alias. `targets` are those of the monitors: by reference, by pid and
    /// by the node of the origin.
    #[new]
    fn new(
        node: Py<PyAny>,
        creation: u32,
        registry: (Py<PyDict>, Py<PyDict>, Py<PyDict>),
        targets: (Py<PyDict>, Py<PyDict>, Py<PyDict>, Py<PyDict>),
        process_class: &Bound<'_, PyAny>,
    ) -> PyResult<DirectDelivery> {
        let (processes, names, aliases) = registry;
        let (by_ref, by_pid, by_origin_node, callbacks) = targets;
        Ok(DirectDelivery {
            node,
            creation,
            processes,
            names,
            aliases,
            targets: TargetTables {
                by_ref,
                by_pid,
                by_origin_node,
                callbacks,
            },
            pid: Slot::new(process_class, "pid")?,
            mailbox: Slot::new(process_class, "_mailbox")?,
            handler: Slot::new(process_class, "_handler")?,
            pending_calls: Slot::new(process_class, "_pending_calls")?,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.node)?;
        visit.call(&self.processes)?;
        visit.call(&self.names)?;
        visit.call(&self.aliases)?;
        visit.call(&self.targets.by_ref)?;
        visit.call(&self.targets.by_pid)?;
        visit.call(&self.targets.by_origin_node)?;
        visit.call(&self.targets.callbacks)
    }
}

impl DirectDelivery {
    /// The mailbox of a living process that takes a message as it is: it has a task, and no call that waits for an
    /// answer.
    #[inline]
    pub fn mailbox_of_pid<'py>(&self, to: &Bound<'py, PyAny>) -> Option<Bound<'py, Mailbox>> {
        self.mailbox_of(&self.process_of_pid(to)?)
    }

    /// The mailbox of such a process with a registered name.
    #[inline]
    pub fn mailbox_of_name<'py>(&self, name: &Bound<'py, PyAny>) -> Option<Bound<'py, Mailbox>> {
        self.mailbox_of(&found(self.names.bind(name.py()), name)?)
    }

    /// Where a message to an alias goes, as in `Router._on_send_alias`.
    #[inline]
    pub fn by_alias<'py>(&self, alias: &Bound<'py, PyAny>) -> ByAlias<'py> {
        let Some(process) = found(self.aliases.bind(alias.py()), alias) else {
            return ByAlias::Nowhere;
        };
        let pending = self.attribute(&self.pending_calls, &process);
        let call = pending.and_then(|pending| found(pending.cast_exact::<PyDict>().ok()?, alias));
        match call.and_then(|call| call.cast_into::<Wait>().ok()) {
            Some(wait) => ByAlias::Call(wait),
            None => ByAlias::Process,
        }
    }

    /// Do the same as `Router._on_monitor`. Return false if there is no such process: then the router answers.
    #[inline]
    pub fn monitor(
        &self,
        origin: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        reference: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let py = origin.py();
        let process = match target.cast_exact::<Pid>() {
            Ok(_) => self.process_of_pid(target),
            Err(_) => found(self.names.bind(py), target),
        };
        let Some(pid) = process.and_then(|process| self.attribute(&self.pid, &process)) else {
            return Ok(false);
        };
        let node = origin.cast_exact::<Pid>()?.get().node.bind(py);
        let by_ref = self.targets.by_ref.bind(py);
        if by_ref.contains(reference)? {
            return Ok(true); // a reference is unique: a peer that uses one twice is faulty
        }
        by_ref.set_item(reference, &pid)?;
        inner(self.targets.by_pid.bind(py), &pid)?.set_item(reference, PyTuple::new(py, [origin, target])?)?;
        if !node.is(&self.node) {
            inner(self.targets.by_origin_node.bind(py), node)?.set_item(reference, &pid)?;
        }
        Ok(true)
    }

    /// Do the same as `Monitors.demonitor_received`. Return false if there is a callback: then the router calls it.
    #[inline]
    pub fn demonitor(&self, reference: &Bound<'_, PyAny>, origin: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = origin.py();
        let callbacks = self.targets.callbacks.bind(py);
        if !callbacks.is_empty() && callbacks.contains(reference)? {
            return Ok(false);
        }
        let by_ref = self.targets.by_ref.bind(py);
        let by_pid = self.targets.by_pid.bind(py);
        let Some(pid) = by_ref.get_item(reference)? else {
            return Ok(true);
        };
        let Some(monitors) = by_pid.get_item(&pid)? else {
            return Ok(true);
        };
        let monitors = monitors.cast_into::<PyDict>()?;
        let entry = monitors.get_item(reference)?;
        let monitoring = entry.map(|entry| entry.cast_into::<PyTuple>()?.get_item(0));
        if !monitoring.transpose()?.is_some_and(|pid| is_same_pid(&pid, origin)) {
            return Ok(true); // another process has made this monitor
        }
        by_ref.del_item(reference)?;
        monitors.del_item(reference)?;
        if monitors.is_empty() {
            by_pid.del_item(&pid)?;
        }
        let node = origin.cast_exact::<Pid>()?.get().node.bind(py);
        let by_origin_node = self.targets.by_origin_node.bind(py);
        if let Some(refs) = found(by_origin_node, node) {
            let refs = refs.cast_into::<PyDict>()?;
            if refs.contains(reference)? {
                refs.del_item(reference)?;
            }
            if refs.is_empty() {
                by_origin_node.del_item(node)?;
            }
        }
        Ok(true)
    }

    #[inline]
    fn process_of_pid<'py>(&self, to: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let pid = to.cast_exact::<Pid>().ok()?.get();
        if pid.creation != self.creation || pid.node.as_ptr() != self.node.as_ptr() {
            return None;
        }
        let number = u64::from(pid.id) | u64::from(pid.serial) << 32;
        found(self.processes.bind(to.py()), number)
    }

    #[inline]
    fn mailbox_of<'py>(&self, process: &Bound<'py, PyAny>) -> Option<Bound<'py, Mailbox>> {
        let handler = self.attribute(&self.handler, process)?;
        let pending = self.attribute(&self.pending_calls, process)?;
        if !handler.is_none() || !pending.cast_exact::<PyDict>().ok()?.is_empty() {
            return None;
        }
        self.attribute(&self.mailbox, process)?
            .cast_into_exact::<Mailbox>()
            .ok()
    }

    /// An attribute of a process; None for a process that is not complete yet.
    #[inline]
    fn attribute<'py>(&self, slot: &Slot, process: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let value = slot.get(process);
        if value.is_none() {
            clear_error(process.py());
        }
        value
    }
}

#[inline]
fn found<'py>(table: &Bound<'py, PyDict>, key: impl IntoPyObject<'py>) -> Option<Bound<'py, PyAny>> {
    table.get_item(key).ok().flatten()
}

/// The dict for `key`; a new one if there is none.
#[inline]
fn inner<'py>(table: &Bound<'py, PyDict>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    if let Some(inner) = table.get_item(key)? {
        return Ok(inner.cast_into::<PyDict>()?);
    }
    let new = PyDict::new(table.py());
    table.set_item(key, &new)?;
    Ok(new)
}

#[inline]
fn is_same_pid(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> bool {
    match (one.cast_exact::<Pid>(), other.cast_exact::<Pid>()) {
        (Ok(one), Ok(other)) => one.get().is_same(other.get()),
        _ => false,
    }
}
