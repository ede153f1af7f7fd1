//! The functions that Python calls. What the native code gives up goes to the pure function with the same name.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::buffer::Out;
use crate::context::Context;
use crate::decode::decode as decode_native;
use crate::encode::{encode as encode_native, AtomRefs, NoAtoms};
use crate::ffi_tools::NoCollection;
use crate::tags;

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(encode, module)?)?;
    module.add_function(wrap_pyfunction!(encode_term, module)?)?;
    module.add_function(wrap_pyfunction!(encode_into, module)?)?;
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(decode_term, module)?)?;
    module.add_function(wrap_pyfunction!(exact_key, module)?)
}

/// While this many bytes are decoded, the cyclic garbage collector is off: it would look at the new terms many times.
const MANY_BYTES: usize = 16 * 1024;

/// The memory of an output up to this size is kept for the next one.
const KEPT_OUTPUT: usize = 64 * 1024;

/// Return a hashable key. Two keys are equal if and only if the terms are ``=:=`` in Erlang.
///
/// See ``erlmesh.terms.maps.pure_exact_key``.
#[pyfunction]
fn exact_key<'py>(term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    Context::get(term.py())?.exact_key(term)
}

/// Encode a standalone term, as ``term_to_binary(Term, [{minor_version, 2}])`` does. Raises ``EncodeError``.
#[pyfunction]
fn encode<'py>(term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static PURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = term.py();
    match encoded(term, None, &[tags::VERSION], |out| out.to_bytes(py)) {
        Some(bytes) => Ok(bytes?.into_any()),
        None => PURE.import(py, "erlmesh.etf.encode", "encode")?.call1((term,)),
    }
}

/// Encode a term inside a distribution frame, without byte 131.
///
/// ``atoms.get(atom)`` is called for every occurrence of an atom, in the order of the bytes. If it returns an index
/// (0 … 255), the atom becomes a cache reference. If it returns None, the atom is written in full. It can be asked for
/// the same atoms again. Raises ``EncodeError``, which names the value that is not a term.
#[pyfunction]
#[pyo3(signature = (term, atoms=None))]
fn encode_term<'py>(term: &Bound<'py, PyAny>, atoms: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    static PURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = term.py();
    match encoded(term, atoms, &[], |out| out.to_bytes(py)) {
        Some(bytes) => Ok(bytes?.into_any()),
        None => PURE
            .import(py, "erlmesh.etf.encode", "encode_term")?
            .call1((term, atoms)),
    }
}

/// Do the same as ``encode_term``, but append the bytes to ``pieces``. A long binary is one piece, not a copy.
///
/// If this raises, ``pieces`` may have got a part of the term.
#[pyfunction]
fn encode_into<'py>(term: &Bound<'py, PyAny>, pieces: &Bound<'py, PyList>, atoms: &Bound<'py, PyAny>) -> PyResult<()> {
    static PURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = term.py();
    match encoded(term, Some(atoms), &[], |out| out.append_to(pieces)) {
        Some(result) => result,
        None => {
            PURE.import(py, "erlmesh.etf.encode", "encode_into")?
                .call1((term, pieces, atoms))?;
            Ok(())
        }
    }
}

/// Encode the term after `prefix` and hand the output to `finish`; None if the pure code must do it.
fn encoded<'py, R>(
    term: &Bound<'py, PyAny>,
    atoms: Option<&Bound<'py, PyAny>>,
    prefix: &[u8],
    finish: impl FnOnce(&Out) -> R,
) -> Option<R> {
    let py = term.py();
    let context = Context::get(py).ok()?;
    // SAFETY: `take` runs no Python code. An inner call finds an empty vector.
    let mut out = Out::with_memory(unsafe { context.scratch.with(py, std::mem::take) });
    out.extend(prefix);
    let is_done = match atoms {
        None => encode_native(term, &mut out, &mut NoAtoms).is_ok(),
        Some(mapping) => {
            let mut atoms = PythonAtoms::new(mapping);
            encode_native(term, &mut out, &mut atoms).is_ok() && !atoms.has_failed
        }
    };
    let result = is_done.then(|| finish(&out));
    let memory = out.into_memory();
    if memory.capacity() <= KEPT_OUTPUT {
        // SAFETY: no Python object is in the vector that is replaced.
        unsafe { context.scratch.with(py, |scratch| *scratch = memory) };
    }
    result
}

/// A Python mapping from atoms to indexes.
struct PythonAtoms<'a, 'py> {
    mapping: &'a Bound<'py, PyAny>,
    is_dict: bool,
    has_failed: bool,
}

impl<'a, 'py> PythonAtoms<'a, 'py> {
    fn new(mapping: &'a Bound<'py, PyAny>) -> Self {
        PythonAtoms {
            mapping,
            is_dict: mapping.is_exact_instance_of::<PyDict>(),
            has_failed: false,
        }
    }

    /// The index of an atom, or None. An error means that the pure code must ask, and get the error.
    fn look_up(&self, py: Python<'py>, atom: &Bound<'_, PyAny>) -> PyResult<Option<u8>> {
        if self.is_dict {
            // SAFETY: it is a dict. The result is borrowed from it, or null.
            let index = unsafe { ffi::PyDict_GetItemWithError(self.mapping.as_ptr(), atom.as_ptr()) };
            return match unsafe { Bound::from_borrowed_ptr_or_opt(py, index) } {
                Some(index) => index.extract(),
                None => PyErr::take(py).map_or(Ok(None), Err),
            };
        }
        self.mapping.call_method1(intern!(py, "get"), (atom,))?.extract()
    }
}

impl AtomRefs for PythonAtoms<'_, '_> {
    const RUNS_PYTHON: bool = true;

    fn get(&mut self, _py: Python<'_>, atom: &Bound<'_, PyAny>) -> Option<u8> {
        if self.has_failed {
            return None;
        }
        match self.look_up(self.mapping.py(), atom) {
            Ok(index) => index,
            Err(_) => {
                self.has_failed = true;
                None
            }
        }
    }
}

/// Decode a standalone term: byte 131 and the term. Bytes after the term are ignored.
///
/// ``max_length`` is the maximum size, in bytes, that a compressed term may claim. Raises ``DecodeError`` for any
/// invalid data.
#[pyfunction]
#[pyo3(signature = (data, *, max_length=None), text_signature = "(data, *, max_length=134217728)")]
fn decode<'py>(data: &Bound<'py, PyAny>, max_length: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    static PURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = data.py();
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        if bytes.first() == Some(&tags::VERSION) {
            if let Some((term, _)) = decoded(py, bytes, 1, &[]) {
                return Ok(term);
            }
        }
    }
    let pure = PURE.import(py, "erlmesh.etf.decode", "decode")?;
    let keywords = PyDict::new(py);
    if let Some(max_length) = max_length {
        keywords.set_item(intern!(py, "max_length"), max_length)?;
    }
    pure.call((data,), Some(&keywords))
}

/// Decode the term at ``offset``, which starts with its tag (no byte 131). Return it and the offset after it.
///
/// ``atoms`` are the atoms that the frame's header lists; cache references are indexes into them. Raises
/// ``DecodeError`` for any invalid data. A compressed term is invalid here.
#[pyfunction]
#[pyo3(signature = (data, offset, atoms=None), text_signature = "(data, offset, atoms=())")]
fn decode_term<'py>(
    data: &Bound<'py, PyAny>,
    offset: &Bound<'py, PyAny>,
    atoms: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static PURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = data.py();
    if let (Ok(bytes), Ok(start)) = (data.cast_exact::<PyBytes>(), offset.extract::<usize>()) {
        if let Some(atoms) = header_atoms(py, atoms) {
            if let Some((term, end)) = decoded(py, bytes.as_bytes(), start, &atoms) {
                return Ok((term, end).into_pyobject(py)?.into_any());
            }
        }
    }
    let pure = PURE.import(py, "erlmesh.etf.decode", "decode_term")?;
    match atoms {
        None => pure.call1((data, offset)),
        Some(atoms) => pure.call1((data, offset, atoms)),
    }
}

fn decoded<'py>(
    py: Python<'py>,
    bytes: &[u8],
    start: usize,
    atoms: &[Py<PyAny>],
) -> Option<(Bound<'py, PyAny>, usize)> {
    let _no_collection = (bytes.len() >= MANY_BYTES).then(|| NoCollection::new(py));
    let mut pos = start;
    let term = decode_native(py, bytes, &mut pos, atoms).ok()?;
    Some((term, pos))
}

/// The atoms of a tuple or list; None if it is something else, or has something else.
fn header_atoms(py: Python<'_>, atoms: Option<&Bound<'_, PyAny>>) -> Option<Vec<Py<PyAny>>> {
    let Some(atoms) = atoms else {
        return Some(Vec::new());
    };
    let items: Vec<Bound<'_, PyAny>> = match atoms.cast_exact::<PyTuple>() {
        Ok(tuple) => tuple.iter().collect(),
        Err(_) => atoms.cast_exact::<PyList>().ok()?.iter().collect(),
    };
    if items.is_empty() {
        return Some(Vec::new());
    }
    let context = Context::get(py).ok()?;
    if !items.iter().all(|item| context.is_atom(item)) {
        return None;
    }
    Some(items.into_iter().map(Bound::unbind).collect())
}
