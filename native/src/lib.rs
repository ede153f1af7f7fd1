//! The native part of erlmesh: identifiers, the codec of the external term format, and keys of terms.
//!
//! The pure Python code in `erlmesh` is the reference. What this crate does not handle, or finds invalid, it gives to
//! the pure code with the same arguments. So this crate has no error texts of its own.
//!
//! The crate imports the term classes from `erlmesh.terms` by name when they are first needed.

#[allow(dead_code)]
mod buffer;
#[allow(dead_code)]
mod context;
#[allow(dead_code)]
mod decode;
#[allow(dead_code)]
mod doors;
#[allow(dead_code)]
mod encode;
#[allow(dead_code)]
mod ffi_tools;
#[allow(dead_code)]
mod terms;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn erlmesh_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<terms::Pid>()?;
    module.add_class::<terms::Ref>()?;
    module.add_class::<terms::ImproperList>()?;
    doors::add_to(module)
}
