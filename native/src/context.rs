//! What the crate knows about erlmesh's Python classes, and its caches of atoms and pids.

use std::hash::{BuildHasher, RandomState};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyString, PyTuple, PyType};

use crate::digest::digest;
use crate::ffi_tools::{clear_error, fold, hash_bytes, is_exact, GilCell, Slot};
use crate::terms::{ImproperList, Pid, Ref};
use crate::written_atoms::WrittenAtoms;

const CACHE_SIZE: usize = 1024;

static CONTEXT: PyOnceLock<Context> = PyOnceLock::new();

/// The term classes of `erlmesh.terms`, and caches. There is one for the process: PyO3 refuses subinterpreters.
pub struct Context {
    pub types: Types,
    pub atom_class: Py<PyAny>,
    _classes: Vec<Py<PyType>>,
    pub true_atom: Py<PyAny>,
    pub false_atom: Py<PyAny>,
    /// `Atom.name`
    pub atom_name: Slot,
    pub map_values: Slot,
    pub map_original_keys: Slot,
    pub map_digest: Slot,
    /// `_FLOAT` and `_DIGEST` in `erlmesh.terms.maps`: the first element of keys that are not terms.
    pub float_mark: Py<PyAny>,
    pub digest_mark: Py<PyAny>,
    /// `exact_key` in Python
    pure_exact_key: Py<PyAny>,
    map_alloc: ffi::allocfunc,
    /// The `_original_keys` of all maps whose keys are their own exact keys. It is never changed.
    pub empty_dict: Py<PyDict>,
    seed: u64,
    names: GilCell<Box<[Option<Name>]>>,
    pids: GilCell<Box<[Option<Py<Pid>>]>>,
    pub stack: GilCell<Vec<Py<PyAny>>>,
    pub scratch: GilCell<Vec<u8>>,
    pub written_atoms: WrittenAtoms,
}

/// The addresses of the term classes, for comparison with the type of an object.
#[derive(Clone, Copy)]
pub struct Types {
    pub atom: *mut ffi::PyTypeObject,
    pub map: *mut ffi::PyTypeObject,
    pub pid: *mut ffi::PyTypeObject,
    pub reference: *mut ffi::PyTypeObject,
    pub improper_list: *mut ffi::PyTypeObject,
    pub port: *mut ffi::PyTypeObject,
    pub export: *mut ffi::PyTypeObject,
    pub bit_string: *mut ffi::PyTypeObject,
    pub fun: *mut ffi::PyTypeObject,
}

// SAFETY: the types live as long as the context, which holds them. The vector `stack` is empty whenever it lies here.
// All is used with the GIL only.
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
        let maps = py.import("erlmesh.terms.maps")?;
        let values = py.import("erlmesh.terms.values")?;
        let atom = py.import("erlmesh.terms.atoms")?.getattr("Atom")?;
        let map = maps.getattr("Map")?;
        let mut classes = Vec::new();
        let mut class = |class: Bound<'_, PyAny>| -> PyResult<*mut ffi::PyTypeObject> {
            let class = class.cast_into::<PyType>()?;
            let address = class.as_type_ptr();
            classes.push(class.unbind()); // so that the address stays valid
            Ok(address)
        };
        let types = Types {
            atom: class(atom.clone())?,
            map: class(map.clone())?,
            pid: class(py.get_type::<Pid>().into_any())?,
            reference: class(py.get_type::<Ref>().into_any())?,
            improper_list: class(py.get_type::<ImproperList>().into_any())?,
            port: class(values.getattr("Port")?)?,
            export: class(values.getattr("Export")?)?,
            bit_string: class(values.getattr("BitString")?)?,
            fun: class(values.getattr("Fun")?)?,
        };
        Ok(Context {
            true_atom: atom.call1(("true",))?.unbind(),
            false_atom: atom.call1(("false",))?.unbind(),
            atom_name: Slot::new(&atom, "name")?,
            map_values: Slot::new(&map, "_values")?,
            map_original_keys: Slot::new(&map, "_original_keys")?,
            map_digest: Slot::new(&map, "_digest")?,
            float_mark: maps.getattr("_FLOAT")?.unbind(),
            digest_mark: maps.getattr("_DIGEST")?.unbind(),
            pure_exact_key: maps.getattr("pure_exact_key")?.unbind(),
            map_alloc: alloc_of(types.map)?,
            empty_dict: PyDict::new(py).unbind(),
            seed: RandomState::new().hash_one(0),
            names: GilCell::new((0..CACHE_SIZE).map(|_| None).collect()),
            pids: GilCell::new((0..CACHE_SIZE).map(|_| None).collect()),
            stack: GilCell::new(Vec::new()),
            scratch: GilCell::new(Vec::new()),
            written_atoms: WrittenAtoms::default(),
            atom_class: atom.unbind(),
            _classes: classes,
            types,
        })
    }

    #[inline]
    pub fn is_atom(&self, object: &Bound<'_, PyAny>) -> bool {
        is_exact(object, self.types.atom)
    }

    pub fn port_class<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        class_at(py, self.types.port)
    }

    pub fn export_class<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        class_at(py, self.types.export)
    }

    pub fn bit_string_class<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        class_at(py, self.types.bit_string)
    }

    pub fn fun_class<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        class_at(py, self.types.fun)
    }

    /// Whether a term that contains no terms is its own exact key.
    #[inline]
    pub fn is_own_key(&self, term: &Bound<'_, PyAny>) -> bool {
        // SAFETY: these are valid objects.
        let kind = unsafe { ffi::Py_TYPE(term.as_ptr()) };
        let types = &self.types;
        kind == types.atom
            || kind == &raw mut ffi::PyBytes_Type
            || kind == types.pid
            || kind == types.reference
            || kind == types.port
            || kind == types.export
            || kind == types.bit_string
    }

    /// The key that distinguishes a term as Erlang's `=:=` does: `erlmesh.terms.exact_key`.
    #[inline]
    pub fn exact_key<'py>(&self, term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.is_own_key(term) {
            return Ok(term.clone());
        }
        let found = match term.cast_exact::<PyTuple>() {
            Ok(tuple) => self.tuple_key(tuple),
            Err(_) => self.leaf_key(term),
        };
        match found.or_else(|| self.digest_key(term)) {
            Some(key) => Ok(key),
            None => self.pure_exact_key.bind(term.py()).call1((term,)),
        }
    }

    /// The key of a term that contains terms; None if the pure code must make it.
    fn digest_key<'py>(&self, term: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let known = match is_exact(term, self.types.map) {
            true => self.map_digest.get(term)?.cast_into_exact::<PyBytes>().ok(),
            false => None,
        };
        let digest = known.or_else(|| digest(self, term))?;
        self.marked(&self.digest_mark, digest)
    }

    fn marked<'py>(&self, mark: &Py<PyAny>, data: Bound<'py, PyBytes>) -> Option<Bound<'py, PyAny>> {
        let py = data.py();
        Some((mark.bind(py), data).into_pyobject(py).ok()?.into_any())
    }

    /// The key of a tuple of common leaves; None for any other tuple.
    fn tuple_key<'py>(&self, tuple: &Bound<'py, PyTuple>) -> Option<Bound<'py, PyAny>> {
        let (mut others, mut small) = (0_usize, 0_usize);
        for item in tuple.iter_borrowed() {
            if is_small_int(&item) {
                small += 1;
            } else if !self.is_own_key(&item) {
                others += 1;
            }
        }
        if others == 0 && small <= 1 {
            return Some(tuple.as_any().clone());
        }
        // Two ints could be chosen so that the hashes of the tuples collide.
        let keys = tuple
            .iter_borrowed()
            .map(|item| match small > 1 && is_small_int(&item) {
                true => digits_of(&item),
                false => self.leaf_key(&item),
            })
            .collect::<Option<Vec<_>>>()?;
        Some(PyTuple::new(tuple.py(), keys).ok()?.into_any())
    }

    /// The key of a common leaf; None for any other value.
    fn leaf_key<'py>(&self, term: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let py = term.py();
        if self.is_own_key(term) {
            return Some(term.clone());
        }
        if is_exact(term, &raw mut ffi::PyLong_Type) {
            return integer_key(term);
        }
        if let Ok(is_true) = term.cast_exact::<PyBool>() {
            let atom = if is_true.is_true() {
                &self.true_atom
            } else {
                &self.false_atom
            };
            return Some(atom.bind(py).clone());
        }
        if is_exact(term, &raw mut ffi::PyUnicode_Type) {
            // SAFETY: it is a str. The result is a new reference, or null for a lone surrogate.
            let bytes = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyUnicode_AsUTF8String(term.as_ptr())) };
            if bytes.is_none() {
                clear_error(py);
            }
            return bytes;
        }
        if let Ok(number) = term.cast_exact::<PyFloat>() {
            return self.marked(&self.float_mark, PyBytes::new(py, &number.value().to_be_bytes()));
        }
        None
    }

    /// A `Map` of these values by exact key. `originals` has the keys that differ from their exact key.
    ///
    /// It fills the slots of the object, as `Map.__init__` does.
    pub fn new_map<'py>(
        &self,
        values: &Bound<'py, PyDict>,
        originals: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = values.py();
        // SAFETY: it is the function of this type. It returns a new object with empty slots, or null.
        let map = unsafe { Bound::from_owned_ptr_or_err(py, (self.map_alloc)(self.types.map, 0))? };
        let originals = originals.as_ref().unwrap_or_else(|| self.empty_dict.bind(py));
        if self.map_values.set(&map, values.as_any())
            && self.map_original_keys.set(&map, originals.as_any())
            && self.map_digest.set(&map, py.None().bind(py))
        {
            return Ok(map);
        }
        Err(PyErr::fetch(py))
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
        let atom = self.atom_class.bind(py).call1((PyString::from_bytes(py, utf8)?,))?;
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

/// A class of the context, which keeps it alive.
fn class_at(py: Python<'_>, class: *mut ffi::PyTypeObject) -> Bound<'_, PyAny> {
    // SAFETY: `Context::new` has stored a reference to it.
    unsafe { Bound::from_borrowed_ptr(py, class.cast()) }
}

/// The function that allocates an object of a Python class.
fn alloc_of(class: *mut ffi::PyTypeObject) -> PyResult<ffi::allocfunc> {
    // SAFETY: the class is valid. The slot has this type.
    unsafe {
        let function = ffi::PyType_GetSlot(class, ffi::Py_tp_alloc);
        if function.is_null() {
            return Err(PyTypeError::new_err("a class without tp_alloc"));
        }
        Ok(std::mem::transmute::<*mut std::ffi::c_void, ffi::allocfunc>(function))
    }
}

/// Whether it is an int of less than 2**60, without its sign.
#[inline]
fn is_small_int(term: &Bound<'_, PyAny>) -> bool {
    if !is_exact(term, &raw mut ffi::PyLong_Type) {
        return false;
    }
    let mut overflow = 0;
    // SAFETY: it is an int. Too large an int sets `overflow` and no error.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(term.as_ptr(), &mut overflow) };
    overflow == 0 && value.unsigned_abs() < 1 << 60
}

/// The key of an int: a small one itself, and else its digits. See `erlmesh.terms.maps` for the reason.
#[inline]
fn integer_key<'py>(number: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    match is_small_int(number) {
        true => Some(number.clone()),
        false => digits_of(number),
    }
}

/// `hex(number)`.
fn digits_of<'py>(number: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = number.py();
    // SAFETY: it is an int. The result is a new reference, or null without memory.
    let digits = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyNumber_ToBase(number.as_ptr(), 16)) };
    if digits.is_none() {
        clear_error(py);
    }
    digits
}
