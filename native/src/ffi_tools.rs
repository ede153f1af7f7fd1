//! Small tools over the C API: cells that the GIL protects, attributes in slots, the garbage collector, a hash.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A value that only a thread with the GIL touches.
pub struct GilCell<T>(UnsafeCell<T>);

// SAFETY: `with` needs the GIL, and the module declares that it uses the GIL (`gil_used`).
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        GilCell(UnsafeCell::new(value))
    }

    /// Call `action` with the value.
    ///
    /// # Safety
    /// `action` must not run Python code, and must not drop a Python object: both can enter this cell again.
    #[inline]
    pub unsafe fn with<R>(&self, _py: Python<'_>, action: impl FnOnce(&mut T) -> R) -> R {
        action(unsafe { &mut *self.0.get() })
    }

    /// The value, for `__traverse__`: the garbage collector holds the GIL, but has no token for it.
    ///
    /// # Safety
    /// It must be used only there.
    pub unsafe fn for_traverse(&self) -> &T {
        unsafe { &*self.0.get() }
    }
}

impl<T: Default> Default for GilCell<T> {
    fn default() -> Self {
        GilCell::new(T::default())
    }
}

/// An attribute of a Python class with `__slots__`, read and written through its descriptor, without Python code.
pub struct Slot {
    descriptor: Py<PyAny>,
    get: ffi::descrgetfunc,
    set: ffi::descrsetfunc,
}

impl Slot {
    pub fn new(class: &Bound<'_, PyAny>, name: &str) -> PyResult<Slot> {
        let descriptor = class.getattr(name)?;
        let kind = descriptor.get_type();
        if kind.name()? != "member_descriptor" {
            return Err(PyTypeError::new_err(format!("{name} is not a slot of {class}")));
        }
        // SAFETY: both are slots of the type of all member descriptors. It is a built-in type and has them.
        let (get, set) = unsafe {
            (
                ffi::PyType_GetSlot(kind.as_type_ptr(), ffi::Py_tp_descr_get),
                ffi::PyType_GetSlot(kind.as_type_ptr(), ffi::Py_tp_descr_set),
            )
        };
        if get.is_null() || set.is_null() {
            return Err(PyTypeError::new_err(format!("{name} cannot be read and written")));
        }
        // SAFETY: these are the types of the two slots.
        let (get, set) = unsafe {
            (
                std::mem::transmute::<*mut c_void, ffi::descrgetfunc>(get),
                std::mem::transmute::<*mut c_void, ffi::descrsetfunc>(set),
            )
        };
        Ok(Slot {
            descriptor: descriptor.unbind(),
            get,
            set,
        })
    }

    /// The value in `object`, or None with a Python error set. `object` may be of any type: the descriptor checks it.
    #[inline]
    pub fn get<'py>(&self, object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the descriptor checks the type of `object`; it returns a new reference or null.
        unsafe {
            let value = (self.get)(
                self.descriptor.as_ptr(),
                object.as_ptr(),
                ffi::Py_TYPE(object.as_ptr()).cast(),
            );
            Bound::from_owned_ptr_or_opt(object.py(), value)
        }
    }

    /// Set the value in `object`; false with a Python error set if that fails.
    #[inline]
    pub fn set(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> bool {
        // SAFETY: as above; the value is borrowed.
        unsafe { (self.set)(self.descriptor.as_ptr(), object.as_ptr(), value.as_ptr()) == 0 }
    }
}

/// Keeps the cyclic garbage collector off while it lives. It turns on only what it has turned off.
pub struct NoCollection(bool);

impl NoCollection {
    pub fn new(_py: Python<'_>) -> NoCollection {
        // SAFETY: the GIL is held.
        NoCollection(unsafe { ffi::PyGC_Disable() } == 1)
    }
}

impl Drop for NoCollection {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: the value lives inside a function that holds the GIL.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// Forget the Python error that a failed call has set.
#[cold]
pub fn clear_error(_py: Python<'_>) {
    // SAFETY: the GIL is held.
    unsafe { ffi::PyErr_Clear() }
}

/// Multiply two numbers and fold the 128 bits of the result.
#[inline]
pub fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A hash of short bytes. `seed` is secret, so that a peer cannot choose names with equal hashes.
#[inline]
pub fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = fold(hash ^ u64::from_le_bytes(word), 0x9E37_79B9_7F4A_7C15);
    }
    let rest = chunks.remainder();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    fold(hash ^ u64::from_le_bytes(word), 0xD6E8_FEB8_6659_FD93)
}

/// Whether the exact type of `object` is `kind`.
#[inline]
pub fn is_exact(object: &Bound<'_, PyAny>, kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a bound object is a valid object.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == kind }
}
