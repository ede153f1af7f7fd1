//! The digest of a term that contains terms, as `_digest` in `erlmesh.terms.maps` computes it. It is a loop, because a
//! term may be deep.

use std::io::Write;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};
use pyo3::{ffi, intern};

use crate::context::Context;
use crate::ffi_tools::{clear_error, is_exact};
use crate::terms::{ImproperList, Pid, Ref};

/// Bytes of a digest without its mark.
const SIZE: usize = 24;

/// The digest of `term`. None if the pure code must compute it, or raise an error: for a value that is no term, for one
/// that contains itself, and for subclasses, dicts and buffers.
pub fn digest<'py>(context: &Context, term: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let py = term.py();
    let mut parts = Vec::new();
    let mut inner = Level::open(context, term, &parts)?;
    let mut outer: Vec<Level<'py>> = Vec::new();
    loop {
        let Some(child) = inner.next(&parts) else {
            let found = inner.finish(py, context, &mut parts)?;
            match outer.pop() {
                None => return Some(PyBytes::new(py, &found)),
                Some(next) => inner = next,
            }
            parts.extend_from_slice(&found);
            continue;
        };
        if write_leaf(context, &child, &mut parts).is_some() {
            continue;
        }
        let next = Level::open(context, &child, &parts)?;
        outer.push(std::mem::replace(&mut inner, next));
        if contains_itself(&outer, &child) {
            return None;
        }
    }
}

/// Whether `term`, which is inside of `outer`, is the same object as one of these. It is found sooner or later: only the
/// last level whose number is a power of two is compared. A chain of levels without end repeats itself.
#[inline]
fn contains_itself(outer: &[Level<'_>], term: &Bound<'_, PyAny>) -> bool {
    let power = 1 << outer.len().ilog2();
    outer.get(power - 1).is_some_and(|level| level.term.is(term))
}

/// A term whose parts are written one after the other, the last one first.
struct Level<'py> {
    term: Bound<'py, PyAny>,
    children: Children<'py>,
    /// Children that are not written yet.
    missing: usize,
    /// The offset of the first part.
    start: usize,
}

enum Children<'py> {
    Tuple(Bound<'py, PyTuple>),
    List(Bound<'py, PyList>),
    /// The elements and the tail.
    Improper(Bound<'py, PyTuple>, Bound<'py, PyAny>),
    /// The module, the index, the old uniq, and the free variables.
    Fun([Bound<'py, PyAny>; 3], Bound<'py, PyTuple>),
    /// The exact keys and the values, and the offset of each pair.
    Map(Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>, Vec<usize>),
}

impl<'py> Level<'py> {
    fn open(context: &Context, term: &Bound<'py, PyAny>, parts: &[u8]) -> Option<Self> {
        let types = &context.types;
        let (children, missing) = if let Ok(tuple) = term.cast_exact::<PyTuple>() {
            (Children::Tuple(tuple.clone()), tuple.len())
        } else if let Ok(list) = term.cast_exact::<PyList>() {
            (Children::List(list.clone()), list.len())
        } else if is_exact(term, types.map) {
            let values = context.map_values.get(term)?.cast_into_exact::<PyDict>().ok()?;
            let pairs: Vec<_> = values.iter().collect();
            let count = pairs.len();
            (Children::Map(pairs, Vec::with_capacity(count)), count)
        } else if let Ok(list) = term.cast_exact::<ImproperList>() {
            let list = list.get();
            let elements = list.elements.bind(term.py()).clone();
            let count = elements.len() + 1;
            (Children::Improper(elements, list.tail.bind(term.py()).clone()), count)
        } else if is_exact(term, types.fun) {
            let py = term.py();
            let part = |name: &Bound<'py, PyString>| term.getattr(name).ok();
            let free = part(intern!(py, "free"))?.cast_into_exact::<PyTuple>().ok()?;
            let count = free.len() + 3;
            (
                Children::Fun(
                    [
                        part(intern!(py, "module"))?,
                        part(intern!(py, "index"))?,
                        part(intern!(py, "old_uniq"))?,
                    ],
                    free,
                ),
                count,
            )
        } else {
            return None;
        };
        Some(Level {
            term: term.clone(),
            children,
            missing,
            start: parts.len(),
        })
    }

    /// The next child. `parts` is where its part will be.
    #[inline]
    fn next(&mut self, parts: &[u8]) -> Option<Bound<'py, PyAny>> {
        self.missing = self.missing.checked_sub(1)?;
        let index = self.missing;
        match &mut self.children {
            Children::Tuple(tuple) => tuple.get_item(index).ok(),
            Children::List(list) => list.get_item(index).ok(),
            Children::Improper(elements, tail) => match index == elements.len() {
                true => Some(tail.clone()),
                false => elements.get_item(index).ok(),
            },
            Children::Fun(head, free) => match head.get(index) {
                Some(part) => Some(part.clone()),
                None => free.get_item(index - head.len()).ok(),
            },
            Children::Map(pairs, offsets) => {
                offsets.push(parts.len());
                pairs.get(index).map(|(_, value)| value.clone())
            }
        }
    }

    /// Take the parts of all children away, and return the digest of the term.
    fn finish(self, py: Python<'py>, context: &Context, parts: &mut Vec<u8>) -> Option<[u8; SIZE + 1]> {
        let start = self.start;
        let found = match &self.children {
            Children::Tuple(tuple) => hashed(b't', tuple.len(), &[parts.get(start..)?]),
            Children::List(list) => hashed(b'l', list.len(), &[parts.get(start..)?]),
            Children::Improper(elements, _) => hashed(b'i', elements.len() + 1, &[parts.get(start..)?]),
            Children::Fun(head, free) => hashed(b'f', head.len() + free.len(), &[parts.get(start..)?]),
            Children::Map(pairs, offsets) => {
                let mut written = Vec::with_capacity(pairs.len());
                let ends = offsets.iter().skip(1).copied().chain([parts.len()]);
                for (((key, _), &from), to) in pairs.iter().rev().zip(offsets).zip(ends) {
                    let mut pair = parts.get(from..to)?.to_vec();
                    write_key(context, key, &mut pair)?;
                    written.push(pair);
                }
                written.sort_unstable(); // a map has no order
                let pairs: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
                let found = hashed(b'm', pairs.len(), &pairs);
                let bytes = PyBytes::new(py, &found);
                if !context.map_digest.set(&self.term, bytes.as_any()) {
                    clear_error(py);
                    return None;
                }
                found
            }
        };
        parts.truncate(start);
        Some(found)
    }
}

fn hashed(mark: u8, count: usize, parts: &[&[u8]]) -> [u8; SIZE + 1] {
    let mut head = Vec::with_capacity(24);
    head.push(mark);
    let _ = write!(head, "{count}:");
    let mut state = blake2b_simd::Params::new().hash_length(SIZE).to_state();
    state.update(&head);
    for part in parts {
        state.update(part);
    }
    let mut found = [b'D'; SIZE + 1];
    found[1..].copy_from_slice(&state.finalize().as_bytes()[..SIZE]);
    found
}

/// Write the bytes of an exact key: `_key_bytes` in `erlmesh.terms.maps`.
fn write_key(context: &Context, key: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    let Ok(tuple) = key.cast_exact::<PyTuple>() else {
        return write_flat_key(context, key, out);
    };
    match tuple.get_item(0) {
        Ok(mark) if mark.is(&context.digest_mark) => {
            out.extend_from_slice(tuple.get_item(1).ok()?.cast_exact::<PyBytes>().ok()?.as_bytes());
        }
        Ok(mark) if mark.is(&context.float_mark) => write_flat_key(context, key, out)?,
        _ => {
            let mut parts = Vec::new();
            for index in (0..tuple.len()).rev() {
                write_flat_key(context, &tuple.get_item(index).ok()?, &mut parts)?;
            }
            out.extend_from_slice(&hashed(b't', tuple.len(), &[&parts]));
        }
    }
    Some(())
}

/// Write the exact key of a term that contains no terms: the digits of an integer, a marked float, or the term itself.
fn write_flat_key(context: &Context, key: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    if let Ok(digits) = key.cast_exact::<PyString>() {
        write_digits(digits.to_str().ok()?, out);
        return Some(());
    }
    if let Ok(marked) = key.cast_exact::<PyTuple>() {
        out.push(b'F');
        out.extend_from_slice(marked.get_item(1).ok()?.cast_exact::<PyBytes>().ok()?.as_bytes());
        return Some(());
    }
    write_leaf(context, key, out)
}

/// Write the bytes of a term without parts, or of a map whose digest is known. None, with nothing written, for others.
fn write_leaf(context: &Context, term: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    let types = &context.types;
    // SAFETY: a bound object is a valid object.
    let kind = unsafe { ffi::Py_TYPE(term.as_ptr()) };
    if kind == &raw mut ffi::PyTuple_Type || kind == &raw mut ffi::PyList_Type {
        return None;
    } else if kind == types.atom {
        write_atom(context, term, out)?;
    } else if kind == &raw mut ffi::PyLong_Type {
        write_integer(term, out)?;
    } else if let Ok(data) = term.cast_exact::<PyBytes>() {
        write_sized(b'b', data.as_bytes(), out);
    } else if let Ok(text) = term.cast_exact::<PyString>() {
        write_sized(b'b', text.to_str().ok()?.as_bytes(), out);
    } else if let Ok(truth) = term.cast_exact::<PyBool>() {
        write_sized(b'a', if truth.is_true() { b"true" } else { b"false" }, out);
    } else if let Ok(number) = term.cast_exact::<PyFloat>() {
        out.push(b'F');
        out.extend_from_slice(&number.value().to_be_bytes());
    } else if kind == types.map {
        let known = context.map_digest.get(term)?;
        out.extend_from_slice(known.cast_exact::<PyBytes>().ok()?.as_bytes());
    } else {
        let mut written = Vec::new(); // so that nothing is written if a part is wrong
        write_identifier(context, term, &mut written)?;
        out.extend_from_slice(&written);
    }
    Some(())
}

fn write_identifier<'py>(context: &Context, term: &Bound<'py, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    let (py, types) = (term.py(), &context.types);
    let part = |name: &Bound<'py, PyString>| term.getattr(name).ok();
    let number = |name: &Bound<'py, PyString>| part(name)?.extract::<u64>().ok();
    if let Ok(pid) = term.cast_exact::<Pid>() {
        let pid = pid.get();
        write!(out, "p{:x},{:x},{:x};", pid.id, pid.serial, pid.creation).ok()?;
        write_atom(context, pid.node.bind(py), out)
    } else if let Ok(reference) = term.cast_exact::<Ref>() {
        let reference = reference.get();
        write!(out, "r{:x},{}:", reference.creation, reference.word_slice().len()).ok()?;
        for word in reference.word_slice() {
            write!(out, "{word:x},").ok()?;
        }
        write_atom(context, reference.node.bind(py), out)
    } else if is_exact(term, types.port) {
        write!(
            out,
            "o{:x},{:x};",
            number(intern!(py, "id"))?,
            number(intern!(py, "creation"))?
        )
        .ok()?;
        write_atom(context, &part(intern!(py, "node"))?, out)
    } else if is_exact(term, types.export) {
        write!(out, "e{:x};", number(intern!(py, "arity"))?).ok()?;
        write_atom(context, &part(intern!(py, "module"))?, out)?;
        write_atom(context, &part(intern!(py, "function"))?, out)
    } else if is_exact(term, types.bit_string) {
        let data = part(intern!(py, "data"))?.cast_into_exact::<PyBytes>().ok()?;
        write!(out, "B{},{}:", data.as_bytes().len(), number(intern!(py, "bits"))?).ok()?;
        out.extend_from_slice(data.as_bytes());
        Some(())
    } else {
        None
    }
}

fn write_atom(context: &Context, atom: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    let Some(name) = context.atom_name.get(atom) else {
        clear_error(atom.py());
        return None;
    };
    write_sized(b'a', name.cast_exact::<PyString>().ok()?.to_str().ok()?.as_bytes(), out);
    Some(())
}

fn write_sized(mark: u8, data: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    let _ = write!(out, "{}:", data.len());
    out.extend_from_slice(data);
}

fn write_integer(number: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    let mut overflow = 0;
    // SAFETY: it is an int. Too large an int sets `overflow` and no error.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &mut overflow) };
    if overflow == 0 {
        let sign = if value < 0 { "-" } else { "" };
        let _ = write!(out, "I{sign}{:#x};", value.unsigned_abs());
        return Some(());
    }
    // SAFETY: it is an int. The result is a new reference, or null without memory.
    let digits = unsafe { Bound::from_owned_ptr_or_opt(number.py(), ffi::PyNumber_ToBase(number.as_ptr(), 16)) };
    let Some(digits) = digits else {
        clear_error(number.py());
        return None;
    };
    write_digits(digits.cast_exact::<PyString>().ok()?.to_str().ok()?, out);
    Some(())
}

fn write_digits(digits: &str, out: &mut Vec<u8>) {
    out.push(b'I');
    out.extend_from_slice(digits.as_bytes());
    out.push(b';');
}
