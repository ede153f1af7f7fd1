//! Decodes a long term in slices, so that the event loop gets turns in between. See `erlmesh.etf.slices`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::decode::Decoder;
use crate::decode_deep::Open;
use crate::element_count;
use crate::ffi_tools::GilCell;

#[pyclass(frozen, module = "erlmesh_native")]
pub struct TermReader {
    data: Py<PyBytes>,
    atoms: Vec<Py<PyAny>>,
    /// What the last slice has left. None before the first call of a slice that is under way, and after the end.
    rest: GilCell<Option<Rest>>,
}

struct Rest {
    pos: usize,
    /// The containers that are open, the innermost one last.
    open: Vec<Open>,
    items: Vec<Py<PyAny>>,
}

#[pymethods]
impl TermReader {
    /// Read the term at `offset` of `data`. `atoms` are those that the header of the frame lists.
    #[new]
    fn new(data: Py<PyBytes>, offset: usize, atoms: &Bound<'_, PyTuple>) -> Self {
        TermReader {
            data,
            atoms: atoms.iter().map(Bound::unbind).collect(),
            rest: GilCell::new(Some(Rest {
                pos: offset,
                open: vec![Open::outside()],
                items: Vec::new(),
            })),
        }
    }

    /// Read on for so many `steps`. Return the term and the offset after it, or None if more is left.
    ///
    /// Return `NotImplemented` if the pure decoder must read the term, and after the end.
    fn read<'py>(&self, py: Python<'py>, steps: usize) -> PyResult<Bound<'py, PyAny>> {
        let give_up = || Ok(py.NotImplemented().into_bound(py));
        // SAFETY: `take` runs no Python code and drops nothing.
        let Some(mut rest) = (unsafe { self.rest.with(py, Option::take) }) else {
            return give_up();
        };
        let data = self.data.as_bytes(py);
        let Ok(mut decoder) = Decoder::resumed(py, data, rest.pos, &self.atoms, rest.items) else {
            return give_up();
        };
        match decoder.run(&mut rest.open, steps) {
            Err(_) => give_up(),
            Ok(Some(term)) => Ok((term, decoder.position()).into_pyobject(py)?.into_any()),
            Ok(None) => {
                let left = Rest {
                    pos: decoder.position(),
                    open: rest.open,
                    items: decoder.stack.take_items(),
                };
                // SAFETY: it was taken out above, so nothing is dropped.
                unsafe { self.rest.with(py, |place| *place = Some(left)) };
                Ok(py.None().into_bound(py))
            }
        }
    }
}

/// The offset of the first container with which the terms have more than `limit` elements.
#[pyfunction]
fn first_beyond(data: &Bound<'_, PyBytes>, offset: usize, limit: usize) -> Option<usize> {
    element_count::first_beyond(data.as_bytes(), offset, limit)
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TermReader>()?;
    module.add_function(wrap_pyfunction!(first_beyond, module)?)
}
