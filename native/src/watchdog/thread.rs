//! What the thread does. See `erlmesh.net.watchdog_thread`, which does the same with the GIL.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::decisions::{sample_interval, Sample, LOOK_INTERVAL, SAMPLE_INTERVAL};
use super::epmd;
use super::health;
use super::link::{LinkState, Served, READ_SIZE};
use super::loop_probe::LoopProbe;
use super::shared::{Running, Shared};
use crate::send_queue::lock;
use crate::wire::monotonic;

/// Seconds between two rounds of serving sockets, so that many short messages do not cost a round each.
const SERVE_PAUSE: f64 = 0.002;

enum Source {
    Bell,
    Link(Arc<LinkState>),
    EpmdListener(Arc<epmd::Listener>),
    EpmdClient,
    HealthListener(Arc<health::Listener>),
}

struct WatchdogThread {
    shared: Arc<Shared>,
    running: Arc<Running>,
    probe: LoopProbe,
    sampled_at: f64,
    /// Seconds between two samples: the shortest that a node needs.
    interval: f64,
    /// The number of the block of which the Python thread knows that the loop does not answer.
    unanswered: u64,
    /// How long to sleep before the next look, even if data arrives; 0 to wait for data.
    pause: f64,
    /// Memory for one read. It is there only while the thread serves sockets.
    scratch: Vec<u8>,
}

/// Run until `running.is_stopping`.
pub fn run(shared: Arc<Shared>, running: Arc<Running>) {
    block_signals();
    let mut thread = WatchdogThread {
        shared,
        running,
        probe: LoopProbe::default(),
        sampled_at: monotonic(),
        interval: SAMPLE_INTERVAL,
        unanswered: 0,
        pause: 0.0,
        scratch: Vec::new(),
    };
    while !thread.running.is_stopping.load(Ordering::SeqCst) {
        thread.step();
    }
}

impl WatchdogThread {
    /// Wait until it is time for a sample, or for a look at the sockets, and take it.
    fn step(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.begin_turn();
        let (mut polled, sources, wake_at) = self.sources();
        shared.end_turn();
        let mut timeout = (wake_at - monotonic()).max(0.0);
        if self.pause > 0.0 {
            let mut bell = [poll_for(self.running.thread_bell.fd())];
            poll(&mut bell, timeout.min(self.pause));
            timeout = 0.0;
        }
        poll(&mut polled, timeout);
        if self.running.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        shared.begin_turn();
        self.turn(polled.iter().map(|each| each.revents != 0), sources);
        shared.end_turn();
    }

    /// Return what to wait for, where it comes from, and when the wait ends.
    fn sources(&mut self) -> (Vec<libc::pollfd>, Vec<Source>, f64) {
        let mut polled = vec![poll_for(self.running.thread_bell.fd())];
        let mut sources = vec![Source::Bell];
        let registry = lock(&self.shared.registry);
        let mut interval = SAMPLE_INTERVAL;
        for link in registry.links.values() {
            if let Some(ticktime) = link.net_ticktime() {
                interval = interval.min(sample_interval(ticktime));
            }
            if link.is_watched.load(Ordering::Relaxed) {
                polled.push(poll_for(link.fd()));
                sources.push(Source::Link(Arc::clone(link)));
            }
        }
        // A listening socket stays readable while there is no room for its connections.
        for listener in registry.epmd.listeners.iter().filter(|_| registry.epmd.has_room()) {
            polled.push(poll_for(listener.socket.as_raw_fd()));
            sources.push(Source::EpmdListener(Arc::clone(listener)));
        }
        for fd in registry.epmd.client_fds() {
            polled.push(poll_for(fd));
            sources.push(Source::EpmdClient);
        }
        for listener in registry.health.listeners.iter().filter(|_| registry.health.has_room()) {
            polled.push(poll_for(listener.socket.as_raw_fd()));
            sources.push(Source::HealthListener(Arc::clone(listener)));
        }
        self.interval = interval;
        let wake_at = registry.health.next_deadline().min(self.sampled_at + interval);
        (polled, sources, wake_at)
    }

    /// `ready` says for each source whether it has data.
    fn turn(&mut self, ready: impl Iterator<Item = bool>, sources: Vec<Source>) {
        let now = monotonic();
        let mut links = Vec::new();
        let mut listeners = Vec::new();
        let mut has_clients = false;
        let mut with_data = Vec::new();
        let mut total_progress = 0u64;
        for (is_ready, source) in ready.zip(sources) {
            match source {
                Source::Bell if is_ready => self.running.thread_bell.drain(),
                Source::Bell => {}
                Source::Link(link) => {
                    total_progress = total_progress.wrapping_add(link.progress());
                    if is_ready {
                        with_data.push((link.id, link.progress()));
                        links.push(link);
                    }
                }
                Source::EpmdListener(listener) => {
                    total_progress = total_progress.wrapping_add(listener.progress());
                    if is_ready {
                        // Links have small numbers, so no number is used twice.
                        with_data.push((u64::MAX - listener.socket.as_raw_fd() as u64, listener.progress()));
                        listeners.push(listener);
                    }
                }
                Source::EpmdClient => has_clients |= is_ready,
                Source::HealthListener(listener) => {
                    if is_ready {
                        lock(&self.shared.registry).health.accept_all(&listener, now);
                        self.running.ring_loop();
                    }
                }
            }
        }
        let blocked_for = match now >= self.sampled_at + self.interval {
            true => self.sample(now),
            false => lock(&self.shared.decisions).watchdog.blocked_for(now),
        };
        self.look(now, with_data, total_progress, &links, &listeners);
        let mut registry = lock(&self.shared.registry);
        let mut needs_python = has_clients && registry.epmd.serve_all();
        needs_python |= registry.health.check(now, blocked_for);
        drop(registry);
        if needs_python {
            self.running.python_bell.ring();
        }
    }

    /// Take a sample. Return for how long the loop has been blocked.
    fn sample(&mut self, now: f64) -> f64 {
        self.sampled_at = now;
        let shared = Arc::clone(&self.shared);
        let links: Vec<_> = lock(&shared.registry).links.values().cloned().collect();
        // A loop that waits in its selector need not be woken up to prove that it is not blocked.
        let is_idle = !lock(&shared.decisions).watchdog.is_waiting() && self.is_loop_idle();
        let mut decisions = lock(&shared.decisions);
        let mut blocked_for = 0.0;
        if !is_idle {
            let sample = decisions.watchdog.sample(now);
            blocked_for = sample.blocked_for;
            if sample.request_ack {
                decisions.block += 1;
                decisions.notifying = false;
                self.running.ring_loop();
            }
            decisions.notifying |= sample.report;
            self.report(&sample, decisions.block, now);
        }
        let block = if decisions.notifying { decisions.block } else { 0 };
        for link in &links {
            if link.write_due(now, blocked_for, block) {
                shared.need_loop(link, &self.running);
            }
        }
        blocked_for
    }

    /// Tell the Python thread what it has to do.
    fn report(&mut self, sample: &Sample, block: u64, now: f64) {
        let is_unanswered = sample.blocked_for >= SAMPLE_INTERVAL && self.unanswered != block;
        if !is_unanswered && !sample.report {
            return;
        }
        self.unanswered = block;
        let mut report = lock(&self.shared.report);
        report.unanswered = true;
        if sample.report {
            report.blocked = Some((sample.blocked_for, now));
            report.since.get_or_insert(now);
        }
        drop(report);
        self.running.python_bell.ring();
    }

    fn is_loop_idle(&mut self) -> bool {
        let thread = self.shared.loop_thread.load(Ordering::Relaxed);
        self.probe.is_waiting(thread, self.running.loop_bell.fd())
    }

    /// Serve the sockets with data if the loop is blocked.
    fn look(
        &mut self,
        now: f64,
        with_data: Vec<(u64, u64)>,
        total_progress: u64,
        links: &[Arc<LinkState>],
        listeners: &[Arc<epmd::Listener>],
    ) {
        if with_data.is_empty() && self.pause == 0.0 {
            return;
        }
        let mut decisions = lock(&self.shared.decisions);
        let was_serving = decisions.looks.is_serving;
        decisions.looks.look(now, with_data, total_progress);
        let (is_serving, is_looking) = (decisions.looks.is_serving, decisions.looks.is_looking);
        drop(decisions);
        if !is_serving {
            self.pause = if is_looking { LOOK_INTERVAL } else { 0.0 };
            self.scratch = Vec::new();
            return;
        }
        if !was_serving {
            self.running.ring_loop();
        }
        self.pause = if links.is_empty() && listeners.is_empty() {
            0.0
        } else {
            SERVE_PAUSE
        };
        self.serve(links);
        for listener in listeners {
            let mut registry = lock(&self.shared.registry);
            registry.epmd.accept_all(listener);
            let needs_python = registry.epmd.serve_all();
            drop(registry);
            self.running.ring_loop(); // it takes over the connections that are not answered by then
            if needs_python {
                self.running.python_bell.ring();
            }
        }
    }

    fn serve(&mut self, links: &[Arc<LinkState>]) {
        if links.is_empty() {
            return;
        }
        self.scratch.resize(READ_SIZE, 0);
        let mut full = Vec::new();
        for link in links {
            let served = link.serve(&mut self.scratch);
            if served != Served::Nothing {
                self.shared.need_loop(link, &self.running);
            }
            if served == Served::Full {
                full.push(link.id);
            }
        }
        if !full.is_empty() {
            lock(&self.shared.report).full.extend(full);
            self.running.python_bell.ring();
        }
    }
}

/// Leave all signals to the threads of Python. A signal must interrupt the system call of its main thread.
fn block_signals() {
    // SAFETY: both calls only use the set that they get.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}

fn poll_for(fd: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// Wait for data, or for up to `seconds`.
fn poll(polled: &mut [libc::pollfd], seconds: f64) {
    let milliseconds = (seconds * 1000.0).ceil().min(1e6) as libc::c_int;
    // SAFETY: the kernel reads and writes the elements of the slice.
    let found = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    if found < 0 {
        // A signal, or too many descriptors: nothing is ready.
        polled.iter_mut().for_each(|each| each.revents = 0);
    }
}
