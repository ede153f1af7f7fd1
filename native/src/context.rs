//! What the crate knows about erlmesh's Python classes, and its caches of atoms and pids.

use std::hash::{BuildHasher, RandomState};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

use crate::ffi_tools::{fold, hash_bytes, is_exact, GilCell, Slot};
use crate::terms::Pid;

const CACHE_SIZE: usize = 1024;

static CONTEXT: PyOnceLock<Context> = PyOnceLock::new();

/// The term classes of `erlmesh.terms`, and caches. There is one for the process: PyO3 refuses subinterpreters.
pub struct Context {
    pub atom_type: Py<PyType>,
    pub map_type: Py<PyType>,
    pub port_type: Py<PyType>,
    pub export_type: Py<PyType>,
    pub bit_string_type: Py<PyType>,
    pub true_atom: Py<PyAny>,
    pub false_atom: Py<PyAny>,
    /// `Atom.name`
    pub atom_name: Slot,
    pub map_values: Slot,
    pub map_original_keys: Slot,
    pub map_digest: Slot,
    /// The `_original_keys` of all maps whose keys are their own exact keys. It is never changed.
    pub empty_dict: Py<PyDict>,
    seed: u64,
    names: GilCell<Box<[Option<Name>]>>,
    pids: GilCell<Box<[Option<Py<Pid>>]>>,
    pub stack: GilCell<Vec<*mut ffi::PyObject>>,
    pub scratch: GilCell<Vec<u8>>,
}

// SAFETY: the raw pointers in `stack` are only storage: the vector is empty whenever it lies here.
unsafe impl Send for Context {}
unsafe impl Sync for Context {}

/// A cached atom. `text` points into `name`, which is kept alive and never changes.
struct Name {
    text: *const u8,
    length: usize,
    _name: Py<PyAny>,
    atom: Py<PyAny>,
}

// SAFETY: `text` is read with the GIL only.
unsafe impl Send for Name {}

impl Context {
    /// The context. The first call imports `erlmesh.terms`.
    #[inline]
    pub fn get(py: Python<'_>) -> PyResult<&Context> {
        CONTEXT.get_or_try_init(py, || Context::new(py))
    }

    fn new(py: Python<'_>) -> PyResult<Context> {
        let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
            Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        let atom_type = class("erlmesh.terms.atoms", "Atom")?;
        let map_type = class("erlmesh.terms.maps", "Map")?;
        let map = map_type.bind(py).as_any();
        Ok(Context {
            port_type: class("erlmesh.terms.values", "Port")?,
            export_type: class("erlmesh.terms.values", "Export")?,
            bit_string_type: class("erlmesh.terms.values", "BitString")?,
            true_atom: atom_type.call1(py, ("true",))?,
            false_atom: atom_type.call1(py, ("false",))?,
            atom_name: Slot::new(atom_type.bind(py).as_any(), "name")?,
            map_values: Slot::new(map, "_values")?,
            map_original_keys: Slot::new(map, "_original_keys")?,
            map_digest: Slot::new(map, "_digest")?,
            empty_dict: PyDict::new(py).unbind(),
            seed: RandomState::new().hash_one(0),
            names: GilCell::new((0..CACHE_SIZE).map(|_| None).collect()),
            pids: GilCell::new((0..CACHE_SIZE).map(|_| None).collect()),
            stack: GilCell::new(Vec::new()),
            scratch: GilCell::new(Vec::new()),
            atom_type,
            map_type,
        })
    }

    #[inline]
    pub fn is_atom(&self, object: &Bound<'_, PyAny>) -> bool {
        is_exact(object, self.atom_type.as_ptr().cast())
    }

    /// The atom with this name. Recently used atoms come from a cache, which keeps them alive.
    ///
    /// It is an error if the bytes are not UTF-8, or are more than 255 characters.
    #[inline]
    pub fn atom<'py>(&self, py: Python<'py>, utf8: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let index = hash_bytes(self.seed, utf8) as usize % CACHE_SIZE;
        // SAFETY: nothing here runs Python code or drops an object; `text` is alive as long as its entry.
        let found = unsafe {
            self.names.with(py, |names| match &names[index] {
                Some(name) if std::slice::from_raw_parts(name.text, name.length) == utf8 => {
                    Some(name.atom.clone_ref(py))
                }
                _ => None,
            })
        };
        match found {
            Some(atom) => Ok(atom.into_bound(py)),
            None => self.intern(py, utf8, index),
        }
    }

    #[cold]
    fn intern<'py>(&self, py: Python<'py>, utf8: &[u8], index: usize) -> PyResult<Bound<'py, PyAny>> {
        let atom = self.atom_type.bind(py).call1((PyString::from_bytes(py, utf8)?,))?;
        let Some(name) = self.atom_name.get(&atom) else {
            return Err(PyErr::fetch(py));
        };
        let text = name.cast::<PyString>()?.to_str()?;
        let entry = Name {
            text: text.as_ptr(),
            length: text.len(),
            atom: atom.clone().unbind(),
            _name: name.clone().unbind(),
        };
        // SAFETY: the old entry leaves the cell before it is dropped.
        let _old = unsafe { self.names.with(py, |names| names[index].replace(entry)) };
        Ok(atom)
    }

    /// The pid with these parts. Recently used pids come from a cache, which keeps them alive.
    #[inline]
    pub fn pid<'py>(
        &self,
        node: &Bound<'py, PyAny>,
        id: u32,
        serial: u32,
        creation: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = node.py();
        let numbers = u64::from(id) | u64::from(creation) << 32;
        let index = fold(
            numbers ^ self.seed,
            (node.as_ptr() as u64) ^ u64::from(serial) << 48 ^ 0x9E37_79B9_7F4A_7C15,
        ) as usize
            % CACHE_SIZE;
        // SAFETY: nothing here runs Python code or drops an object.
        let found = unsafe {
            self.pids.with(py, |pids| match &pids[index] {
                Some(entry) => {
                    let pid = entry.get();
                    let is_same = pid.id == id
                        && pid.serial == serial
                        && pid.creation == creation
                        && pid.node.as_ptr() == node.as_ptr();
                    is_same.then(|| entry.clone_ref(py))
                }
                None => None,
            })
        };
        if let Some(pid) = found {
            return Ok(pid.into_bound(py).into_any());
        }
        let pid = Py::new(
            py,
            Pid {
                node: node.clone().unbind(),
                id,
                serial,
                creation,
            },
        )?;
        let result = pid.clone_ref(py);
        // SAFETY: the old entry leaves the cell before it is dropped.
        let _old = unsafe { self.pids.with(py, |pids| pids[index].replace(pid)) };
        Ok(result.into_bound(py).into_any())
    }
}
