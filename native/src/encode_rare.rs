//! The encoder for values that are seldom sent: terms that are encoded already, long integers, ports, exports,
//! bitstrings, and subclasses of int and tuple such as `IntEnum` and `NamedTuple`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{ffi, intern, Borrowed};

use crate::decode::GiveUp;
use crate::encode::{AtomRefs, Encoder};
use crate::ffi_tools::is_exact;
use crate::tags;

/// Ports with longer ids are written as V4_PORT_EXT. Peers without DFLAG_V4_NC do not know it.
const NEW_PORT_ID_LIMIT: u64 = 1 << 28;

impl<'py, A: AtomRefs> Encoder<'_, 'py, A> {
    /// Write a value whose exact type is not a common one.
    #[cold]
    pub fn rare(&mut self, term: Borrowed<'_, 'py, PyAny>, depth: u32) -> Result<(), GiveUp> {
        let types = &self.context.types;
        if let Some(data) = encoded_data(&term) {
            // It has no references of any header, so its bytes fit in here.
            self.out.binary(&data);
            Ok(())
        } else if is_exact(&term, types.port) {
            self.port(&term)
        } else if is_exact(&term, types.export) {
            self.export(&term)
        } else if is_exact(&term, types.bit_string) {
            self.bit_string(&term)
        } else if is_exact(&term, types.fun) {
            self.deep(&term)
        } else if is_plain_subclass(&term, ffi::Py_TPFLAGS_LONG_SUBCLASS, &raw mut ffi::PyLong_Type) {
            self.integer(term)
        } else if is_plain_subclass(&term, ffi::Py_TPFLAGS_TUPLE_SUBCLASS, &raw mut ffi::PyTuple_Type) {
            self.tuple(term, depth)
        } else {
            Err(GiveUp)
        }
    }

    /// Write an integer of more than 64 bits.
    #[cold]
    pub fn very_long_integer(&mut self, number: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        let py = self.py;
        let is_negative = number.lt(0).map_err(|_| GiveUp)?;
        let magnitude = number.abs().map_err(|_| GiveUp)?;
        let bits: usize = part(&magnitude.call_method0(intern!(py, "bit_length")).map_err(|_| GiveUp)?)?;
        let length = bits.div_ceil(8);
        let bytes = magnitude
            .call_method1(intern!(py, "to_bytes"), (length, intern!(py, "little")))
            .map_err(|_| GiveUp)?;
        let bytes = bytes.cast_into::<PyBytes>().map_err(|_| GiveUp)?;
        match u8::try_from(length) {
            Ok(length) => self.out.extend(&[tags::SMALL_BIG_EXT, length]),
            Err(_) => self
                .out
                .tag_u32(tags::LARGE_BIG_EXT, u32::try_from(length).map_err(|_| GiveUp)?),
        }
        self.out.push(u8::from(is_negative));
        self.out.binary(&bytes);
        Ok(())
    }

    fn port(&mut self, port: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        let py = self.py;
        let id: u64 = part(&attribute(port, intern!(py, "id"))?)?;
        let creation: u32 = part(&attribute(port, intern!(py, "creation"))?)?;
        let node = attribute(port, intern!(py, "node"))?;
        let is_long = id >= NEW_PORT_ID_LIMIT;
        self.out.push(match is_long {
            true => tags::V4_PORT_EXT,
            false => tags::NEW_PORT_EXT,
        });
        self.checked_atom(&node)?;
        let bytes = id.to_be_bytes();
        self.out.extend(if is_long { &bytes } else { &bytes[4..] });
        self.out.extend(&creation.to_be_bytes());
        Ok(())
    }

    fn export(&mut self, export: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        let py = self.py;
        let module = attribute(export, intern!(py, "module"))?;
        let function = attribute(export, intern!(py, "function"))?;
        let arity: u8 = part(&attribute(export, intern!(py, "arity"))?)?;
        self.out.push(tags::EXPORT_EXT);
        self.checked_atom(&module)?;
        self.checked_atom(&function)?;
        self.out.extend(&[tags::SMALL_INTEGER_EXT, arity]);
        Ok(())
    }

    /// Write a bitstring.
    fn bit_string(&mut self, bits: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        let py = self.py;
        let data = attribute(bits, intern!(py, "data"))?
            .cast_into_exact::<PyBytes>()
            .map_err(|_| GiveUp)?;
        let used: u8 = part(&attribute(bits, intern!(py, "bits"))?)?;
        let length = u32::try_from(data.as_bytes().len()).map_err(|_| GiveUp)?;
        self.out.tag_u32(tags::BIT_BINARY_EXT, length);
        self.out.push(used);
        self.out.binary(&data);
        Ok(())
    }

    pub fn checked_atom(&mut self, atom: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        match self.context.is_atom(atom) {
            true => self.atom(atom.as_borrowed()),
            false => Err(GiveUp),
        }
    }
}

/// The bytes of an `EncodedTerm`: a term that is encoded once and sent to many. None for any other value.
fn encoded_data<'py>(term: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = term.py();
    let class = CLASS.import(py, "erlmesh.etf.encode", "EncodedTerm").ok()?;
    if !is_exact(term, class.as_ptr().cast()) {
        return None;
    }
    term.getattr(intern!(py, "data")).ok()?.cast_into().ok()
}

/// Whether an object is of a subclass of a built-in type, as `flag` says, and is iterated and compared as that type is.
fn is_plain_subclass(term: &Bound<'_, PyAny>, flag: std::ffi::c_ulong, base: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: both are valid types. The slots are only compared.
    unsafe {
        let kind = ffi::Py_TYPE(term.as_ptr());
        kind != &raw mut ffi::PyBool_Type
            && ffi::PyType_FastSubclass(kind, flag) != 0
            && [ffi::Py_tp_iter, ffi::Py_tp_richcompare, ffi::Py_sq_length]
                .iter()
                .all(|&slot| ffi::PyType_GetSlot(kind, slot) == ffi::PyType_GetSlot(base, slot))
    }
}

pub fn attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
) -> Result<Bound<'py, PyAny>, GiveUp> {
    object.getattr(name).map_err(|_| GiveUp)
}

/// An int of a Rust type; a number that does not fit is left to the pure encoder, which raises its error.
pub fn part<'py, T: for<'a> FromPyObject<'a, 'py>>(number: &Bound<'py, PyAny>) -> Result<T, GiveUp> {
    match number.is_instance_of::<pyo3::types::PyInt>() {
        true => number.extract().map_err(|_| GiveUp),
        false => Err(GiveUp),
    }
}
