//! The pure functions and classes that the native wire calls for whatever it does not handle.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static PURE: PyOnceLock<Pure> = PyOnceLock::new();

pub struct Pure {
    /// `erlmesh.proto.frame_reader`: the functions for one frame.
    pub read_terms: Py<PyAny>,
    pub read_in_slices: Py<PyAny>,
    pub frame_reader: Py<PyAny>,
    pub frame_too_long: Py<PyAny>,
    pub too_many_elements: Py<PyAny>,
    /// `erlmesh.proto.decode_control`
    pub decode_control: Py<PyAny>,
    /// `erlmesh.proto.encode_control`
    pub encode_control: Py<PyAny>,
    /// `erlmesh.proto.frame_writer`
    pub encode_standalone: Py<PyAny>,
    pub check_length: Py<PyAny>,
    /// `erlmesh.etf.encode`: the pure encoder, not the door.
    pub encode_term: Py<PyAny>,
    pub encoded_term: Py<PyAny>,
    /// Marks that a control tuple has no message.
    pub no_message: Py<PyAny>,
}

impl Pure {
    #[inline]
    pub fn get(py: Python<'_>) -> PyResult<&Pure> {
        PURE.get_or_try_init(py, || Pure::new(py))
    }

    fn new(py: Python<'_>) -> PyResult<Pure> {
        let get = |module: &str, name: &str| -> PyResult<Py<PyAny>> { Ok(py.import(module)?.getattr(name)?.unbind()) };
        Ok(Pure {
            read_terms: get("erlmesh.proto.frame_reader", "read_terms")?,
            read_in_slices: get("erlmesh.proto.frame_reader", "read_in_slices")?,
            frame_reader: get("erlmesh.proto.frame_reader", "FrameReader")?,
            frame_too_long: get("erlmesh.proto.frame_reader", "FrameTooLong")?,
            too_many_elements: get("erlmesh.proto.frame_reader", "TooManyElements")?,
            decode_control: get("erlmesh.proto.decode_control", "decode_control")?,
            encode_control: get("erlmesh.proto.encode_control", "encode_control")?,
            encode_standalone: get("erlmesh.proto.frame_writer", "encode_standalone")?,
            check_length: get("erlmesh.proto.frame_writer", "check_length")?,
            encoded_term: get("erlmesh.etf.encode", "EncodedTerm")?,
            encode_term: get("erlmesh.etf.encode", "encode_term")?,
            no_message: get("erlmesh.proto.ops", "NO_MESSAGE")?,
        })
    }
}
