//! Whether an event loop is blocked, when a peer needs a tick, and when the thread serves sockets. No I/O.
//!
//! The same decisions as `erlmesh.core.loop_watchdog` and `erlmesh.core.socket_looks`, which explain them.

use std::collections::HashMap;

use pyo3::prelude::*;

pub const SAMPLE_INTERVAL: f64 = 1.0;
/// Half of the interval in Python, because a look costs less and waits for no GIL.
pub const LOOK_INTERVAL: f64 = 0.01;
const REPORT_BACKOFF: f64 = 5.0;
const MAX_GAP: f64 = 1.0;

pub struct Sample {
    pub request_ack: bool,
    pub blocked_for: f64,
    pub report: bool,
}

#[pyclass(module = "erlmesh_native")]
pub struct LoopWatchdog {
    requested_at: Option<f64>,
    first_report_after: f64,
    report_after: f64,
}

#[pymethods]
impl LoopWatchdog {
    #[new]
    pub fn new(report_after: f64) -> Self {
        LoopWatchdog {
            requested_at: None,
            first_report_after: report_after,
            report_after,
        }
    }

    /// Return the fields `request_ack`, `blocked_for` and `report` of a sample.
    #[pyo3(name = "sample")]
    fn sample_fields(&mut self, now: f64) -> (bool, f64, bool) {
        let sample = self.sample(now);
        (sample.request_ack, sample.blocked_for, sample.report)
    }

    pub fn blocked_for(&self, now: f64) -> f64 {
        self.requested_at.map_or(0.0, |requested_at| now - requested_at)
    }

    /// The loop runs again. Return for how long it was blocked if that was reported, else 0.
    pub fn acknowledge(&mut self, now: f64) -> f64 {
        let was_reported = self.report_after != self.first_report_after;
        let blocked_for = if was_reported { self.blocked_for(now) } else { 0.0 };
        self.requested_at = None;
        self.report_after = self.first_report_after;
        blocked_for
    }
}

impl LoopWatchdog {
    pub fn sample(&mut self, now: f64) -> Sample {
        let Some(requested_at) = self.requested_at else {
            self.requested_at = Some(now);
            return Sample {
                request_ack: true,
                blocked_for: 0.0,
                report: false,
            };
        };
        let blocked_for = now - requested_at;
        let report = blocked_for >= self.report_after;
        if report {
            self.report_after = blocked_for * REPORT_BACKOFF;
        }
        Sample {
            request_ack: false,
            blocked_for,
            report,
        }
    }

    /// Whether an acknowledgement is missing.
    pub fn is_waiting(&self) -> bool {
        self.requested_at.is_some()
    }
}

#[pyfunction]
pub fn sample_interval(net_ticktime: f64) -> f64 {
    SAMPLE_INTERVAL.min(net_ticktime / 8.0)
}

#[pyfunction]
pub fn is_tick_due(idle_for: f64, net_ticktime: f64, blocked_for: f64) -> bool {
    idle_for >= net_ticktime * 3.0 / 8.0 || (blocked_for > 0.0 && idle_for >= SAMPLE_INTERVAL / 2.0)
}

#[pyclass(module = "erlmesh_native")]
#[derive(Default)]
pub struct SocketLooks {
    #[pyo3(get)]
    pub is_looking: bool,
    #[pyo3(get)]
    pub is_serving: bool,
    had_data: HashMap<u64, u64>,
    total_progress: u64,
    looked_at: f64,
}

#[pymethods]
impl SocketLooks {
    #[new]
    pub fn new() -> Self {
        Self::default()
    }

    /// Look at the sockets. `with_data` has those with data, with their progress. All of them are to be served if
    /// `is_serving` is true afterwards.
    pub fn look(&mut self, now: f64, with_data: Vec<(u64, u64)>, total_progress: u64) {
        if now - self.looked_at > MAX_GAP {
            self.had_data.clear();
        }
        self.looked_at = now;
        if !self.is_serving {
            self.is_serving = with_data
                .iter()
                .any(|(socket, progress)| self.had_data.get(socket) == Some(progress));
        }
        if self.is_serving {
            self.is_looking = false;
            self.had_data.clear();
            return;
        }
        self.is_looking = !with_data.is_empty() || total_progress != self.total_progress;
        self.had_data = with_data.into_iter().collect();
        self.total_progress = total_progress;
    }

    pub fn loop_responded(&mut self) {
        self.is_serving = false;
    }
}
