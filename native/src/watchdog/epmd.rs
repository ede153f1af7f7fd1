//! Answers for an embedded EPMD. See `erlmesh.net.epmd_server`.
//!
//! The event loop keeps the answers up to date, and the thread looks them up: to a look-up of a node, and to the list of
//! names. Any other host may ask for these two. A connection with another request is handed over to Python.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;

use super::pipe::accept;
use crate::send_queue::lock;

const PORT_PLEASE2: u8 = 122;
const NAMES: u8 = 110;
/// PORT2_RESP with the result 1: there is no such node.
const UNKNOWN: [u8; 2] = [119, 1];
const READ_SIZE: usize = 1 << 16;
/// Open connections that the thread has accepted. Others wait in the queue of the listening socket.
const MAX_CLIENTS: usize = 64;

#[derive(Default)]
struct Answers {
    names: Vec<u8>,
    ports: HashMap<Vec<u8>, Vec<u8>>,
}

/// The answers of one EPMD. The methods are for Python.
#[pyclass(frozen, module = "erlmesh_native")]
#[derive(Clone, Default)]
pub struct EpmdAnswers {
    answers: Arc<Mutex<Answers>>,
    /// Connections that the event loop has accepted.
    accepted: Arc<AtomicU64>,
}

#[pymethods]
impl EpmdAnswers {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Set the answers to a NAMES_REQ, and to a PORT_PLEASE2_REQ for each registered name.
    fn set(&self, names: Vec<u8>, ports: HashMap<Vec<u8>, Vec<u8>>) {
        *lock(&self.answers) = Answers { names, ports };
    }

    /// The event loop has accepted a connection.
    fn note_accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }
}

pub struct Listener {
    /// Identifies the EPMD that listens there.
    pub server: u64,
    pub socket: OwnedFd,
    pub answers: EpmdAnswers,
}

impl Listener {
    pub fn progress(&self) -> u64 {
        self.answers.accepted.load(Ordering::Relaxed)
    }
}

struct Client {
    server: u64,
    stream: TcpStream,
    answers: EpmdAnswers,
    received: Vec<u8>,
}

/// A connection for Python: the EPMD, the descriptor, which belongs to the caller, and the received data.
pub type HandedOver = (u64, RawFd, Vec<u8>);

enum Request {
    Incomplete,
    Answer(Vec<u8>),
    ForPython,
    Ended,
}

#[derive(Default)]
pub struct Epmd {
    pub listeners: Vec<Arc<Listener>>,
    clients: Vec<Client>,
    handed_over: Vec<Client>,
}

impl Epmd {
    pub fn remove_server(&mut self, server: u64) {
        self.listeners.retain(|listener| listener.server != server);
        self.clients.retain(|client| client.server != server);
        self.handed_over.retain(|client| client.server != server);
    }

    /// The sockets of accepted connections.
    pub fn client_fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.clients.iter().map(|client| client.stream.as_raw_fd())
    }

    /// Connections that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.clients.len() + self.handed_over.len()
    }

    /// Whether another connection may be accepted.
    pub fn has_room(&self) -> bool {
        self.waiting() < MAX_CLIENTS
    }

    /// All descriptors that are open.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let listeners = self.listeners.iter().map(|listener| listener.socket.as_raw_fd());
        let handed_over = self.handed_over.iter().map(|client| client.stream.as_raw_fd());
        listeners.chain(self.client_fds()).chain(handed_over).collect()
    }

    pub fn accept_all(&mut self, listener: &Listener) {
        while self.has_room() {
            let Some(socket) = accept(listener.socket.as_raw_fd()) else {
                return;
            };
            self.clients.push(Client {
                server: listener.server,
                stream: TcpStream::from(socket),
                answers: listener.answers.clone(),
                received: Vec::new(),
            });
        }
    }

    /// Read all accepted connections and answer them. Return whether one has to be handed over to Python.
    pub fn serve_all(&mut self) -> bool {
        let mut index = 0;
        let mut for_python = false;
        while let Some(client) = self.clients.get_mut(index) {
            match client.receive() {
                Request::Incomplete => index += 1,
                Request::Answer(answer) => {
                    // If the client has disconnected, nobody needs the answer.
                    let _ = client.stream.write(&answer);
                    self.clients.swap_remove(index);
                }
                Request::ForPython => {
                    let client = self.clients.swap_remove(index);
                    self.handed_over.push(client);
                    for_python = true;
                }
                Request::Ended => {
                    self.clients.swap_remove(index);
                }
            }
        }
        for_python
    }

    /// Take the connections with a request for Python.
    pub fn take_handed_over(&mut self) -> Vec<HandedOver> {
        into_python(&mut self.handed_over)
    }

    /// Take all connections, because the event loop runs again.
    pub fn take_all(&mut self) -> Vec<HandedOver> {
        let mut all = into_python(&mut self.handed_over);
        all.extend(into_python(&mut self.clients));
        all
    }
}

fn into_python(clients: &mut Vec<Client>) -> Vec<HandedOver> {
    let taken = clients.drain(..);
    taken
        .map(|client| (client.server, client.stream.into_raw_fd(), client.received))
        .collect()
}

impl Client {
    fn receive(&mut self) -> Request {
        let mut data = vec![0; READ_SIZE];
        match self.stream.read(&mut data) {
            Ok(0) => return Request::Ended,
            Ok(size) => self.received.extend_from_slice(data.get(..size).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Request::Incomplete
            }
            Err(_) => return Request::Ended,
        }
        // A request is a length of two bytes, a byte that tells its kind, and the rest.
        let Some((&[high, low], body)) = self.received.split_first_chunk::<2>() else {
            return Request::Incomplete;
        };
        let Some(body) = body.get(..usize::from(u16::from_be_bytes([high, low]))) else {
            return Request::Incomplete;
        };
        match body.split_first() {
            Some((&NAMES, _)) => Request::Answer(lock(&self.answers.answers).names.clone()),
            Some((&PORT_PLEASE2, name)) => {
                let answers = lock(&self.answers.answers);
                let answer = answers.ports.get(name);
                Request::Answer(answer.cloned().unwrap_or_else(|| UNKNOWN.to_vec()))
            }
            _ => Request::ForPython,
        }
    }
}
