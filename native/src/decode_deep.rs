//! The decoder for deep terms: the containers that are still open are in a list instead of on the stack of the thread.
//!
//! A fun is always read this way, because it is rare.

use pyo3::prelude::*;

use crate::decode::{Decoder, GiveUp, Pairs};
use crate::tags;
use crate::term_stack::Stack;

/// A container with some elements still to be read. Those that are read lie on the decoder's stack from `base` on.
pub struct Open {
    kind: Kind,
    base: usize,
    /// The number of terms still to be read. The tail of a list is one of them, and a pair of a map is two.
    missing: usize,
}

pub enum Kind {
    Tuple,
    List,
    /// With the number of its pairs and those that are read. Only a key without its value lies on the stack.
    Map(usize, Pairs),
    /// With all but its free variables.
    Fun(Box<FunHead>),
    /// What is around the whole term.
    Outside,
}

pub struct FunHead {
    pub arity: u8,
    pub uniq: [u8; 16],
    pub index: u32,
    pub module: Py<PyAny>,
    pub old_index: i32,
    pub old_uniq: i32,
    pub pid: Py<PyAny>,
}

impl Open {
    pub fn new(kind: Kind, missing: usize, stack: &Stack<'_, '_>) -> Self {
        Open {
            kind,
            base: stack.len(),
            missing,
        }
    }

    pub fn map(py: Python<'_>, count: usize, stack: &Stack<'_, '_>) -> Result<Self, GiveUp> {
        let missing = count.checked_mul(2).ok_or(GiveUp)?;
        Ok(Open::new(Kind::Map(count, Pairs::new(py)), missing, stack))
    }

    /// What is around a term that has not begun.
    pub fn outside() -> Self {
        Open {
            kind: Kind::Outside,
            base: 0,
            missing: 1,
        }
    }
}

/// Bytes of a list of bytes that count as one more step.
const STRING_BYTES_OF_STEP: usize = 1 << 8;

impl<'py> Decoder<'_, 'py> {
    /// Read the elements of a container whose head is read, at any depth.
    #[cold]
    #[inline(never)]
    pub fn deep(&mut self, first: Open) -> Result<Bound<'py, PyAny>, GiveUp> {
        let mut open = vec![Open::outside(), first];
        self.run(&mut open, usize::MAX)?.ok_or(GiveUp)
    }

    /// Read the elements of the containers that are `open`, the innermost one last. Stop after so many `steps`.
    ///
    /// Each term that begins and each container that is made is a step. Return None if some are left. `open` is of no
    /// use after `GiveUp`.
    pub fn run(&mut self, open: &mut Vec<Open>, steps: usize) -> Result<Option<Bound<'py, PyAny>>, GiveUp> {
        let mut inner = open.pop().ok_or(GiveUp)?;
        let mut left = steps;
        loop {
            if inner.missing == 0 {
                let item = self.close(inner)?;
                inner = open.pop().ok_or(GiveUp)?;
                if matches!(inner.kind, Kind::Outside) {
                    return Ok(Some(item));
                }
                self.add(&mut inner, item)?;
            } else {
                inner.missing -= 1;
                let start = self.position();
                let tag = self.byte()?;
                if tag == tags::LIST_EXT && inner.missing == 0 && matches!(inner.kind, Kind::List) {
                    inner.missing = self.count()? + 1; // the tail continues the list
                } else if let Some(next) = self.open(tag)? {
                    open.push(std::mem::replace(&mut inner, next));
                } else {
                    let item = self.leaf(tag)?;
                    if matches!(inner.kind, Kind::Outside) {
                        return Ok(Some(item));
                    }
                    if tag == tags::STRING_EXT {
                        left = left.saturating_sub((self.position() - start) / STRING_BYTES_OF_STEP);
                    }
                    self.add(&mut inner, item)?;
                }
            }
            left = left.saturating_sub(1);
            if left == 0 {
                open.push(inner);
                return Ok(None);
            }
        }
    }

    /// Add a finished term to the container around it.
    #[inline]
    fn add(&mut self, around: &mut Open, item: Bound<'py, PyAny>) -> Result<(), GiveUp> {
        match &mut around.kind {
            Kind::Map(_, pairs) if around.missing & 1 == 0 => {
                let key = self.stack.pop().ok_or(GiveUp)?;
                self.add_pair(pairs, key, item)
            }
            _ => {
                self.stack.push(item);
                Ok(())
            }
        }
    }

    /// Read the head of a container after its tag. None if it is another term.
    fn open(&mut self, tag: u8) -> Result<Option<Open>, GiveUp> {
        let (kind, missing) = match tag {
            tags::SMALL_TUPLE_EXT => (Kind::Tuple, usize::from(self.byte()?)),
            tags::LARGE_TUPLE_EXT => (Kind::Tuple, self.count()?),
            tags::LIST_EXT => (Kind::List, self.count()? + 1),
            tags::MAP_EXT => {
                let count = self.count()?;
                return Open::map(self.py, count, &self.stack).map(Some);
            }
            tags::NEW_FUN_EXT => return self.open_fun().map(Some),
            _ => return Ok(None),
        };
        Ok(Some(Open::new(kind, missing, &self.stack)))
    }

    /// Read a fun after its tag, all but its free variables.
    pub fn open_fun(&mut self) -> Result<Open, GiveUp> {
        self.u32()?; // its size
        let (arity, uniq, index) = (self.byte()?, self.array()?, self.u32()?);
        let free = self.u32()? as usize;
        let module = self.node()?.unbind();
        let (old_index, old_uniq) = (self.short_integer()?, self.short_integer()?);
        let head = FunHead {
            arity,
            uniq,
            index,
            module,
            old_index,
            old_uniq,
            pid: self.any_pid()?.unbind(),
        };
        Ok(Open::new(Kind::Fun(Box::new(head)), free, &self.stack))
    }

    /// Make a container whose elements are all read.
    fn close(&mut self, done: Open) -> Result<Bound<'py, PyAny>, GiveUp> {
        match done.kind {
            Kind::Tuple => self.tuple_from(done.base),
            Kind::List => {
                let tail = self.stack.pop().ok_or(GiveUp)?;
                self.list_with_tail(done.base, tail)
            }
            Kind::Map(count, pairs) => self.map_of(pairs, count),
            Kind::Outside => Err(GiveUp),
            Kind::Fun(head) => {
                let free = self.tuple_from(done.base)?;
                self.fun(&head, free)
            }
        }
    }
}
