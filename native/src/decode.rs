//! The decoder: the bytes of a term to Python objects.
//!
//! It gives up on everything that is invalid. The pure decoder then reads the same bytes and raises its own error.
//!
//! Containers are read by recursion up to a depth, and from there on with a list of open containers (`decode_deep.rs`).
//! Finished parts of open containers lie on a stack. A container is made when all its parts are there, so a false count
//! allocates nothing, and Python code never sees half a container.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple};

use crate::context::Context;
use crate::decode_deep::{Kind, Open};
use crate::ffi_tools::clear_error;
use crate::integer_lists::list_of_integers;
use crate::tags;
use crate::term_stack::Stack;
use crate::terms::{ImproperList, Ref, MAX_WORDS};

/// The pure code must do the work. No Python error is set, and nothing was changed.
#[derive(Debug)]
pub struct GiveUp;

/// Terms that are nested deeper are read and written without recursion.
pub const MAX_DEPTH: u32 = 400;

/// Decode the term at `pos`. `atoms` are those that the frame's header lists; each must be an `Atom`.
///
/// `pos` is then the offset after the term. After `GiveUp` it is unchanged.
pub fn decode<'py>(
    py: Python<'py>,
    data: &[u8],
    pos: &mut usize,
    atoms: &[Py<PyAny>],
) -> Result<Bound<'py, PyAny>, GiveUp> {
    let mut decoder = Decoder::new(py, data, *pos, atoms)?;
    let term = decoder.term(0)?;
    *pos = decoder.pos;
    Ok(term)
}

/// Decode the term at `pos` whose last bytes are in `tail`. It gives up if something else than a binary spans the two.
pub fn decode_in_two_parts<'py>(
    py: Python<'py>,
    data: &[u8],
    pos: usize,
    tail: &[u8],
    atoms: &[Py<PyAny>],
) -> Result<Bound<'py, PyAny>, GiveUp> {
    let mut decoder = Decoder::new(py, data, pos, atoms)?;
    decoder.tail = tail;
    decoder.term(0)
}

pub struct Decoder<'a, 'py> {
    pub py: Python<'py>,
    pub context: &'a Context,
    data: &'a [u8],
    pos: usize,
    /// The data that follows `data`. Empty if there is none.
    tail: &'a [u8],
    atoms: &'a [Py<PyAny>],
    pub stack: Stack<'a, 'py>,
}

impl<'a, 'py> Decoder<'a, 'py> {
    /// A decoder that continues where another one stopped, with the items of its stack.
    pub fn resumed(
        py: Python<'py>,
        data: &'a [u8],
        pos: usize,
        atoms: &'a [Py<PyAny>],
        items: Vec<Py<PyAny>>,
    ) -> Result<Self, GiveUp>
    where
        'py: 'a,
    {
        let context = Context::get(py).map_err(|_| GiveUp)?;
        Ok(Decoder {
            py,
            context,
            data,
            pos,
            tail: &[],
            atoms,
            stack: Stack::with_items(py, context, items),
        })
    }

    #[inline]
    fn new(py: Python<'py>, data: &'a [u8], pos: usize, atoms: &'a [Py<PyAny>]) -> Result<Self, GiveUp>
    where
        'py: 'a,
    {
        let context = Context::get(py).map_err(|_| GiveUp)?;
        Ok(Decoder {
            py,
            context,
            data,
            pos,
            tail: &[],
            atoms,
            stack: Stack::new(py, context),
        })
    }

    fn term(&mut self, depth: u32) -> Result<Bound<'py, PyAny>, GiveUp> {
        match self.byte()? {
            tags::SMALL_TUPLE_EXT => {
                let count = usize::from(self.byte()?);
                self.tuple(count, depth)
            }
            tags::LARGE_TUPLE_EXT => {
                let count = self.count()?;
                self.tuple(count, depth)
            }
            tags::LIST_EXT => self.list(depth),
            tags::MAP_EXT => self.map(depth),
            tag => self.leaf(tag),
        }
    }

    /// Read a term after its tag. Tuples, lists and maps are read elsewhere.
    #[inline(always)]
    pub fn leaf(&mut self, tag: u8) -> Result<Bound<'py, PyAny>, GiveUp> {
        match tag {
            tags::SMALL_INTEGER_EXT => {
                let number = self.byte()?;
                self.int(i32::from(number))
            }
            tags::INTEGER_EXT => {
                let number = i32::from_be_bytes(self.array()?);
                self.int(number)
            }
            tags::ATOM_CACHE_REF
            | tags::SMALL_ATOM_UTF8_EXT
            | tags::ATOM_UTF8_EXT
            | tags::SMALL_ATOM_EXT
            | tags::ATOM_EXT => {
                let atom = self.name(tag)?;
                Ok(self.atom_as_term(atom))
            }
            tags::NIL_EXT => self.owned(unsafe { ffi::PyList_New(0) }),
            tags::STRING_EXT => self.string(),
            tags::BINARY_EXT => self.binary(),
            tags::NEW_PID_EXT => self.pid(),
            tags::NEWER_REFERENCE_EXT => self.reference(),
            tags::NEW_FLOAT_EXT => {
                let number = f64::from_be_bytes(self.array()?);
                self.float(number)
            }
            tags::SMALL_BIG_EXT => self.small_big(),
            _ => self.rare(tag),
        }
    }

    // Bytes

    pub fn position(&self) -> usize {
        self.pos
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, GiveUp> {
        let byte = *self.data.get(self.pos).ok_or(GiveUp)?;
        self.pos += 1;
        Ok(byte)
    }

    #[inline]
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], GiveUp> {
        let data: &'a [u8] = self.data;
        let slice = data.get(self.pos..).and_then(|rest| rest.get(..length)).ok_or(GiveUp)?;
        self.pos += length;
        Ok(slice)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], GiveUp> {
        let slice = self.slice(N)?;
        slice.try_into().map_err(|_| GiveUp)
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, GiveUp> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Read a count of elements or bytes. Each takes at least one byte, so a larger count is false.
    #[inline]
    pub fn count(&mut self) -> Result<usize, GiveUp> {
        let count = self.u32()? as usize;
        if count > self.data.len() - self.pos {
            return Err(GiveUp);
        }
        Ok(count)
    }

    // Objects

    /// Take a new reference. Null means that a Python error is set.
    #[inline]
    pub fn owned(&self, object: *mut ffi::PyObject) -> Result<Bound<'py, PyAny>, GiveUp> {
        // SAFETY: `object` is a new reference or null.
        match unsafe { Bound::from_owned_ptr_or_opt(self.py, object) } {
            Some(object) => Ok(object),
            None => Err(self.failed()),
        }
    }

    #[cold]
    pub fn failed(&self) -> GiveUp {
        clear_error(self.py);
        GiveUp
    }

    /// An int of 32 bits, for which Python has a faster function.
    #[inline]
    fn int(&self, number: i32) -> Result<Bound<'py, PyAny>, GiveUp> {
        self.owned(unsafe { ffi::PyLong_FromLong(number.into()) })
    }

    #[inline]
    pub fn long(&self, number: i64) -> Result<Bound<'py, PyAny>, GiveUp> {
        self.owned(unsafe { ffi::PyLong_FromLongLong(number) })
    }

    pub fn float(&self, number: f64) -> Result<Bound<'py, PyAny>, GiveUp> {
        if !number.is_finite() {
            return Err(GiveUp);
        }
        self.owned(unsafe { ffi::PyFloat_FromDouble(number) })
    }

    #[inline]
    fn atom_as_term(&self, atom: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        if atom.is(&self.context.true_atom) {
            PyBool::new(self.py, true).to_owned().into_any()
        } else if atom.is(&self.context.false_atom) {
            PyBool::new(self.py, false).to_owned().into_any()
        } else {
            atom
        }
    }

    /// Read the atom after its tag. `true` and `false` are atoms here.
    #[inline]
    fn name(&mut self, tag: u8) -> Result<Bound<'py, PyAny>, GiveUp> {
        let length = match tag {
            tags::ATOM_CACHE_REF => {
                let index = usize::from(self.byte()?);
                let atom = self.atoms.get(index).ok_or(GiveUp)?;
                return Ok(atom.bind(self.py).clone());
            }
            tags::SMALL_ATOM_UTF8_EXT | tags::SMALL_ATOM_EXT => usize::from(self.byte()?),
            tags::ATOM_UTF8_EXT | tags::ATOM_EXT => usize::from(u16::from_be_bytes(self.array()?)),
            _ => return Err(GiveUp),
        };
        let text = self.slice(length)?;
        if (tag == tags::SMALL_ATOM_EXT || tag == tags::ATOM_EXT) && !text.is_ascii() {
            return self.latin1_atom(text);
        }
        self.context.atom(self.py, text).map_err(|_| GiveUp)
    }

    /// Read the atom whose tag is next.
    #[inline]
    pub fn node(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let tag = self.byte()?;
        self.name(tag)
    }

    fn pid(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let node = self.node()?;
        let (id, serial, creation) = (self.u32()?, self.u32()?, self.u32()?);
        self.context.pid(&node, id, serial, creation).map_err(|_| GiveUp)
    }

    fn reference(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        let node = self.node()?;
        let creation = self.u32()?;
        self.reference_of(node, creation, count)
    }

    /// Read the `count` words of a reference.
    #[inline]
    pub fn reference_of(
        &mut self,
        node: Bound<'py, PyAny>,
        creation: u32,
        count: usize,
    ) -> Result<Bound<'py, PyAny>, GiveUp> {
        let mut words = [0; MAX_WORDS];
        for word in words.get_mut(..count).ok_or(GiveUp)? {
            *word = self.u32()?;
        }
        let reference = Ref::from_words(node.unbind(), creation, words.get(..count).ok_or(GiveUp)?).ok_or(GiveUp)?;
        Ok(Bound::new(self.py, reference).map_err(|_| GiveUp)?.into_any())
    }

    fn small_big(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let length = usize::from(self.byte()?);
        let is_negative = self.byte()? != 0;
        let mut magnitude = [0; 8];
        let Some(place) = magnitude.get_mut(..length) else {
            return self.long_integer(length, is_negative);
        };
        place.copy_from_slice(self.slice(length)?);
        let magnitude = u64::from_le_bytes(magnitude);
        if !is_negative {
            return self.owned(unsafe { ffi::PyLong_FromUnsignedLongLong(magnitude) });
        }
        match 0i64.checked_sub_unsigned(magnitude) {
            Some(number) => self.long(number),
            None => {
                self.pos -= length;
                self.long_integer(length, is_negative)
            }
        }
    }

    fn binary(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let length = self.u32()? as usize;
        let data: &'a [u8] = self.data;
        let Some(bytes) = data.get(self.pos..).and_then(|rest| rest.get(..length)) else {
            return self.binary_in_two_parts(length);
        };
        self.pos += length;
        // SAFETY: pointer and length are those of a slice.
        self.owned(unsafe { ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize) })
    }

    /// Read a binary that ends in the tail, and continue there.
    #[cold]
    fn binary_in_two_parts(&mut self, length: usize) -> Result<Bound<'py, PyAny>, GiveUp> {
        let first = self.data.get(self.pos..).ok_or(GiveUp)?;
        let missing = length.checked_sub(first.len()).ok_or(GiveUp)?;
        let last = self.tail.get(..missing).ok_or(GiveUp)?; // so a false length allocates nothing
        let bytes = self.owned(unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), length as isize) })?;
        // SAFETY: the object is new and has `length` bytes, which are not set yet. The two parts fill all of them.
        unsafe {
            let target: *mut u8 = ffi::PyBytes_AsString(bytes.as_ptr()).cast();
            std::ptr::copy_nonoverlapping(first.as_ptr(), target, first.len());
            std::ptr::copy_nonoverlapping(last.as_ptr(), target.add(first.len()), last.len());
        }
        (self.data, self.pos, self.tail) = (self.tail, missing, &[]);
        Ok(bytes)
    }

    // Containers

    fn string(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let bytes = self.slice(length)?;
        let list = self.owned(unsafe { ffi::PyList_New(length as isize) })?;
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: the index is in range. Python keeps these integers ready, so no other code runs in between.
            unsafe {
                ffi::PyList_SetItem(list.as_ptr(), index as isize, ffi::PyLong_FromLong((*byte).into()));
            }
        }
        Ok(list)
    }

    /// Read `count` terms and push them onto the stack.
    #[inline]
    fn push_terms(&mut self, count: usize, depth: u32) -> Result<(), GiveUp> {
        for _ in 0..count {
            let item = self.term(depth + 1)?;
            self.stack.push(item);
        }
        Ok(())
    }

    fn tuple(&mut self, count: usize, depth: u32) -> Result<Bound<'py, PyAny>, GiveUp> {
        if depth >= MAX_DEPTH {
            return self.deep(Open::new(Kind::Tuple, count, &self.stack));
        }
        let base = self.stack.len();
        self.push_terms(count, depth)?;
        self.tuple_from(base)
    }

    /// Make a tuple of the items from `base` on, and take them from the stack.
    #[inline]
    pub fn tuple_from(&mut self, base: usize) -> Result<Bound<'py, PyAny>, GiveUp> {
        let count = self.stack.len() - base;
        let tuple = self.owned(unsafe { ffi::PyTuple_New(count as isize) })?;
        self.stack.pop_into(base, |index, item| {
            // SAFETY: the tuple is new and has `count` places. The call takes over the reference.
            unsafe { ffi::PyTuple_SetItem(tuple.as_ptr(), index, item) };
        });
        Ok(tuple)
    }

    fn list(&mut self, depth: u32) -> Result<Bound<'py, PyAny>, GiveUp> {
        let mut count = self.count()?;
        let rest = self.data.get(self.pos..).unwrap_or_default();
        if let Some((list, size)) = list_of_integers(self.py, rest, count) {
            self.pos += size;
            return Ok(list);
        }
        if depth >= MAX_DEPTH {
            return self.deep(Open::new(Kind::List, count + 1, &self.stack)); // the tail is one element more
        }
        let base = self.stack.len();
        loop {
            self.push_terms(count, depth)?;
            match self.byte()? {
                tags::NIL_EXT => return self.list_from(base),
                tags::LIST_EXT => count = self.count()?, // it continues the list
                _ => {
                    self.pos -= 1;
                    let tail = self.term(depth + 1)?;
                    return self.list_with_tail(base, tail);
                }
            }
        }
    }

    /// Make a list of the items from `base` on, and take them from the stack.
    #[inline]
    pub fn list_from(&mut self, base: usize) -> Result<Bound<'py, PyAny>, GiveUp> {
        let count = self.stack.len() - base;
        let list = self.owned(unsafe { ffi::PyList_New(count as isize) })?;
        self.stack.pop_into(base, |index, item| {
            // SAFETY: the list is new and has `count` places. The call takes over the reference.
            unsafe { ffi::PyList_SetItem(list.as_ptr(), index, item) };
        });
        Ok(list)
    }

    /// Make a list of the items from `base` on, which end with a tail that is not LIST_EXT.
    #[cold]
    pub fn list_with_tail(&mut self, base: usize, tail: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, GiveUp> {
        if self.stack.len() == base {
            return Ok(tail); // LIST_EXT of length 0 is its tail
        }
        if let Ok(tail) = tail.cast_exact::<PyList>() {
            for item in tail.iter() {
                self.stack.push(item);
            }
            return self.list_from(base);
        }
        let elements = self.tuple_from(base)?;
        // SAFETY: `tuple_from` returns a tuple.
        let elements = unsafe { elements.cast_into_unchecked::<PyTuple>() };
        let list = ImproperList {
            elements: elements.unbind(),
            tail: tail.unbind(),
        };
        Ok(Bound::new(self.py, list).map_err(|_| GiveUp)?.into_any())
    }

    fn map(&mut self, depth: u32) -> Result<Bound<'py, PyAny>, GiveUp> {
        let count = self.count()?;
        if depth >= MAX_DEPTH {
            let open = Open::map(self.py, count, &self.stack)?;
            return self.deep(open);
        }
        let mut pairs = Pairs::new(self.py);
        for _ in 0..count {
            let key = self.term(depth + 1)?;
            let value = self.term(depth + 1)?;
            self.add_pair(&mut pairs, key, value)?;
        }
        self.map_of(pairs, count)
    }

    /// Add a pair to a map that is read.
    #[inline]
    pub fn add_pair(&self, pairs: &mut Pairs, key: Bound<'py, PyAny>, value: Bound<'py, PyAny>) -> Result<(), GiveUp> {
        let values = pairs.values.bind(self.py);
        if self.context.is_own_key(&key) {
            return self.set_item(values, &key, &value);
        }
        let unique = self.context.exact_key(&key).map_err(|_| GiveUp)?;
        self.set_item(values, &unique, &value)?;
        if unique.is(&key) {
            return Ok(());
        }
        let originals = pairs.originals.get_or_insert_with(|| PyDict::new(self.py).unbind());
        self.set_item(originals.bind(self.py), &unique, &key)
    }

    pub fn map_of(&self, pairs: Pairs, count: usize) -> Result<Bound<'py, PyAny>, GiveUp> {
        let values = pairs.values.into_bound(self.py);
        if values.len() != count {
            return Err(GiveUp); // the same key twice
        }
        let originals = pairs.originals.map(|originals| originals.into_bound(self.py));
        self.context.new_map(&values, originals).map_err(|_| GiveUp)
    }

    #[inline]
    fn set_item(
        &self,
        dict: &Bound<'py, PyDict>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> Result<(), GiveUp> {
        // SAFETY: all three are valid, and the dict is a dict.
        match unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } {
            0 => Ok(()),
            _ => Err(self.failed()),
        }
    }
}

/// The pairs of a map that is read: the values by exact key, and the keys that differ from their exact key.
pub struct Pairs {
    values: Py<PyDict>,
    originals: Option<Py<PyDict>>,
}

impl Pairs {
    pub fn new(py: Python<'_>) -> Self {
        Pairs {
            values: PyDict::new(py).unbind(),
            originals: None,
        }
    }
}
