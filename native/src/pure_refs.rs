//! Encoding with the references of a header, natively or with the pure encoder.

use std::sync::Mutex;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::atom_cache::{FixedRefs, HeaderRefs, WriterCells};
use crate::buffer::Out;
use crate::encode::{encode, AtomRefs};
use crate::pure::Pure;
use crate::send_queue::lock;

/// References that the pure encoder can ask for, too.
pub trait PureRefs: AtomRefs {
    fn count(&self) -> usize;
    fn truncate(&mut self, count: usize);
    fn encode_pure<'py>(&mut self, term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;
}

impl PureRefs for FixedRefs<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, _count: usize) {}

    fn encode_pure<'py>(&mut self, term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = term.py();
        let indexes = PyDict::new(py);
        for (index, atom) in self.0.iter().enumerate() {
            indexes.set_item(atom, index)?;
        }
        Pure::get(py)?.encode_term.bind(py).call1((term, indexes))
    }
}

impl PureRefs for HeaderRefs {
    fn count(&self) -> usize {
        self.atoms().len()
    }

    fn truncate(&mut self, count: usize) {
        self.forget_from(count);
    }

    fn encode_pure<'py>(&mut self, term: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = term.py();
        let empty = HeaderRefs::new(WriterCells::default(), 0);
        let lent = Bound::new(py, LentRefs(Mutex::new(std::mem::replace(self, empty))))?;
        let result = Pure::get(py)?.encode_term.bind(py).call1((term, &lent));
        let empty = HeaderRefs::new(WriterCells::default(), 0);
        *self = std::mem::replace(&mut lock(&lent.get().0), empty);
        result
    }
}

/// The references of a header under construction, while the pure encoder asks for them.
#[pyclass(frozen, name = "References", module = "erlmesh_native")]
struct LentRefs(Mutex<HeaderRefs>);

#[pymethods]
impl LentRefs {
    #[pyo3(signature = (atom, default = None))]
    fn get(&self, py: Python<'_>, atom: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        match lock(&self.0).get(py, atom) {
            Some(index) => Ok(index.into_pyobject(py)?.into_any().unbind()),
            None => Ok(default.unwrap_or_else(|| py.None())),
        }
    }
}

/// Encode a term; if it is not a common one, with the pure encoder and the same references.
#[inline]
pub fn encode_or_pure(term: &Bound<'_, PyAny>, out: &mut Out, refs: &mut impl PureRefs) -> PyResult<()> {
    let mark = out.mark();
    let count = refs.count();
    if encode(term, out, refs).is_ok() {
        return Ok(());
    }
    out.truncate(mark);
    refs.truncate(count);
    let py = term.py();
    // A term that is encoded once for many receivers.
    let data = match term.get_type().is(&Pure::get(py)?.encoded_term) {
        true => term.getattr(intern!(py, "data"))?,
        false => refs.encode_pure(term)?,
    };
    let data = data.cast_into::<PyBytes>()?;
    out.binary(&data);
    Ok(())
}
