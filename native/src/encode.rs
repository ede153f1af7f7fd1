//! The encoder: common Python objects to bytes.
//!
//! It gives up on subclasses of most types, `bytearray`, and everything that cannot be encoded. The pure encoder then
//! writes the same term or raises its own error.
//!
//! Containers are written by recursion up to a depth, and from there on with a list of open containers
//! (`encode_deep.rs`).

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{ffi, Borrowed};

use crate::buffer::Out;
use crate::context::Context;
use crate::decode::{GiveUp, MAX_DEPTH};
use crate::ffi_tools::clear_error;
use crate::tags;
use crate::terms::{ImproperList, Pid, Ref};

/// The atoms that a frame's header can list.
pub trait AtomRefs {
    /// Whether `get` can run Python code.
    const RUNS_PYTHON: bool = false;

    /// The index that an atom has in the header of the frame; None if the atom must be written in full.
    ///
    /// It is called for every occurrence of an atom, in the order of the bytes.
    fn get(&mut self, py: Python<'_>, atom: &Bound<'_, PyAny>) -> Option<u8>;
}

/// No header: every atom is written in full.
pub struct NoAtoms;

impl AtomRefs for NoAtoms {
    #[inline]
    fn get(&mut self, _py: Python<'_>, _atom: &Bound<'_, PyAny>) -> Option<u8> {
        None
    }
}

/// Write a term without byte 131. After `GiveUp`, `out` has a part of the term: the caller must truncate it.
pub fn encode(term: &Bound<'_, PyAny>, out: &mut Out, atoms: &mut impl AtomRefs) -> Result<(), GiveUp> {
    let py = term.py();
    let context = Context::get(py).map_err(|_| GiveUp)?;
    Encoder {
        py,
        context,
        out,
        atoms,
    }
    .term(term.as_borrowed(), 0)
}

pub struct Encoder<'a, 'py, A> {
    pub py: Python<'py>,
    pub context: &'a Context,
    pub out: &'a mut Out,
    atoms: &'a mut A,
}

impl<'py, A: AtomRefs> Encoder<'_, 'py, A> {
    pub fn term(&mut self, term: Borrowed<'_, 'py, PyAny>, depth: u32) -> Result<(), GiveUp> {
        let types = &self.context.types;
        // SAFETY: these are valid objects; each cast follows the check of the exact type.
        unsafe {
            let kind = ffi::Py_TYPE(term.as_ptr());
            if kind == types.atom {
                self.atom(term)
            } else if kind == &raw mut ffi::PyLong_Type {
                self.integer(term)
            } else if kind == &raw mut ffi::PyTuple_Type {
                self.tuple(term, depth)
            } else if kind == &raw mut ffi::PyBytes_Type {
                self.bytes(term.cast_unchecked())
            } else if kind == &raw mut ffi::PyList_Type {
                self.list(term, depth)
            } else if kind == types.pid {
                self.pid(term.cast_unchecked::<Pid>().get())
            } else if kind == types.reference {
                self.reference(term.cast_unchecked::<Ref>().get())
            } else if kind == types.map {
                self.map(term, depth)
            } else if kind == &raw mut ffi::PyUnicode_Type {
                self.text(term)
            } else if kind == &raw mut ffi::PyBool_Type {
                self.bool(term)
            } else if kind == &raw mut ffi::PyFloat_Type {
                self.float(term)
            } else if kind == &raw mut ffi::PyDict_Type {
                self.dict(term.cast_unchecked(), depth)
            } else if kind == types.improper_list {
                self.improper(term, depth)
            } else {
                self.rare(term, depth)
            }
        }
    }

    #[cold]
    fn failed(&self) -> GiveUp {
        clear_error(self.py);
        GiveUp
    }

    // Leaves

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
    fn utf8<'b>(&self, text: &'b Bound<'py, PyAny>) -> Result<&'b [u8], GiveUp> {
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
    unsafe fn quick(&mut self, item: *mut ffi::PyObject) -> Result<bool, GiveUp> {
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
    unsafe fn leaf_integer(&mut self, item: *mut ffi::PyObject) -> bool {
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

    fn float(&mut self, number: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        // SAFETY: it is a float.
        let value = unsafe { ffi::PyFloat_AsDouble(number.as_ptr()) };
        if !value.is_finite() {
            return Err(GiveUp);
        }
        self.out.push(tags::NEW_FLOAT_EXT);
        self.out.extend(&value.to_be_bytes());
        Ok(())
    }

    fn bool(&mut self, truth: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
        let context = self.context;
        let atom = match truth.as_ptr() == unsafe { ffi::Py_True() } {
            true => &context.true_atom,
            false => &context.false_atom,
        };
        let atom = atom.bind(self.py).clone();
        self.atom(atom.as_borrowed())
    }

    #[inline]
    fn bytes(&mut self, data: Borrowed<'_, 'py, PyBytes>) -> Result<(), GiveUp> {
        let length = u32::try_from(data.as_bytes().len()).map_err(|_| GiveUp)?;
        self.out.tag_u32(tags::BINARY_EXT, length);
        self.out.binary(&data);
        Ok(())
    }

    fn text(&mut self, text: Borrowed<'_, 'py, PyAny>) -> Result<(), GiveUp> {
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

    fn reference(&mut self, reference: &Ref) -> Result<(), GiveUp> {
        let words = reference.word_slice();
        self.out.tag_u16(tags::NEWER_REFERENCE_EXT, words.len() as u16);
        self.atom(reference.node.bind(self.py).as_borrowed())?;
        self.out.extend(&reference.creation.to_be_bytes());
        for word in words {
            self.out.extend(&word.to_be_bytes());
        }
        Ok(())
    }

    // Containers

    pub fn tuple(&mut self, tuple: Borrowed<'_, 'py, PyAny>, depth: u32) -> Result<(), GiveUp> {
        if depth >= MAX_DEPTH {
            return self.deep(&tuple);
        }
        // SAFETY: it is a tuple.
        let count = unsafe { ffi::PyTuple_Size(tuple.as_ptr()) };
        self.tuple_head(count as usize)?;
        self.tuple_items(tuple, count, depth)
    }

    #[inline]
    pub fn tuple_head(&mut self, count: usize) -> Result<(), GiveUp> {
        match u8::try_from(count) {
            Ok(count) => self.out.extend(&[tags::SMALL_TUPLE_EXT, count]),
            Err(_) => self
                .out
                .tag_u32(tags::LARGE_TUPLE_EXT, u32::try_from(count).map_err(|_| GiveUp)?),
        }
        Ok(())
    }

    #[inline]
    fn tuple_items(&mut self, tuple: Borrowed<'_, 'py, PyAny>, count: isize, depth: u32) -> Result<(), GiveUp> {
        for index in 0..count {
            // SAFETY: the index is in range. A tuple never changes, so it keeps its items alive.
            let item = unsafe { Borrowed::from_ptr(self.py, ffi::PyTuple_GetItem(tuple.as_ptr(), index)) };
            self.term(item, depth + 1)?;
        }
        Ok(())
    }

    fn list(&mut self, list: Borrowed<'_, 'py, PyAny>, depth: u32) -> Result<(), GiveUp> {
        if depth >= MAX_DEPTH {
            return self.deep(&list);
        }
        let Some(count) = self.list_head(list)? else {
            return Ok(());
        };
        for index in 0..count {
            // SAFETY: it is a list. It can change while Python code runs, so the item gets a reference of its own, unless
            // it is written at once.
            let item = unsafe { ffi::PyList_GetItem(list.as_ptr(), index) };
            if !item.is_null() && unsafe { self.leaf_integer(item) || self.quick(item)? } {
                continue;
            }
            let Some(item) = (unsafe { Bound::from_borrowed_ptr_or_opt(self.py, item) }) else {
                return Err(self.failed());
            };
            self.term(item.as_borrowed(), depth + 1)?;
        }
        self.out.push(tags::NIL_EXT);
        Ok(())
    }

    /// Write the head of a list and return the number of its elements. None if that was all: an empty list, or bytes.
    #[inline]
    pub fn list_head(&mut self, list: Borrowed<'_, 'py, PyAny>) -> Result<Option<isize>, GiveUp> {
        // SAFETY: it is a list.
        let count = unsafe { ffi::PyList_Size(list.as_ptr()) };
        if count == 0 {
            self.out.push(tags::NIL_EXT);
            return Ok(None);
        }
        if let Ok(count) = u16::try_from(count) {
            if self.string(list, count) {
                return Ok(None);
            }
        }
        self.out
            .tag_u32(tags::LIST_EXT, u32::try_from(count).map_err(|_| GiveUp)?);
        Ok(Some(count))
    }

    /// Write a list as STRING_EXT if all its elements are bytes. Otherwise write nothing and return false.
    #[inline]
    fn string(&mut self, list: Borrowed<'_, 'py, PyAny>, count: u16) -> bool {
        // SAFETY: it is a list of `count` items, which are valid objects.
        let is_candidate = unsafe {
            let first = ffi::PyList_GetItem(list.as_ptr(), 0);
            !first.is_null() && is_number(first)
        };
        is_candidate && self.bytes_of_list(list, count)
    }

    fn bytes_of_list(&mut self, list: Borrowed<'_, 'py, PyAny>, count: u16) -> bool {
        let mark = self.out.mark();
        self.out.tag_u16(tags::STRING_EXT, count);
        for index in 0..isize::try_from(count).unwrap_or(0) {
            // SAFETY: it is a list of `count` items, and no Python code runs in this loop.
            let byte = unsafe {
                let item = ffi::PyList_GetItem(list.as_ptr(), index);
                if item.is_null() || !is_number(item) {
                    None
                } else {
                    let mut overflow = 0;
                    let number = ffi::PyLong_AsLongLongAndOverflow(item, &mut overflow);
                    u8::try_from(number).ok().filter(|_| overflow == 0)
                }
            };
            match byte {
                Some(byte) => self.out.push(byte),
                None => {
                    self.out.truncate(mark);
                    return false;
                }
            }
        }
        true
    }

    fn improper(&mut self, term: Borrowed<'_, 'py, PyAny>, depth: u32) -> Result<(), GiveUp> {
        if depth >= MAX_DEPTH {
            return self.deep(&term);
        }
        let list = term.cast_exact::<ImproperList>().map_err(|_| GiveUp)?.get();
        let elements = list.elements.bind(self.py).as_any().as_borrowed();
        // SAFETY: it is a tuple.
        let count = unsafe { ffi::PyTuple_Size(elements.as_ptr()) };
        self.out
            .tag_u32(tags::LIST_EXT, u32::try_from(count).map_err(|_| GiveUp)?);
        self.tuple_items(elements, count, depth)?;
        self.term(list.tail.bind(self.py).as_borrowed(), depth + 1)
    }

    fn map(&mut self, map: Borrowed<'_, 'py, PyAny>, depth: u32) -> Result<(), GiveUp> {
        if depth >= MAX_DEPTH {
            return self.deep(&map);
        }
        let (values, originals) = self.map_parts(&map)?;
        let has_originals = !originals.is_empty();
        self.pairs(values.as_borrowed(), depth, !has_originals, |encoder, key, depth| {
            if has_originals {
                // SAFETY: it is a dict. The result is borrowed from it, or null.
                let original = unsafe { ffi::PyDict_GetItemWithError(originals.as_ptr(), key.as_ptr()) };
                if let Some(original) = unsafe { Bound::from_borrowed_ptr_or_opt(encoder.py, original) } {
                    return encoder.term(original.as_borrowed(), depth);
                }
                clear_error(encoder.py);
            }
            encoder.term(key.as_borrowed(), depth)
        })
    }

    /// The values of a `Map` by exact key, and the keys that differ from their exact key.
    #[inline]
    pub fn map_parts(&self, map: &Bound<'py, PyAny>) -> Result<(Bound<'py, PyDict>, Bound<'py, PyDict>), GiveUp> {
        let (Some(values), Some(originals)) = (
            self.context.map_values.get(map),
            self.context.map_original_keys.get(map),
        ) else {
            return Err(self.failed());
        };
        let values = values.cast_into_exact::<PyDict>().map_err(|_| GiveUp)?;
        let originals = originals.cast_into_exact::<PyDict>().map_err(|_| GiveUp)?;
        Ok((values, originals))
    }

    #[inline]
    pub fn map_head(&mut self, count: usize) -> Result<(), GiveUp> {
        self.out
            .tag_u32(tags::MAP_EXT, u32::try_from(count).map_err(|_| GiveUp)?);
        Ok(())
    }

    fn dict(&mut self, dict: Borrowed<'_, 'py, PyDict>, depth: u32) -> Result<(), GiveUp> {
        if depth >= MAX_DEPTH {
            return self.deep(dict.as_any());
        }
        if !self.has_distinct_keys(dict) {
            return Err(GiveUp);
        }
        self.pairs(dict, depth, true, |encoder, key, depth| {
            encoder.term(key.as_borrowed(), depth)
        })
    }

    /// Write a dict. `write_key` gets each key and the depth of the parts; not a key that is a leaf, if
    /// `are_keys_original`.
    fn pairs(
        &mut self,
        dict: Borrowed<'_, 'py, PyDict>,
        depth: u32,
        are_keys_original: bool,
        write_key: impl Fn(&mut Self, &Bound<'py, PyAny>, u32) -> Result<(), GiveUp>,
    ) -> Result<(), GiveUp> {
        let count = dict.len();
        self.map_head(count)?;
        let (mut position, mut written) = (0, 0);
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: it is a dict. Python code can change it between two steps, so key and value get references of their
        // own, unless they are written at once. PyDict_Next checks the position against the dict of that moment.
        while unsafe { ffi::PyDict_Next(dict.as_ptr(), &mut position, &mut key, &mut value) } != 0 {
            written += 1;
            if !are_keys_original || !unsafe { self.quick(key)? } {
                let kept = unsafe { Bound::from_borrowed_ptr(self.py, value) };
                let key = unsafe { Bound::from_borrowed_ptr(self.py, key) };
                write_key(self, &key, depth + 1)?;
                self.term(kept.as_borrowed(), depth + 1)?;
            } else if !unsafe { self.quick(value)? } {
                let value = unsafe { Bound::from_borrowed_ptr(self.py, value) };
                self.term(value.as_borrowed(), depth + 1)?;
            }
        }
        if written == count {
            Ok(())
        } else {
            Err(GiveUp)
        }
    }

    /// Whether no two keys of the dict are the same term: keys of one type differ as in Erlang. Otherwise Python decides.
    pub fn has_distinct_keys(&self, dict: Borrowed<'_, 'py, PyDict>) -> bool {
        let types = &self.context.types;
        let mut first: *mut ffi::PyTypeObject = std::ptr::null_mut();
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: it is a dict, and no Python code runs in this loop.
        let is_uniform = unsafe {
            loop {
                if ffi::PyDict_Next(dict.as_ptr(), &mut position, &mut key, &mut value) == 0 {
                    break true;
                }
                let kind = ffi::Py_TYPE(key);
                if first.is_null() {
                    first = kind;
                }
                if kind != first {
                    break false;
                }
            }
        };
        if is_uniform
            && (first.is_null()
                || first == &raw mut ffi::PyUnicode_Type
                || first == &raw mut ffi::PyBytes_Type
                || first == &raw mut ffi::PyLong_Type
                || first == types.atom
                || first == types.pid)
        {
            return true;
        }
        static PURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        PURE.import(self.py, "erlmesh.etf.encode", "has_distinct_keys")
            .and_then(|function| function.call1((dict,)))
            .and_then(|result| result.is_truthy())
            .unwrap_or(false)
    }
}

/// Whether a list element can be a byte of STRING_EXT: an int, or of a subclass, but not a bool, which is an atom.
///
/// # Safety
/// `item` must be a valid object.
#[inline]
unsafe fn is_number(item: *mut ffi::PyObject) -> bool {
    unsafe {
        let kind = ffi::Py_TYPE(item);
        kind == &raw mut ffi::PyLong_Type || (ffi::PyLong_Check(item) != 0 && kind != &raw mut ffi::PyBool_Type)
    }
}
