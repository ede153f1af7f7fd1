//! What the event loop, the thread and a Python thread share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::decisions::{LoopWatchdog, SocketLooks};
use super::epmd::Epmd;
use super::health::Health;
use super::link::LinkState;
use super::pipe::Bell;
use crate::send_queue::lock;

/// The sockets. The thread holds the lock while it copies the list of links, and while it serves the other sockets.
#[derive(Default)]
pub struct Registry {
    pub links: BTreeMap<u64, Arc<LinkState>>,
    pub epmd: Epmd,
    pub health: Health,
}

/// The lock is held while the thread samples and writes, and while the loop responds. So peers always receive the report
/// of the block before that of the recovery.
pub struct Decisions {
    pub watchdog: LoopWatchdog,
    pub looks: SocketLooks,
    /// Counts the requests for an acknowledgement, and so identifies a block.
    pub block: u64,
    /// The loop has been blocked long enough to tell the peers.
    pub notifying: bool,
}

/// What a Python thread has to do.
#[derive(Default)]
pub struct Report {
    /// The loop has not answered within a sample interval. It may be closed.
    pub unanswered: bool,
    /// For how long the loop has been blocked, if that is to be reported, and when this was found.
    pub blocked: Option<(f64, f64)>,
    /// When the Python thread was told that there is a report.
    pub since: Option<f64>,
    /// Connections from which nothing more is read because of a limit.
    pub full: Vec<u64>,
}

/// What exists while the thread runs.
pub struct Running {
    /// Wakes up the event loop.
    pub loop_bell: Bell,
    /// The loop bell was rung, and the loop has not come yet.
    pub loop_is_rung: AtomicBool,
    /// Wakes up the thread.
    pub thread_bell: Bell,
    /// Wakes up the Python thread.
    pub python_bell: Bell,
    pub is_stopping: AtomicBool,
}

impl Running {
    pub fn ring_loop(&self) {
        if !self.loop_is_rung.swap(true, Ordering::SeqCst) {
            self.loop_bell.ring();
        }
    }

    /// The loop has come. From now on, a ring wakes it up again.
    pub fn answer_loop_bell(&self) {
        // First the pipe: a ring after the second line would otherwise be lost.
        self.loop_bell.drain();
        self.loop_is_rung.store(false, Ordering::SeqCst);
    }
}

pub struct Shared {
    pub registry: Mutex<Registry>,
    pub decisions: Mutex<Decisions>,
    /// The links at which the event loop has to look.
    pub attention: Mutex<Vec<Arc<LinkState>>>,
    pub report: Mutex<Report>,
    pub running: Mutex<Option<Arc<Running>>>,
    /// The thread of the event loop, by the number that the system gives to it.
    pub loop_thread: AtomicI32,
    /// The thread may hold locks, or a fork is under way.
    turn: AtomicBool,
}

impl Shared {
    pub fn new(report_after: f64) -> Shared {
        Shared {
            registry: Mutex::default(),
            decisions: Mutex::new(Decisions {
                watchdog: LoopWatchdog::new(report_after),
                looks: SocketLooks::new(),
                block: 0,
                notifying: false,
            }),
            attention: Mutex::default(),
            report: Mutex::default(),
            running: Mutex::default(),
            loop_thread: AtomicI32::new(0),
            turn: AtomicBool::new(false),
        }
    }

    /// The thread takes a lock only between these two calls, and a fork happens only between them. So no lock is held
    /// by the thread in the child, where the thread does not exist. The loop waits for a lock that the thread holds, but
    /// not in a fork.
    pub fn begin_turn(&self) {
        while self.turn.swap(true, Ordering::Acquire) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    pub fn end_turn(&self) {
        self.turn.store(false, Ordering::Release);
    }

    /// The thread has ended.
    pub fn reset(&self) {
        let mut decisions = lock(&self.decisions);
        decisions.watchdog.acknowledge(0.0);
        decisions.looks = SocketLooks::new();
        decisions.notifying = false;
        drop(decisions);
        *lock(&self.report) = Report::default();
        for link in std::mem::take(&mut *lock(&self.attention)) {
            link.has_attention.store(false, Ordering::SeqCst);
        }
    }

    pub fn running(&self) -> Option<Arc<Running>> {
        lock(&self.running).clone()
    }

    /// Make the thread look at the registry again.
    pub fn ring_thread(&self) {
        if let Some(running) = self.running() {
            running.thread_bell.ring();
        }
    }

    /// Ask the event loop to look at a link.
    pub fn need_loop(&self, link: &Arc<LinkState>, running: &Running) {
        if !link.has_attention.swap(true, Ordering::SeqCst) {
            lock(&self.attention).push(Arc::clone(link));
            running.ring_loop();
        }
    }
}
