//! `Pid`, `Ref` and `ImproperList`. They behave like the Python classes in `erlmesh.terms.identifiers`.
//!
//! A wrong argument is given to the Python class, which raises its error.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use pyo3::basic::CompareOp;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::ffi_tools::{fold, is_exact};

/// The most words that a reference has.
pub const MAX_WORDS: usize = 5;

/// A process identifier. See `erlmesh.terms.Pid`.
#[pyclass(frozen, module = "erlmesh.terms.values")]
pub struct Pid {
    /// An `Atom`.
    pub node: Py<PyAny>,
    pub id: u32,
    pub serial: u32,
    pub creation: u32,
}

#[pymethods]
impl Pid {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) = ("node", "id", "serial", "creation");

    #[new]
    fn new(
        node: Bound<'_, PyAny>,
        id: Bound<'_, PyAny>,
        serial: Bound<'_, PyAny>,
        creation: Bound<'_, PyAny>,
    ) -> PyResult<Pid> {
        if is_atom(&node)? {
            if let (Some(id), Some(serial), Some(creation)) = (word(&id), word(&serial), word(&creation)) {
                return Ok(Pid {
                    node: node.unbind(),
                    id,
                    serial,
                    creation,
                });
            }
        }
        Err(refusal("Pid", node.py(), (node, id, serial, creation)))
    }

    #[getter]
    fn node(&self, py: Python<'_>) -> Py<PyAny> {
        self.node.clone_ref(py)
    }

    #[getter]
    fn id(&self) -> u32 {
        self.id
    }

    #[getter]
    fn serial(&self) -> u32 {
        self.serial
    }

    #[getter]
    fn creation(&self) -> u32 {
        self.creation
    }

    fn __hash__(&self) -> u64 {
        let (first, second) = secrets();
        fold(
            first ^ (u64::from(self.id) | u64::from(self.serial) << 32),
            second ^ self.node.as_ptr() as u64 ^ u64::from(self.creation) << 32,
        )
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> Py<PyAny> {
        let py = other.py();
        let is_equal = other.cast_exact::<Pid>().ok().map(|other| self.is_same(other.get()));
        compared(py, is_equal, op)
    }

    fn __str__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        printed(slf.as_any())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("#PID{}", printed(slf.as_any())?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let pid = slf.get();
        let parts = (pid.node.clone_ref(slf.py()), pid.id, pid.serial, pid.creation);
        Ok((slf.get_type(), parts.into_pyobject(slf.py())?))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}

impl Pid {
    /// Whether both are the same pid. Atoms are interned, so the node is compared by address.
    #[inline]
    pub fn is_same(&self, other: &Pid) -> bool {
        self.id == other.id
            && self.serial == other.serial
            && self.creation == other.creation
            && self.node.as_ptr() == other.node.as_ptr()
    }
}

/// A reference. See `erlmesh.terms.Ref`.
#[pyclass(frozen, module = "erlmesh.terms.values")]
pub struct Ref {
    /// An `Atom`.
    pub node: Py<PyAny>,
    pub creation: u32,
    /// The number of words: 1 to 5.
    pub count: u32,
    /// In wire order. The words from `count` on are 0.
    pub words: [u32; MAX_WORDS],
}

#[pymethods]
impl Ref {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("node", "creation", "words");

    #[new]
    fn new(node: Bound<'_, PyAny>, creation: Bound<'_, PyAny>, words: Bound<'_, PyAny>) -> PyResult<Ref> {
        if is_atom(&node)? {
            if let (Some(creation), Some((count, words))) = (word(&creation), words_of(&words)) {
                return Ok(Ref {
                    node: node.unbind(),
                    creation,
                    count,
                    words,
                });
            }
        }
        Err(refusal("Ref", node.py(), (node, creation, words)))
    }

    #[getter]
    fn node(&self, py: Python<'_>) -> Py<PyAny> {
        self.node.clone_ref(py)
    }

    #[getter]
    fn creation(&self) -> u32 {
        self.creation
    }

    #[getter]
    fn words<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.word_slice())
    }

    fn __hash__(&self) -> u64 {
        let (first, second) = secrets();
        let [a, b, c, d, e] = self.words.map(u64::from);
        let hash = fold(first ^ (a | b << 32), second ^ self.node.as_ptr() as u64 ^ c << 32);
        fold(
            hash ^ (d | e << 32),
            second ^ (u64::from(self.creation) << 32 | u64::from(self.count)),
        )
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> Py<PyAny> {
        let py = other.py();
        let is_equal = other.cast_exact::<Ref>().ok().map(|other| self.is_same(other.get()));
        compared(py, is_equal, op)
    }

    fn __str__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        printed(slf.as_any())
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        printed(slf.as_any())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let reference = slf.get();
        let parts = (
            reference.node.clone_ref(slf.py()),
            reference.creation,
            reference.words(slf.py())?,
        );
        Ok((slf.get_type(), parts.into_pyobject(slf.py())?))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}

impl Ref {
    /// A reference with these words: 1 to 5.
    pub fn from_words(node: Py<PyAny>, creation: u32, words: &[u32]) -> Option<Ref> {
        let mut all = [0; MAX_WORDS];
        if words.is_empty() {
            return None;
        }
        all.get_mut(..words.len())?.copy_from_slice(words);
        Some(Ref {
            node,
            creation,
            count: words.len() as u32,
            words: all,
        })
    }

    #[inline]
    pub fn word_slice(&self) -> &[u32] {
        &self.words[..(self.count as usize).min(MAX_WORDS)]
    }

    #[inline]
    pub fn is_same(&self, other: &Ref) -> bool {
        self.words == other.words
            && self.creation == other.creation
            && self.count == other.count
            && self.node.as_ptr() == other.node.as_ptr()
    }
}

/// `[a, b | tail]`. See `erlmesh.terms.ImproperList`.
#[pyclass(frozen, module = "erlmesh.terms.values")]
pub struct ImproperList {
    /// Not empty.
    pub elements: Py<PyTuple>,
    /// Not a list.
    pub tail: Py<PyAny>,
}

#[pymethods]
impl ImproperList {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("elements", "tail");

    #[new]
    fn new(elements: Bound<'_, PyAny>, tail: Bound<'_, PyAny>) -> PyResult<ImproperList> {
        let py = elements.py();
        let elements = match elements.cast_exact::<PyTuple>() {
            Ok(elements) => elements.clone(),
            Err(_) => tuple_of(&elements)?,
        };
        if elements.is_empty() || tail.is_instance_of::<PyList>() || tail.is_instance_of::<ImproperList>() {
            let tail = match tail.is_instance_of::<ImproperList>() {
                true => PyList::empty(py).into_any(), // the Python class only knows its own lists
                false => tail,
            };
            return Err(refusal("ImproperList", py, (elements, tail)));
        }
        Ok(ImproperList {
            elements: elements.unbind(),
            tail: tail.unbind(),
        })
    }

    #[getter]
    fn elements(&self, py: Python<'_>) -> Py<PyTuple> {
        self.elements.clone_ref(py)
    }

    #[getter]
    fn tail(&self, py: Python<'_>) -> Py<PyAny> {
        self.tail.clone_ref(py)
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        // The hash of a tuple does not limit the depth, and a peer can send a list of any depth.
        // SAFETY: the GIL is held. A result that is not 0 means that RecursionError is set.
        if unsafe { ffi::Py_EnterRecursiveCall(c" while a list is hashed".as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        let hash = self.parts(py).and_then(|parts| parts.hash());
        // SAFETY: it ends the call above.
        unsafe { ffi::Py_LeaveRecursiveCall() };
        hash
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let is_equal = match other.cast_exact::<ImproperList>() {
            Ok(other) => Some(self.parts(py)?.eq(other.get().parts(py)?)?),
            Err(_) => None,
        };
        Ok(compared(py, is_equal, op))
    }

    fn __str__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        printed(slf.as_any())
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        printed(slf.as_any())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        Ok((slf.get_type(), slf.get().parts(slf.py())?))
    }

    // There is no `__clear__`: the parts never change, and every cycle goes through a list or a dict, which is cleared.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.elements)?;
        visit.call(&self.tail)
    }
}

impl ImproperList {
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (self.elements.bind(py), self.tail.bind(py)).into_pyobject(py)
    }
}

/// Two numbers for hashes that no peer knows. A peer chooses the numbers of its identifiers, and all of their bits are
/// combined with one of the two before they are multiplied.
#[inline]
fn secrets() -> (u64, u64) {
    static SECRETS: OnceLock<(u64, u64)> = OnceLock::new();
    *SECRETS.get_or_init(|| (RandomState::new().hash_one(0), RandomState::new().hash_one(1)))
}

#[inline]
fn is_atom(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static ATOM: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = ATOM.import(object.py(), "erlmesh.terms.atoms", "Atom")?;
    Ok(is_exact(object, class.as_ptr().cast()))
}

/// An int of 32 bits; None for any other object.
#[inline]
fn word(object: &Bound<'_, PyAny>) -> Option<u32> {
    // SAFETY: `object` is an int, also if its type is a subclass; too large an int sets `overflow` and no error.
    let number = unsafe {
        if ffi::PyLong_Check(object.as_ptr()) == 0 {
            return None;
        }
        let mut overflow = 0;
        let number = ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &mut overflow);
        if overflow != 0 {
            return None;
        }
        number
    };
    u32::try_from(number).ok()
}

fn words_of(object: &Bound<'_, PyAny>) -> Option<(u32, [u32; MAX_WORDS])> {
    let tuple = object.cast_exact::<PyTuple>().ok()?;
    let count = tuple.len();
    if !(1..=MAX_WORDS).contains(&count) {
        return None;
    }
    let mut words = [0; MAX_WORDS];
    for (place, item) in words.iter_mut().zip(tuple.iter()) {
        *place = word(&item)?;
    }
    Some((count as u32, words))
}

fn tuple_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    // SAFETY: it returns a new tuple, or null with an error set.
    unsafe {
        let tuple = Bound::from_owned_ptr_or_err(object.py(), ffi::PySequence_Tuple(object.as_ptr()))?;
        Ok(tuple.cast_into_unchecked())
    }
}

/// The error that the Python class raises for these arguments.
#[cold]
fn refusal<'py>(class: &str, py: Python<'py>, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let raised = py
        .import("erlmesh.terms.identifiers")
        .and_then(|module| module.getattr(class))
        .and_then(|class| class.call1(arguments));
    match raised {
        Err(error) => error,
        Ok(_) => PyValueError::new_err(format!("these are not the parts of a {class}")),
    }
}

fn compared(py: Python<'_>, is_equal: Option<bool>, op: CompareOp) -> Py<PyAny> {
    match (is_equal, op) {
        (Some(is_equal), CompareOp::Eq) => is_equal
            .into_pyobject(py)
            .map(|value| value.to_owned().into_any().unbind()),
        (Some(is_equal), CompareOp::Ne) => (!is_equal)
            .into_pyobject(py)
            .map(|value| value.to_owned().into_any().unbind()),
        _ => Ok(py.NotImplemented()),
    }
    .unwrap_or_else(|never| match never {})
}

/// The term in Erlang's notation, as `ErlangStr.__str__` writes it.
fn printed<'py>(term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = term.py();
    let module = py.import(intern!(py, "erlmesh.terms.erlang"))?;
    let text = module.getattr(intern!(py, "format_erlang"))?.call1((term,))?;
    Ok(text.cast_into::<PyString>()?.into_any())
}
