//! The decoder for deep terms: the containers that are still open are in a list instead of on the stack of the thread.
//!
//! A fun is always read this way, because it is rare.

use pyo3::prelude::*;

use crate::decode::{Decoder, GiveUp, Pairs};
use crate::tags;
use crate::term_stack::Stack;

/// A container with some elements still to be read. Those that are read lie on the decoder's stack from `base` on.
pub struct Open<'py> {
    kind: Kind<'py>,
    base: usize,
    /// The number of terms still to be read. The tail of a list is one of them, and a pair of a map is two.
    missing: usize,
}

pub enum Kind<'py> {
    Tuple,
    List,
    Map,
    /// With all but its free variables.
    Fun(Box<FunHead<'py>>),
}

pub struct FunHead<'py> {
    pub arity: u8,
    pub uniq: [u8; 16],
    pub index: u32,
    pub module: Bound<'py, PyAny>,
    pub old_index: i32,
    pub old_uniq: i32,
    pub pid: Bound<'py, PyAny>,
}

impl<'py> Open<'py> {
    pub fn new(kind: Kind<'py>, missing: usize, stack: &Stack<'_, 'py>) -> Self {
        Open {
            kind,
            base: stack.len(),
            missing,
        }
    }
}

impl<'py> Decoder<'_, 'py> {
    /// Read the elements of a container whose head is read, at any depth.
    #[cold]
    #[inline(never)]
    pub fn deep(&mut self, first: Open<'py>) -> Result<Bound<'py, PyAny>, GiveUp> {
        let mut inner = first;
        let mut outer = Vec::new();
        loop {
            if inner.missing == 0 {
                let item = self.close(inner)?;
                match outer.pop() {
                    None => return Ok(item),
                    Some(next) => inner = next,
                }
                self.stack.push(item);
                continue;
            }
            inner.missing -= 1;
            let tag = self.byte()?;
            if tag == tags::LIST_EXT && inner.missing == 0 && matches!(inner.kind, Kind::List) {
                inner.missing = self.count()? + 1; // the tail continues the list
                continue;
            }
            match self.open(tag)? {
                Some(next) => outer.push(std::mem::replace(&mut inner, next)),
                None => {
                    let item = self.leaf(tag)?;
                    self.stack.push(item);
                }
            }
        }
    }

    /// Read the head of a container after its tag. None if it is another term.
    fn open(&mut self, tag: u8) -> Result<Option<Open<'py>>, GiveUp> {
        let (kind, missing) = match tag {
            tags::SMALL_TUPLE_EXT => (Kind::Tuple, usize::from(self.byte()?)),
            tags::LARGE_TUPLE_EXT => (Kind::Tuple, self.count()?),
            tags::LIST_EXT => (Kind::List, self.count()? + 1),
            tags::MAP_EXT => (Kind::Map, self.count()?.checked_mul(2).ok_or(GiveUp)?),
            tags::NEW_FUN_EXT => return self.open_fun().map(Some),
            _ => return Ok(None),
        };
        Ok(Some(Open::new(kind, missing, &self.stack)))
    }

    /// Read a fun after its tag, all but its free variables.
    pub fn open_fun(&mut self) -> Result<Open<'py>, GiveUp> {
        self.u32()?; // its size
        let (arity, uniq, index) = (self.byte()?, self.array()?, self.u32()?);
        let free = self.u32()? as usize;
        let module = self.node()?;
        let (old_index, old_uniq) = (self.short_integer()?, self.short_integer()?);
        let head = FunHead {
            arity,
            uniq,
            index,
            module,
            old_index,
            old_uniq,
            pid: self.any_pid()?,
        };
        Ok(Open::new(Kind::Fun(Box::new(head)), free, &self.stack))
    }

    /// Make a container whose elements are all read.
    fn close(&mut self, done: Open<'py>) -> Result<Bound<'py, PyAny>, GiveUp> {
        match done.kind {
            Kind::Tuple => self.tuple_from(done.base),
            Kind::List => {
                let tail = self.stack.pop().ok_or(GiveUp)?;
                self.list_with_tail(done.base, tail)
            }
            Kind::Map => self.map_from(done.base),
            Kind::Fun(head) => {
                let free = self.tuple_from(done.base)?;
                self.fun(&head, free)
            }
        }
    }

    /// Make a map of the keys and values from `base` on, and take them from the stack.
    fn map_from(&mut self, base: usize) -> Result<Bound<'py, PyAny>, GiveUp> {
        let mut pairs = Pairs::new(self.py);
        let count = (self.stack.len() - base) / 2;
        for index in 0..count {
            let (key, value) = (self.stack.get(base + 2 * index), self.stack.get(base + 2 * index + 1));
            self.add_pair(&mut pairs, key.ok_or(GiveUp)?, value.ok_or(GiveUp)?)?;
        }
        self.stack.truncate(base);
        self.map_of(pairs, count)
    }
}
