//! The encoder for deep terms, and for funs: the containers that are still open are in a list instead of on the stack of
//! the thread.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use pyo3::{ffi, intern};

use crate::buffer::Mark;
use crate::decode::{GiveUp, MAX_DEPTH};
use crate::encode::{AtomRefs, Encoder};
use crate::encode_rare::{attribute, part};
use crate::ffi_tools::is_exact;
use crate::tags;
use crate::terms::{ImproperList, Pid};

/// Bytes of the head of a NEW_FUN_EXT after its tag.
const FUN_HEAD: usize = 29;

/// A container whose head is written, and whose children are not all written yet.
struct Open<'py> {
    term: Bound<'py, PyAny>,
    children: Children<'py>,
    next: isize,
}

enum Children<'py> {
    Tuple(Bound<'py, PyTuple>),
    List(Bound<'py, PyList>, isize),
    Improper(Bound<'py, PyTuple>, Bound<'py, PyAny>),
    /// Keys and values. A dict of the user can change meanwhile, so they are a copy.
    Pairs(Vec<Bound<'py, PyAny>>),
    /// The free variables, and where the head is.
    Fun(Bound<'py, PyTuple>, Mark),
}

impl<'py, A: AtomRefs> Encoder<'_, 'py, A> {
    /// Write a container of any depth. It gives up if the container contains itself.
    #[cold]
    #[inline(never)]
    pub fn deep(&mut self, term: &Bound<'py, PyAny>) -> Result<(), GiveUp> {
        let Some(mut inner) = self.open(term)? else {
            return Ok(());
        };
        let mut outer: Vec<Open<'py>> = Vec::new();
        loop {
            let Some(child) = inner.next()? else {
                self.close(&inner)?;
                match outer.pop() {
                    None => return Ok(()),
                    Some(next) => inner = next,
                }
                continue;
            };
            if !self.is_container(&child) {
                self.term(child.as_borrowed(), MAX_DEPTH)?;
                continue;
            }
            let Some(next) = self.open(&child)? else {
                continue; // a list of bytes
            };
            outer.push(std::mem::replace(&mut inner, next));
            // The last level whose number is a power of two is enough: a chain of levels without end repeats itself.
            let power = 1 << outer.len().ilog2();
            if outer.get(power - 1).is_some_and(|level| level.term.is(&child)) {
                return Err(GiveUp);
            }
        }
    }

    /// Whether `open` can write the head of this term.
    fn is_container(&self, term: &Bound<'py, PyAny>) -> bool {
        let types = &self.context.types;
        // SAFETY: a bound object is a valid object.
        let kind = unsafe { ffi::Py_TYPE(term.as_ptr()) };
        kind == &raw mut ffi::PyTuple_Type
            || kind == &raw mut ffi::PyList_Type
            || kind == &raw mut ffi::PyDict_Type
            || kind == types.map
            || kind == types.improper_list
            || kind == types.fun
    }

    /// Write the head of a container. None if that was all of it.
    fn open(&mut self, term: &Bound<'py, PyAny>) -> Result<Option<Open<'py>>, GiveUp> {
        let children = if let Ok(tuple) = term.cast_exact::<PyTuple>() {
            self.tuple_head(tuple.len())?;
            Children::Tuple(tuple.clone())
        } else if let Ok(list) = term.cast_exact::<PyList>() {
            match self.list_head(list.as_any().as_borrowed())? {
                None => return Ok(None),
                Some(count) => Children::List(list.clone(), count),
            }
        } else if let Ok(list) = term.cast_exact::<ImproperList>() {
            let list = list.get();
            let elements = list.elements.bind(self.py).clone();
            self.out
                .tag_u32(tags::LIST_EXT, u32::try_from(elements.len()).map_err(|_| GiveUp)?);
            Children::Improper(elements, list.tail.bind(self.py).clone())
        } else if is_exact(term, self.context.types.map) {
            self.open_map(term)?
        } else if let Ok(dict) = term.cast_exact::<PyDict>() {
            if !self.has_distinct_keys(dict.as_borrowed()) {
                return Err(GiveUp);
            }
            self.map_head(dict.len())?;
            Children::Pairs(dict.iter().flat_map(|(key, value)| [key, value]).collect())
        } else if is_exact(term, self.context.types.fun) {
            self.open_fun(term)?
        } else {
            return Err(GiveUp);
        };
        Ok(Some(Open {
            term: term.clone(),
            children,
            next: 0,
        }))
    }

    fn open_map(&mut self, map: &Bound<'py, PyAny>) -> Result<Children<'py>, GiveUp> {
        let (values, originals) = self.map_parts(map)?;
        self.map_head(values.len())?;
        let mut children = Vec::with_capacity(2 * values.len());
        for (key, value) in values.iter() {
            let original = match originals.is_empty() {
                true => None,
                false => originals.get_item(&key).map_err(|_| GiveUp)?,
            };
            children.push(original.unwrap_or(key));
            children.push(value);
        }
        Ok(Children::Pairs(children))
    }

    /// Write the names of a fun, and leave place for its head, which has its length.
    fn open_fun(&mut self, fun: &Bound<'py, PyAny>) -> Result<Children<'py>, GiveUp> {
        let py = self.py;
        let free = attribute(fun, intern!(py, "free"))?
            .cast_into_exact::<PyTuple>()
            .map_err(|_| GiveUp)?;
        let mark = self.out.mark();
        self.out.push(tags::NEW_FUN_EXT);
        self.out.extend(&[0; FUN_HEAD]);
        let module = attribute(fun, intern!(py, "module"))?;
        self.checked_atom(&module)?;
        for name in [intern!(py, "old_index"), intern!(py, "old_uniq")] {
            let number: i64 = part(&attribute(fun, name)?)?;
            self.short_integer(number);
        }
        let pid = attribute(fun, intern!(py, "pid"))?;
        self.pid(pid.cast_exact::<Pid>().map_err(|_| GiveUp)?.get())?;
        Ok(Children::Fun(free, mark))
    }

    fn close(&mut self, done: &Open<'py>) -> Result<(), GiveUp> {
        match &done.children {
            Children::List(..) => self.out.push(tags::NIL_EXT),
            Children::Fun(free, mark) => self.write_fun_head(&done.term, free.len(), *mark)?,
            _ => (),
        }
        Ok(())
    }

    fn write_fun_head(&mut self, fun: &Bound<'py, PyAny>, free: usize, mark: Mark) -> Result<(), GiveUp> {
        let py = self.py;
        let size = u32::try_from(self.out.length_since(mark) - 1).map_err(|_| GiveUp)?;
        let uniq = attribute(fun, intern!(py, "uniq"))?
            .cast_into_exact::<PyBytes>()
            .map_err(|_| GiveUp)?;
        let uniq: [u8; 16] = uniq.as_bytes().try_into().map_err(|_| GiveUp)?;
        let arity: u8 = part(&attribute(fun, intern!(py, "arity"))?)?;
        let index: u32 = part(&attribute(fun, intern!(py, "index"))?)?;
        let mut head = Vec::with_capacity(FUN_HEAD);
        head.extend_from_slice(&size.to_be_bytes());
        head.push(arity);
        head.extend_from_slice(&uniq);
        head.extend_from_slice(&index.to_be_bytes());
        head.extend_from_slice(&u32::try_from(free).map_err(|_| GiveUp)?.to_be_bytes());
        self.out.overwrite(mark, 1, &head);
        Ok(())
    }
}

impl<'py> Open<'py> {
    /// The next child; None after the last one.
    #[inline]
    fn next(&mut self) -> Result<Option<Bound<'py, PyAny>>, GiveUp> {
        let index = self.next as usize;
        self.next += 1;
        let item = match &self.children {
            Children::Tuple(tuple) | Children::Fun(tuple, _) => match index < tuple.len() {
                true => tuple.get_item(index).ok(),
                false => None,
            },
            Children::Improper(elements, tail) => match index.cmp(&elements.len()) {
                std::cmp::Ordering::Less => elements.get_item(index).ok(),
                std::cmp::Ordering::Equal => Some(tail.clone()),
                std::cmp::Ordering::Greater => None,
            },
            Children::List(list, count) => match index < *count as usize {
                true => Some(list.get_item(index).map_err(|_| GiveUp)?), // it can have changed
                false => None,
            },
            Children::Pairs(items) => items.get(index).cloned(),
        };
        Ok(item)
    }
}
