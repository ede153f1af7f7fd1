//! The signals that the writer encodes itself, in one form.

use pyo3::prelude::*;

use crate::context::Context;
use crate::prefix_cache::{Identity, Key, Kind};
use crate::signals::{DemonitorSignal, DownSignal, MonitorSignal, SendAliasSignal, SendNameSignal, SendSignal};
use crate::terms::Ref;
use crate::wire_format::{
    ALIAS_SEND, DEMONITOR_P, DOWN, FLAG_ALIAS, FLAG_EXIT_PAYLOAD, FLAG_SEND_SENDER, MONITOR_P, REG_SEND, SEND,
    SEND_SENDER,
};

/// Words of the references whose prefixes are cached.
pub const CACHED_WORDS: u32 = 3;

/// A signal that the writer encodes itself.
pub struct Common<'a, 'py> {
    pub op: u8,
    /// The elements of the control tuple before the reference, in order. `None` is the unused element.
    pub elements: [Option<&'a Bound<'py, PyAny>>; 3],
    pub count: usize,
    pub reference: Option<&'a Bound<'py, Ref>>,
    pub message: Option<&'a Bound<'py, PyAny>>,
    pub key: Key,
    pub owners: [Option<&'a Bound<'py, PyAny>>; 3],
}

/// Return the parts of a signal; None if the pure code must encode it.
///
/// `bits` are the flags of the connection.
#[inline]
pub fn common_signal<'a, 'py>(signal: &'a Bound<'py, PyAny>, bits: u64) -> PyResult<Option<Common<'a, 'py>>> {
    let py = signal.py();
    if let Ok(each) = signal.cast_exact::<SendSignal>() {
        let SendSignal {
            sender,
            to,
            message,
            token,
        } = each.get();
        if token.is_none(py) {
            return send_to_pid(bits, sender.bind(py), to.bind(py), message.bind(py));
        }
    } else if let Ok(each) = signal.cast_exact::<SendNameSignal>() {
        let SendNameSignal {
            sender,
            name,
            message,
            token,
        } = each.get();
        if token.is_none(py) {
            return send_to_name(sender.bind(py), name.bind(py), message.bind(py));
        }
    } else if let Ok(each) = signal.cast_exact::<SendAliasSignal>() {
        let SendAliasSignal {
            sender,
            alias,
            message,
            token,
        } = each.get();
        if token.is_none(py) && bits & FLAG_ALIAS != 0 {
            return send_to_alias(sender.bind(py), alias.bind(py), message.bind(py));
        }
    } else if let Ok(each) = signal.cast_exact::<MonitorSignal>() {
        let MonitorSignal { sender, target, r#ref } = each.get();
        return with_reference(
            Kind::Monitor,
            MONITOR_P,
            (sender.bind(py), target.bind(py), r#ref.bind(py)),
            None,
        );
    } else if let Ok(each) = signal.cast_exact::<DemonitorSignal>() {
        let DemonitorSignal { sender, target, r#ref } = each.get();
        return with_reference(
            Kind::Demonitor,
            DEMONITOR_P,
            (sender.bind(py), target.bind(py), r#ref.bind(py)),
            None,
        );
    } else if let Ok(each) = signal.cast_exact::<DownSignal>() {
        if bits & FLAG_EXIT_PAYLOAD != 0 {
            let DownSignal {
                source,
                to,
                r#ref,
                reason,
            } = each.get();
            let parts = (source.bind(py), to.bind(py), r#ref.bind(py));
            return with_reference(Kind::Down, DOWN, parts, Some(reason.bind(py)));
        }
    }
    Ok(None)
}

/// Return the parts of a message to a pid.
#[inline]
pub fn send_to_pid<'a, 'py>(
    bits: u64,
    sender: &'a Bound<'py, PyAny>,
    to: &'a Bound<'py, PyAny>,
    message: &'a Bound<'py, PyAny>,
) -> PyResult<Option<Common<'a, 'py>>> {
    let context = Context::get(sender.py())?;
    let first = match sender.is_none() {
        true => Identity::Nothing,
        false => match Identity::of(context, sender) {
            Some(identity @ Identity::Pid(..)) => identity,
            _ => return Ok(None),
        },
    };
    let Some(second @ Identity::Pid(..)) = Identity::of(context, to) else {
        return Ok(None);
    };
    let has_sender = first != Identity::Nothing && bits & FLAG_SEND_SENDER != 0;
    Ok(Some(Common {
        op: if has_sender { SEND_SENDER } else { SEND },
        elements: [has_sender.then_some(sender), Some(to), None],
        count: 2,
        reference: None,
        message: Some(message),
        key: Key::new(Kind::Send, first, second, None),
        owners: [Some(sender), Some(to), None],
    }))
}

fn send_to_name<'a, 'py>(
    sender: &'a Bound<'py, PyAny>,
    name: &'a Bound<'py, PyAny>,
    message: &'a Bound<'py, PyAny>,
) -> PyResult<Option<Common<'a, 'py>>> {
    let context = Context::get(sender.py())?;
    let Some(first @ Identity::Pid(..)) = Identity::of(context, sender) else {
        return Ok(None);
    };
    let Some(second @ Identity::Atom(_)) = Identity::of(context, name) else {
        return Ok(None);
    };
    Ok(Some(Common {
        op: REG_SEND,
        elements: [Some(sender), None, Some(name)],
        count: 3,
        reference: None,
        message: Some(message),
        key: Key::new(Kind::Send, first, second, None),
        owners: [Some(sender), Some(name), None],
    }))
}

fn send_to_alias<'a, 'py>(
    sender: &'a Bound<'py, PyAny>,
    alias: &'a Bound<'py, PyAny>,
    message: &'a Bound<'py, PyAny>,
) -> PyResult<Option<Common<'a, 'py>>> {
    let context = Context::get(sender.py())?;
    let Some(first @ Identity::Pid(..)) = Identity::of(context, sender) else {
        return Ok(None);
    };
    let Some(reference) = cached_reference(alias) else {
        return Ok(None);
    };
    Ok(Some(Common {
        op: ALIAS_SEND,
        elements: [Some(sender), None, None],
        count: 1,
        reference: Some(reference),
        message: Some(message),
        key: Key::new(Kind::Alias, first, Identity::Nothing, Some(reference.get())),
        owners: [Some(sender), Some(alias), None],
    }))
}

/// A control tuple of two pids or names and a reference.
fn with_reference<'a, 'py>(
    kind: Kind,
    op: u8,
    (first, second, reference): (&'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>),
    message: Option<&'a Bound<'py, PyAny>>,
) -> PyResult<Option<Common<'a, 'py>>> {
    let context = Context::get(first.py())?;
    let identities = (Identity::of(context, first), Identity::of(context, second));
    let ((Some(first_identity), Some(second_identity)), Some(owner)) = (identities, cached_reference(reference)) else {
        return Ok(None);
    };
    Ok(Some(Common {
        op,
        elements: [Some(first), Some(second), None],
        count: 2,
        reference: Some(owner),
        message,
        key: Key::new(kind, first_identity, second_identity, Some(owner.get())),
        owners: [Some(first), Some(second), Some(reference)],
    }))
}

/// Return the reference if it has as many words as those whose prefixes are cached.
fn cached_reference<'a, 'py>(term: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Ref>> {
    let reference = term.cast_exact::<Ref>().ok()?;
    (reference.get().count == CACHED_WORDS).then_some(reference)
}
