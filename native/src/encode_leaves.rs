//! The encoder for common terms that contain no terms.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{ffi, Borrowed};

use crate::decode::GiveUp;
use crate::encode::{AtomRefs, Encoder};
use crate::ffi_tools::clear_error;
use crate::tags;
use crate::terms::{Pid, Ref};

impl<'py, A: AtomRefs> Encoder<'_, 'py, A> {
    #[inline]
    pub fn atom(&mut self, atom: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        match self.atoms.get(self.py, &atom) {
            Some(index) => {
                self.out.extend(&[tags::ATOM_CACHE_REF, index]);
                Ok(())
            }
            None => self.name(&atom),
        }
    }

    /// Write an atom in full.
    #[inline]
    fn name(&mut self, atom: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        match self.context.written_atoms.write(self.py, atom.as_ptr(), self.out) {
            true => Ok(()),
            false => self.new_name(atom),
        }
    }

    #[cold]
    fn new_name(&mut self, atom: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        let start = self.out.bytes.len();
        let Some(name) = self.context.atom_name.get(atom) else {
            return Err(self.failed());
        };
        let text = self.utf8(&name)?;
        match u8::try_from(text.len()) {
            Ok(length) => self.out.extend(&[tags::SMALL_ATOM_UTF8_EXT, length]),
            Err(_) => self
                .out
                .tag_u16(tags::ATOM_UTF8_EXT, u16::try_from(text.len()).map_err(|_| GiveUp)?),
        }
        self.out.extend(text);
        self.context.written_atoms.keep(atom, &self.out.bytes[start..]);
        Ok(())
    }

    /// The UTF-8 of a str. The str keeps it.
    #[inline]
    pub fn utf8<'b>(&self, text: &'b Bound<'py, PyAny>) -> Result<&'b [u8], GiveUp> {
        let mut length = 0;
        // SAFETY: the call checks the type. The bytes belong to the str and live as long as it.
        unsafe {
            let start = ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &mut length);
            if start.is_null() {
                return Err(self.failed()); // a lone surrogate
            }
            Ok(std::slice::from_raw_parts(start.cast(), length as usize))
        }
    }

    #[inline]
    pub fn integer(&mut self, number: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        match self.quick_integer(number) {
            true => Ok(()),
            false => self.long_integer(number),
        }
    }

    #[inline]
    pub fn short_integer(&mut self, value: i64) {
        if let Ok(byte) = u8::try_from(value) {
            self.out.extend(&[tags::SMALL_INTEGER_EXT, byte]);
        } else if let Ok(value) = i32::try_from(value) {
            self.out.tag_u32(tags::INTEGER_EXT, value as u32);
        } else {
            self.big(value.unsigned_abs(), value < 0);
        }
    }

    /// Write a common leaf without running Python code. Return false if it is something else, or needs Python code.
    ///
    /// # Safety
    /// `item` must be a valid object.
    #[inline]
    pub unsafe fn quick(&mut self, item: *mut ffi::PyObject) -> Result<bool, GiveUp> {
        // SAFETY: it is a valid object, also while it is written, because no Python code runs. Each cast follows the
        // check of the exact type.
        unsafe {
            let kind = ffi::Py_TYPE(item);
            let item = Borrowed::from_ptr(self.py, item);
            if kind == &raw mut ffi::PyLong_Type {
                return Ok(self.quick_integer(item));
            } else if kind == self.context.types.atom {
                return Ok(self.quick_atom(item));
            } else if kind == &raw mut ffi::PyBytes_Type {
                self.bytes(item.cast_unchecked())?;
            } else if kind == &raw mut ffi::PyUnicode_Type {
                self.text(item)?;
            } else if kind == &raw mut ffi::PyFloat_Type {
                self.float(item)?;
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Write an integer of at most 64 bits. Return false for a longer one.
    #[inline]
    fn quick_integer(&mut self, number: Borrowed<'_, 'py, PyAny>) -> bool {
        let mut overflow = 0;
        // SAFETY: it is an int.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &mut overflow) };
        if overflow == 0 {
            self.short_integer(value);
        }
        overflow == 0
    }

    /// Do the same for an object of any type. In a long list of integers this is faster than `quick`.
    ///
    /// # Safety
    /// `item` must be a valid object.
    #[inline]
    pub unsafe fn leaf_integer(&mut self, item: *mut ffi::PyObject) -> bool {
        // SAFETY: it is a valid object.
        unsafe {
            ffi::Py_TYPE(item) == &raw mut ffi::PyLong_Type && self.quick_integer(Borrowed::from_ptr(self.py, item))
        }
    }

    #[inline]
    fn quick_atom(&mut self, atom: Borrowed<'_, 'py, PyAny>) -> bool {
        if A::RUNS_PYTHON {
            return false;
        }
        match self.atoms.get(self.py, &atom) {
            Some(index) => {
                self.out.extend(&[tags::ATOM_CACHE_REF, index]);
                true
            }
            None => self.context.written_atoms.write(self.py, atom.as_ptr(), self.out),
        }
    }

    fn long_integer(&mut self, number: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        // SAFETY: it is an int. All bits set are the number 2⁶⁴-1 or an error.
        let value = unsafe { ffi::PyLong_AsUnsignedLongLong(number.as_ptr()) };
        if value == u64::MAX && !unsafe { ffi::PyErr_Occurred() }.is_null() {
            clear_error(self.py);
            return self.very_long_integer(&number);
        }
        self.big(value, false);
        Ok(())
    }

    fn big(&mut self, magnitude: u64, is_negative: bool) {
        let length = (71 - magnitude.leading_zeros() as usize) / 8;
        let bytes = magnitude.to_le_bytes();
        self.out
            .extend(&[tags::SMALL_BIG_EXT, length as u8, u8::from(is_negative)]);
        self.out.extend(&bytes[..length.min(8)]);
    }

    pub fn float(&mut self, number: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        // SAFETY: it is a float.
        let value = unsafe { ffi::PyFloat_AsDouble(number.as_ptr()) };
        if !value.is_finite() {
            return Err(GiveUp);
        }
        self.out.push(tags::NEW_FLOAT_EXT);
        self.out.extend(&value.to_be_bytes());
        Ok(())
    }

    pub fn bool(&mut self, truth: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        let context = self.context;
        let atom = match truth.as_ptr() == unsafe { ffi::Py_True() } {
            true => &context.true_atom,
            false => &context.false_atom,
        };
        let atom = atom.bind(self.py).clone();
        self.atom(atom.as_borrowed())
    }

    #[inline]
    pub fn bytes(&mut self, data: Borrowed<'_, 'py, PyBytes>) -> Result<(), GiveUp> {
        let length = u32::try_from(data.as_bytes().len()).map_err(|_| GiveUp)?;
        self.out.tag_u32(tags::BINARY_EXT, length);
        self.out.binary(&data);
        Ok(())
    }

    pub fn text(&mut self, text: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        let utf8 = self.utf8(&text)?;
        let length = u32::try_from(utf8.len()).map_err(|_| GiveUp)?;
        self.out.tag_u32(tags::BINARY_EXT, length);
        self.out.extend(utf8);
        Ok(())
    }

    pub fn pid(&mut self, pid: &Pid) -> Result<(), GiveUp> {
        self.out.push(tags::NEW_PID_EXT);
        self.atom(pid.node.bind(self.py).as_borrowed())?;
        let mut numbers = [0; 12];
        numbers[..4].copy_from_slice(&pid.id.to_be_bytes());
        numbers[4..8].copy_from_slice(&pid.serial.to_be_bytes());
        numbers[8..].copy_from_slice(&pid.creation.to_be_bytes());
        self.out.extend(&numbers);
        Ok(())
    }

    pub fn reference(&mut self, reference: &Ref) -> Result<(), GiveUp> {
        let words = reference.word_slice();
        self.out.tag_u16(tags::NEWER_REFERENCE_EXT, words.len() as u16);
        self.atom(reference.node.bind(self.py).as_borrowed())?;
        self.out.extend(&reference.creation.to_be_bytes());
        for word in words {
            self.out.extend(&word.to_be_bytes());
        }
        Ok(())
    }
}
