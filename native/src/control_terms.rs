//! The parts of a received control tuple. They give up on what the pure code must read.

use pyo3::prelude::*;

use crate::context::Context;
use crate::decode::{decode, GiveUp};
use crate::terms::{Pid, Ref};
use crate::wire_format::{SMALL_INTEGER, SMALL_TUPLE};

/// The other ops with a message: SEND, SEND_TT, REG_SEND_TT, SEND_SENDER_TT, PAYLOAD_EXIT, PAYLOAD_EXIT_TT,
/// PAYLOAD_EXIT2, PAYLOAD_EXIT2_TT, SPAWN_REQUEST, SPAWN_REQUEST_TT, ALIAS_SEND_TT, ALTACT_SIG_SEND.
const OTHERS_WITH_MESSAGE: [u8; 12] = [2, 12, 16, 23, 24, 25, 26, 27, 29, 30, 34, 37];

type Term = Py<PyAny>;

pub fn read_pid(py: Python<'_>, frame: &[u8], pos: &mut usize, atoms: &[Term]) -> Result<Term, GiveUp> {
    let term = decode(py, frame, pos, atoms)?;
    if term.cast_exact::<Pid>().is_ok() {
        Ok(term.unbind())
    } else {
        Err(GiveUp)
    }
}

pub fn read_ref(py: Python<'_>, frame: &[u8], pos: &mut usize, atoms: &[Term]) -> Result<Term, GiveUp> {
    let term = decode(py, frame, pos, atoms)?;
    if term.cast_exact::<Ref>().is_ok() {
        Ok(term.unbind())
    } else {
        Err(GiveUp)
    }
}

/// Read an atom. A name may be `true` or `false`, which the pure code handles.
pub fn read_name(py: Python<'_>, frame: &[u8], pos: &mut usize, atoms: &[Term]) -> Result<Term, GiveUp> {
    let term = decode(py, frame, pos, atoms)?;
    let context = Context::get(py).map_err(|_| GiveUp)?;
    if context.is_atom(&term) {
        Ok(term.unbind())
    } else {
        Err(GiveUp)
    }
}

pub fn read_pid_or_name(py: Python<'_>, frame: &[u8], pos: &mut usize, atoms: &[Term]) -> Result<Term, GiveUp> {
    let term = decode(py, frame, pos, atoms)?;
    let context = Context::get(py).map_err(|_| GiveUp)?;
    if term.cast_exact::<Pid>().is_ok() || context.is_atom(&term) {
        Ok(term.unbind())
    } else {
        Err(GiveUp)
    }
}

/// Decode the control tuple of another op, and its message if it has one.
pub fn read_other<'py>(
    py: Python<'py>,
    frame: &[u8],
    mut pos: usize,
    atoms: &[Term],
) -> Result<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>), GiveUp> {
    let Some(&[SMALL_TUPLE, 1..=255, SMALL_INTEGER, op]) = frame.get(pos..pos + 4) else {
        return Err(GiveUp);
    };
    let control = decode(py, frame, &mut pos, atoms)?;
    let message = if OTHERS_WITH_MESSAGE.contains(&op) {
        Some(decode(py, frame, &mut pos, atoms)?)
    } else {
        None
    };
    Ok((control, message))
}
