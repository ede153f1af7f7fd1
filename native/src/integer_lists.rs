//! Lists of integers, which are common and long.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::ffi_tools::clear_error;
use crate::tags;

/// Bytes of one INTEGER_EXT.
const SIZE: usize = 5;

/// Read a list of `count` elements if all of them are INTEGER_EXT. Return it, and its size without the tag and the count.
///
/// It needs no stack, because nothing in it can be invalid. It returns None for any other list, and without memory.
#[inline]
pub fn list_of_integers<'py>(py: Python<'py>, rest: &[u8], count: usize) -> Option<(Bound<'py, PyAny>, usize)> {
    if rest.first() != Some(&tags::INTEGER_EXT) {
        return None;
    }
    let (elements, end) = rest.split_at_checked(count.checked_mul(SIZE)?)?;
    if end.first() != Some(&tags::NIL_EXT) || !elements.chunks_exact(SIZE).all(|each| each[0] == tags::INTEGER_EXT) {
        return None;
    }
    let list = owned(py, unsafe { ffi::PyList_New(count as isize) })?;
    for (index, each) in elements.chunks_exact(SIZE).enumerate() {
        let number = i32::from_be_bytes([each[1], each[2], each[3], each[4]]);
        let number = owned(py, unsafe { ffi::PyLong_FromLong(number.into()) })?;
        // SAFETY: the list is new and has `count` places. Making an int runs no other code, so nothing sees the list
        // before it is complete. The call takes over the reference.
        unsafe { ffi::PyList_SetItem(list.as_ptr(), index as isize, number.into_ptr()) };
    }
    Some((list, elements.len() + 1))
}

fn owned<'py>(py: Python<'py>, object: *mut ffi::PyObject) -> Option<Bound<'py, PyAny>> {
    // SAFETY: `object` is a new reference, or null with a Python error set.
    let object = unsafe { Bound::from_owned_ptr_or_opt(py, object) };
    if object.is_none() {
        clear_error(py);
    }
    object
}
