//! Accepts the clients of a health server. See `erlmesh.net.health`.
//!
//! The event loop answers, if it responds in time. Otherwise a Python thread does, which knows the stack of the loop. If
//! not even that thread gets the GIL, the watchdog thread answers.

use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::pipe::accept;

/// Seconds that the event loop has for its answer.
const LOOP_TIMEOUT: f64 = 1.0;
/// Seconds that a Python thread has after that.
const PYTHON_TIMEOUT: f64 = 0.2;
/// Open connections. Others wait in the queue of the listening socket.
const MAX_CLIENTS: usize = 16;

pub struct Listener {
    pub server: u64,
    pub socket: OwnedFd,
}

struct Client {
    server: u64,
    stream: UnixStream,
    asked_at: f64,
    /// The Python thread has been told.
    is_late: bool,
}

/// A connection for Python: the server, the descriptor, which belongs to the caller, and when the client connected. If
/// the client is late, it is the time since which the event loop has not responded.
pub type HandedOver = (u64, RawFd, f64);

#[derive(Default)]
pub struct Health {
    pub listeners: Vec<Arc<Listener>>,
    clients: Vec<Client>,
    /// When the oldest client connected since the event loop responded last.
    asked_since: Option<f64>,
}

impl Health {
    pub fn remove_server(&mut self, server: u64) {
        self.listeners.retain(|listener| listener.server != server);
        self.clients.retain(|client| client.server != server);
    }

    /// Whether another connection may be accepted.
    pub fn has_room(&self) -> bool {
        self.clients.len() < MAX_CLIENTS
    }

    /// All descriptors that are open.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let listeners = self.listeners.iter().map(|listener| listener.socket.as_raw_fd());
        let clients = self.clients.iter().map(|client| client.stream.as_raw_fd());
        listeners.chain(clients).collect()
    }

    pub fn accept_all(&mut self, listener: &Listener, now: f64) {
        while self.has_room() {
            let Some(socket) = accept(listener.socket.as_raw_fd()) else {
                return;
            };
            self.asked_since.get_or_insert(now);
            self.clients.push(Client {
                server: listener.server,
                stream: UnixStream::from(socket),
                asked_at: now,
                is_late: false,
            });
        }
    }

    /// When to call `check` next; infinity if no client waits.
    pub fn next_deadline(&self) -> f64 {
        let deadlines = self.clients.iter().map(Client::deadline);
        deadlines.fold(f64::INFINITY, f64::min)
    }

    /// Answer the clients for which no Python thread had time. `blocked_for` is how long the loop has been blocked.
    /// Return whether the Python thread has to answer other clients.
    pub fn check(&mut self, now: f64, blocked_for: f64) -> bool {
        let mut has_late = false;
        self.clients.retain_mut(|client| {
            if now < client.deadline() {
                return true;
            }
            if client.is_late {
                let asked_since = self.asked_since.unwrap_or(client.asked_at);
                client.answer(blocked_for.max(now - asked_since));
                return false;
            }
            client.is_late = true;
            has_late = true;
            true
        });
        has_late
    }

    /// Take all clients for the event loop, or those that are late for the Python thread.
    pub fn take(&mut self, only_late: bool) -> Vec<HandedOver> {
        let (taken, kept) = std::mem::take(&mut self.clients)
            .into_iter()
            .partition(|client| client.is_late || !only_late);
        self.clients = kept;
        let taken: Vec<Client> = taken;
        if !only_late {
            self.asked_since = None; // the event loop responds
        }
        taken
            .into_iter()
            .map(|client| {
                let asked_at = self.asked_since.unwrap_or(client.asked_at);
                (client.server, client.stream.into_raw_fd(), asked_at)
            })
            .collect()
    }
}

impl Client {
    fn deadline(&self) -> f64 {
        self.asked_at + LOOP_TIMEOUT + if self.is_late { PYTHON_TIMEOUT } else { 0.0 }
    }

    fn answer(&mut self, blocked_for: f64) {
        let line = format!(
            "{{\"alive\": false, \"loop_ms\": {:.1}, \"blocked_by\": \"code that holds the GIL\"}}\n",
            blocked_for * 1000.0
        );
        // If the client has disconnected, nobody needs the answer.
        let _ = self.stream.write(line.as_bytes());
    }
}
