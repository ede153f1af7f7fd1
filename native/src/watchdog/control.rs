//! The watchdog of one event loop, for Python.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::epmd::{self, EpmdAnswers};
use super::health;
use super::link::Link;
use super::loop_probe::current_thread;
use super::pipe::{duplicate, replace_with_null, set_nonblocking, Bell};
use super::shared::{Running, Shared};
use super::thread::run;
use crate::send_queue::lock;
use crate::wire::monotonic;

/// The sockets of one event loop, and the thread that serves them while the loop is blocked.
///
/// The methods are for the thread of the event loop, unless they say something else.
#[pyclass(frozen, module = "erlmesh_native")]
pub struct Watchdog {
    shared: Arc<Shared>,
    /// The thread, and the process that has started it.
    thread: Mutex<Option<(JoinHandle<()>, u32)>>,
}

#[pymethods]
impl Watchdog {
    /// A block is reported after `report_after` seconds.
    #[new]
    fn new(report_after: f64) -> Watchdog {
        Watchdog {
            shared: Arc::new(Shared::new(report_after)),
            thread: Mutex::new(None),
        }
    }

    // The sockets

    fn add_link(&self, link: &Link) {
        lock(&self.shared.registry)
            .links
            .insert(link.state.id, Arc::clone(&link.state));
        self.shared.ring_thread();
    }

    fn remove_link(&self, link: &Link) {
        lock(&self.shared.registry).links.remove(&link.state.id);
    }

    /// The thread must look at the state of a link again.
    fn link_changed(&self) {
        self.shared.ring_thread();
    }

    /// Send nothing for `node` any more.
    fn forget_node(&self, node: u64) {
        for link in lock(&self.shared.registry).links.values() {
            link.forget_node(node);
        }
    }

    /// Answer at the listening socket of the EPMD `server` while the loop is blocked. Raises `OSError`.
    fn add_epmd(&self, server: u64, fd: RawFd, answers: &EpmdAnswers) -> PyResult<()> {
        let socket = duplicate(fd)?;
        let listener = epmd::Listener {
            server,
            socket,
            answers: answers.clone(),
        };
        lock(&self.shared.registry).epmd.listeners.push(Arc::new(listener));
        self.shared.ring_thread();
        Ok(())
    }

    /// Accept the clients of the health server `server`. Raises `OSError`.
    fn add_health(&self, server: u64, fd: RawFd) -> PyResult<()> {
        let socket = duplicate(fd)?;
        set_nonblocking(fd);
        let listener = health::Listener { server, socket };
        lock(&self.shared.registry).health.listeners.push(Arc::new(listener));
        self.shared.ring_thread();
        Ok(())
    }

    /// Remove the listening sockets of an EPMD or of a health server, and close the connections that wait for it.
    fn remove_server(&self, server: u64) {
        let mut registry = lock(&self.shared.registry);
        registry.epmd.remove_server(server);
        registry.health.remove_server(server);
        drop(registry);
        self.shared.ring_thread();
    }

    // The thread

    /// Start the thread. Return two descriptors: one becomes readable when the loop has to call `acknowledge`, the other
    /// one when a Python thread has to call `take_report`. Raises `OSError`.
    fn start(&self) -> PyResult<(RawFd, RawFd)> {
        let running = Arc::new(Running {
            loop_bell: Bell::new()?,
            loop_is_rung: AtomicBool::new(false),
            thread_bell: Bell::new()?,
            python_bell: Bell::new()?,
            is_stopping: AtomicBool::new(false),
        });
        let descriptors = (running.loop_bell.fd(), running.python_bell.fd());
        self.shared.loop_thread.store(current_thread(), Ordering::Relaxed);
        let (shared, for_thread) = (Arc::clone(&self.shared), Arc::clone(&running));
        let thread = std::thread::Builder::new()
            .name("erlmesh".into())
            .stack_size(256 * 1024)
            .spawn(move || run(shared, for_thread))
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        *lock(&self.shared.running) = Some(running);
        *lock(&self.thread) = Some((thread, std::process::id()));
        Ok(descriptors)
    }

    /// End the thread, and wait until it has ended. Any thread may call this. In a forked child there is no thread.
    fn stop(&self) {
        let Some((thread, process)) = lock(&self.thread).take() else {
            return;
        };
        if let Some(running) = lock(&self.shared.running).take() {
            running.is_stopping.store(true, Ordering::SeqCst);
            running.thread_bell.ring();
        }
        if process == std::process::id() {
            let _ = thread.join(); // if it has panicked, there is nothing to do either
        }
        self.shared.reset();
    }

    /// Keep the thread from holding a lock, because this process forks. Call `end_fork` in both processes. Any thread
    /// may call this.
    fn begin_fork(&self) {
        self.shared.begin_turn();
    }

    fn end_fork(&self, in_child: bool) {
        self.shared.end_turn();
        if in_child {
            let registry = lock(&self.shared.registry);
            let mut descriptors: Vec<RawFd> = registry.links.values().map(|link| link.fd()).collect();
            descriptors.extend(registry.epmd.descriptors());
            descriptors.extend(registry.health.descriptors());
            if let Some(running) = self.shared.running() {
                for bell in [&running.loop_bell, &running.thread_bell, &running.python_bell] {
                    descriptors.extend(bell.fds());
                }
            }
            replace_with_null(&descriptors);
        }
    }

    // The event loop

    /// The loop runs again. Return for how many seconds it was blocked if that was reported, else 0.
    fn acknowledge(&self) -> f64 {
        if let Some(running) = self.shared.running() {
            running.answer_loop_bell();
        }
        self.shared.loop_thread.store(current_thread(), Ordering::Relaxed);
        let mut decisions = lock(&self.shared.decisions);
        decisions.notifying = false;
        decisions.looks.loop_responded();
        decisions.watchdog.acknowledge(monotonic())
    }

    /// Return the identifiers of the links at which the loop has to look. Call this after `acknowledge`.
    fn take_attention(&self) -> Vec<u64> {
        let links = std::mem::take(&mut *lock(&self.shared.attention));
        links
            .into_iter()
            .map(|link| {
                link.has_attention.store(false, Ordering::SeqCst);
                link.id
            })
            .collect()
    }

    /// Return the connections to EPMDs that the thread has accepted and not answered: the server, the descriptor, which
    /// now belongs to the caller, and the received data. With `only_handed_over`, return only those that need Python.
    /// Any thread may call this.
    fn take_epmd_clients(&self, only_handed_over: bool) -> Vec<(u64, RawFd, Vec<u8>)> {
        let mut registry = lock(&self.shared.registry);
        match only_handed_over {
            true => registry.epmd.take_handed_over(),
            false => registry.epmd.take_all(),
        }
    }

    /// Connections to EPMDs that the thread has accepted and not answered.
    #[getter]
    fn waiting_epmd_clients(&self) -> usize {
        lock(&self.shared.registry).epmd.waiting()
    }

    /// Return the clients of health servers: the server, the descriptor, which now belongs to the caller, and when the
    /// client connected. With `only_late`, return only those that the loop has not answered in time, and since when it
    /// has not responded. Any thread may call this.
    fn take_health_clients(&self, only_late: bool) -> Vec<(u64, RawFd, f64)> {
        lock(&self.shared.registry).health.take(only_late)
    }

    // Any thread

    /// Return for how many seconds the loop has been blocked, as far as is known; 0 if it is responsive.
    fn blocked_for(&self) -> f64 {
        lock(&self.shared.decisions).watchdog.blocked_for(monotonic())
    }

    /// Return what a Python thread has to do: whether the loop may be closed; for how long it has been blocked if that is
    /// to be reported (else 0); since when this report waits; and the links from which nothing more is read.
    ///
    /// This never releases the GIL, so that the event loop is where it was.
    fn take_report(&self) -> (bool, f64, f64, Vec<u64>) {
        if let Some(running) = self.shared.running() {
            running.python_bell.drain();
        }
        let report = std::mem::take(&mut *lock(&self.shared.report));
        let (blocked_for, found_at) = report.blocked.unwrap_or_default();
        let blocked_by_now = if blocked_for > 0.0 {
            blocked_for + monotonic() - found_at
        } else {
            0.0
        };
        (
            report.unanswered,
            blocked_by_now,
            report.since.unwrap_or_default(),
            report.full,
        )
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop();
    }
}
