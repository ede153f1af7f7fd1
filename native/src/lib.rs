//! The native part of erlmesh: identifiers, the codec of the external term format, keys of terms, and the wire of a
//! connection with its common signals; mailboxes, and the waits of tasks; and the watchdog thread.
//!
//! The pure Python code in `erlmesh` is the reference. What this crate does not handle, or finds invalid, it gives to
//! the pure code with the same arguments. So this crate has no error texts of its own.
//!
//! The crate imports the term classes from `erlmesh.terms` by name when they are first needed.

mod atom_cache;
mod buffer;
mod common_signals;
mod context;
mod control_terms;
mod decode;
mod decode_deep;
mod decode_rare;
mod digest;
mod direct_delivery;
mod doors;
mod element_count;
mod encode;
mod encode_deep;
mod encode_leaves;
mod encode_rare;
mod ffi_tools;
mod fragments;
mod frame_reader;
mod frame_writer;
mod frames;
mod group_messages;
mod integer_lists;
mod mailbox;
mod prefix_cache;
mod pure;
mod pure_refs;
mod read_ahead;
#[cfg(target_os = "linux")]
mod read_timer;
mod read_turn;
mod recv_buffer;
mod reply_to;
mod send_queue;
mod signals;
mod spawn_signals;
mod special_messages;
mod tags;
mod term_reader;
mod term_stack;
mod terms;
mod wait;
mod wakeups;
mod watchdog;
mod wire;
mod wire_format;
mod written_atoms;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn erlmesh_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<terms::Pid>()?;
    module.add_class::<terms::Ref>()?;
    module.add_class::<terms::ImproperList>()?;
    term_reader::add_to(module)?;
    signals::add_to(module)?;
    module.add_class::<wire::Wire>()?;
    module.add_class::<wakeups::Wakeups>()?;
    module.add_class::<wait::Wait>()?;
    module.add_class::<mailbox::Mailbox>()?;
    module.add_class::<direct_delivery::DirectDelivery>()?;
    reply_to::add_to(module)?;
    module.add_class::<read_turn::ReadTurn>()?;
    group_messages::add_to(module)?;
    module.add_class::<read_ahead::ReceiveBudget>()?;
    watchdog::add_to(module)?;
    #[cfg(target_os = "linux")]
    module.add_class::<read_timer::ReadTimer>()?;
    doors::add_to(module)
}
