//! The encoder: common Python objects to bytes.
//!
//! It gives up on subclasses of most types, `bytearray`, and everything that cannot be encoded. The pure encoder then
//! writes the same term or raises its own error.
//!
//! `encode_leaves.rs` writes leaves. Containers are written by recursion up to a depth, and from there on with a list of
//! open containers (`encode_deep.rs`).

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
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
    pub atoms: &'a mut A,
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
    pub fn failed(&self) -> GiveUp {
        clear_error(self.py);
        GiveUp
    }

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
