//! The thread that keeps connections alive while the event loop is blocked. It needs no GIL.
//!
//! What it uses is in `Arc`s, behind locks that are held for native code only. Nobody takes the GIL while it holds one
//! of them, and the thread never takes the GIL. What needs Python (the log, a stack) is a report, which a Python thread
//! takes. `erlmesh.net.native_watchdog` is that thread, and the part in the event loop.

mod control;
mod decisions;
mod epmd;
mod health;
mod link;
mod loop_probe;
mod pipe;
mod shared;
mod thread;

use pyo3::prelude::*;

pub use link::Link;

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<decisions::LoopWatchdog>()?;
    module.add_class::<decisions::SocketLooks>()?;
    module.add_class::<link::Link>()?;
    module.add_class::<control::Watchdog>()?;
    module.add_class::<epmd::EpmdAnswers>()?;
    module.add_function(wrap_pyfunction!(decisions::is_tick_due, module)?)?;
    module.add_function(wrap_pyfunction!(decisions::sample_interval, module)?)
}
