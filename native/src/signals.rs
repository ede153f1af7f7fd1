//! The signals that make up almost all traffic, as native classes.
//!
//! They behave as the dataclasses of `erlmesh.proto.control`: they compare, hash and print by their fields, and match
//! by position. Their attributes are read-only.

use pyo3::basic::CompareOp;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

macro_rules! signal {
    ($class:ident, $name:literal, ($($field:ident),+), ($($optional:ident)?), $doc:literal) => {
        #[doc = $doc]
        #[pyclass(frozen, name = $name, module = "erlmesh.proto.control")]
        pub struct $class {
            $(#[pyo3(get)] pub $field: Py<PyAny>,)+
            $(#[pyo3(get)] pub $optional: Py<PyAny>,)?
        }

        impl $class {
            fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
                PyTuple::new(py, [$(self.$field.bind(py),)+ $(self.$optional.bind(py),)?])
            }

            const FIELDS: &'static [&'static str] = &[$(stringify!($field),)+ $(stringify!($optional),)?];
        }

        #[pymethods]
        impl $class {
            #[new]
            #[allow(clippy::too_many_arguments)] // as many as there are fields
            #[pyo3(signature = ($($field),+ $(, $optional = None)?))]
            fn new(py: Python<'_>, $($field: Py<PyAny>),+ $(, $optional: Option<Py<PyAny>>)?) -> Self {
                let _ = py;
                $class { $($field,)+ $($optional: $optional.unwrap_or_else(|| py.None()),)? }
            }

            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
                PyTuple::new(py, Self::FIELDS.iter().map(|field| field.trim_start_matches("r#")))
            }

            fn __richcmp__<'py>(
                slf: &Bound<'py, Self>,
                other: &Bound<'py, PyAny>,
                op: CompareOp,
            ) -> PyResult<Bound<'py, PyAny>> {
                let py = slf.py();
                let not_implemented = py.NotImplemented().into_bound(py);
                let Ok(other) = other.cast_exact::<Self>() else { return Ok(not_implemented) };
                if !matches!(op, CompareOp::Eq | CompareOp::Ne) {
                    return Ok(not_implemented);
                }
                slf.get().values(py)?.rich_compare(other.get().values(py)?, op)
            }

            fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
                self.values(py)?.hash()
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let values = self.values(py)?;
                let mut parts = Vec::with_capacity(Self::FIELDS.len());
                for (field, value) in Self::FIELDS.iter().zip(values.iter()) {
                    let field = field.trim_start_matches("r#");
                    parts.push(format!("{field}={}", value.repr()?.to_cow()?));
                }
                Ok(format!(concat!($name, "({})"), parts.join(", ")))
            }

            fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
                Ok((slf.get_type(), slf.get().values(slf.py())?))
            }

            // A message may be a list that contains the signal, in a program that keeps signals. There is no `__clear__`:
            // the fields never change, and every cycle goes through a list or another object, which is cleared.
            fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
                $(visit.call(&self.$field)?;)+
                $(visit.call(&self.$optional)?;)?
                Ok(())
            }
        }
    };
}

signal!(
    SendSignal,
    "Send",
    (sender, to, message),
    (token),
    "A message to a pid (SEND 2, SEND_TT 12, SEND_SENDER 22/23).\n\n\
     ``sender`` is None if the control tuple has none (SEND). ``token`` is the sequential trace token, here and in all\n\
     other signals; None if there is none."
);
signal!(
    SendNameSignal,
    "SendName",
    (sender, name, message),
    (token),
    "A message to a name registered on the receiving node (REG_SEND 6/16)."
);
signal!(
    SendAliasSignal,
    "SendAlias",
    (sender, alias, message),
    (token),
    "A message to an alias (ALIAS_SEND 33/34)."
);
signal!(
    MonitorSignal,
    "Monitor",
    (sender, target, r#ref),
    (),
    "``sender`` monitors ``target``, a pid or a name registered on the receiving node (MONITOR_P 19)."
);
signal!(
    DemonitorSignal,
    "Demonitor",
    (sender, target, r#ref),
    (),
    "``sender`` removes its monitor ``ref`` on ``target`` (DEMONITOR_P 20)."
);
signal!(
    DownSignal,
    "Down",
    (source, to, r#ref, reason),
    (),
    "The monitored process exited (MONITOR_P_EXIT 21, PAYLOAD_MONITOR_P_EXIT 28).\n\n\
     ``source`` is the pid or the name that the Monitor signal had as its target."
);

signal!(
    SpawnRequestSignal,
    "SpawnRequest",
    (r#ref, sender, group_leader, module, function, arity, options, arguments),
    (token),
    "``sender`` asks the receiving node to start a process (SPAWN_REQUEST 29/30).\n\n\
     ``options`` is the option list as received (``monitor``, ``link``, …), not validated."
);
signal!(
    SpawnReplySignal,
    "SpawnReply",
    (r#ref, to, flags, result),
    (token),
    "The answer to the SpawnRequest ``ref`` (SPAWN_REPLY 31/32).\n\n\
     ``flags`` is 1 if a link was created, plus 2 if a monitor was. ``result`` is the new pid, or an atom with the\n\
     reason of the failure."
);

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SendSignal>()?;
    module.add_class::<SendNameSignal>()?;
    module.add_class::<SendAliasSignal>()?;
    module.add_class::<MonitorSignal>()?;
    module.add_class::<DemonitorSignal>()?;
    module.add_class::<DownSignal>()?;
    module.add_class::<SpawnRequestSignal>()?;
    module.add_class::<SpawnReplySignal>()
}
