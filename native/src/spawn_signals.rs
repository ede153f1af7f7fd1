//! Reads the signals with which a node starts a process on another one: SPAWN_REQUEST and SPAWN_REPLY.

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyTuple};
use pyo3::PyTypeInfo;

use crate::context::Context;
use crate::decode::{decode, GiveUp};
use crate::signals::{SpawnReplySignal, SpawnRequestSignal};
use crate::terms::{Pid, Ref};
use crate::wire_format::{SMALL_INTEGER, SMALL_TUPLE, SPAWN_REPLY, SPAWN_REQUEST};

/// Decode a control tuple that has one of these ops and no token, and its message.
///
/// It gives up on everything that `erlmesh.proto.decode_control` refuses. `peer` is the name of the sending node.
pub fn read_spawn_signal<'py>(
    frame: &[u8],
    mut pos: usize,
    atoms: &[Py<PyAny>],
    peer: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyAny>, GiveUp> {
    let py = peer.py();
    let Some(&[SMALL_TUPLE, arity, SMALL_INTEGER, op]) = frame.get(pos..pos + 4) else {
        return Err(GiveUp);
    };
    pos += 4;
    let mut next = || decode(py, frame, &mut pos, atoms);
    match (op, arity) {
        (SPAWN_REQUEST, 6) => {
            let r#ref = exact::<Ref>(next()?)?;
            let sender = next()?.cast_into_exact::<Pid>().map_err(|_| GiveUp)?;
            if sender.get().node.as_ptr() != peer.as_ptr() {
                return Err(GiveUp);
            }
            let group_leader = exact::<Pid>(next()?)?;
            let mfa = next()?.cast_into_exact::<PyTuple>().map_err(|_| GiveUp)?;
            if mfa.len() != 3 {
                return Err(GiveUp);
            }
            let item = |index| mfa.get_item(index).map_err(|_| GiveUp);
            let (module, function) = (name(item(0)?)?, name(item(1)?)?);
            let arity = exact::<PyInt>(item(2)?)?;
            let options = next()?.unbind();
            let arguments = exact::<PyList>(next()?)?;
            let signal = SpawnRequestSignal {
                r#ref,
                sender: sender.into_any().unbind(),
                group_leader,
                module,
                function,
                arity,
                options,
                arguments,
                token: py.None(),
            };
            Bound::new(py, signal).map(Bound::into_any).map_err(|_| GiveUp)
        }
        (SPAWN_REPLY, 5) => {
            let r#ref = exact::<Ref>(next()?)?;
            let to = exact::<Pid>(next()?)?;
            let flags = exact::<PyInt>(next()?)?;
            let result = next()?;
            let result = match result.cast_exact::<Pid>() {
                Ok(_) => result.unbind(),
                Err(_) => name(result)?,
            };
            let signal = SpawnReplySignal {
                r#ref,
                to,
                flags,
                result,
                token: py.None(),
            };
            Bound::new(py, signal).map(Bound::into_any).map_err(|_| GiveUp)
        }
        _ => Err(GiveUp),
    }
}

/// Return a term of exactly this type.
fn exact<T: PyTypeInfo>(term: Bound<'_, PyAny>) -> Result<Py<PyAny>, GiveUp> {
    match term.cast_exact::<T>() {
        Ok(_) => Ok(term.unbind()),
        Err(_) => Err(GiveUp),
    }
}

/// Return an atom. A name may be `true` or `false`, which the pure code handles.
fn name(term: Bound<'_, PyAny>) -> Result<Py<PyAny>, GiveUp> {
    let context = Context::get(term.py()).map_err(|_| GiveUp)?;
    match context.is_atom(&term) {
        true => Ok(term.unbind()),
        false => Err(GiveUp),
    }
}
