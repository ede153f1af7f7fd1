//! Frames in the send queue.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::{Out, BY_REFERENCE};
use crate::pure::Pure;
use crate::send_queue::{lock, Binary, SendQueue};
use crate::wire_format::{FIRST_FRAGMENT, FRAGMENT, FRAGMENT_HEAD_SIZE, VERSION};

/// Bytes of the longest frame that we send.
const MAX_FRAME: usize = 0x07FF_0000;
/// Bytes of a message in one fragment.
pub const FRAGMENT_SIZE: usize = 64 * 1024;
/// Bytes of the longest message that is sent in one frame.
const MAX_UNFRAGMENTED: usize = 128 * 1024;

#[inline]
pub fn check_length(py: Python<'_>, head: usize, message: usize, has_fragments: bool) -> PyResult<()> {
    let length = head + if has_fragments { 0 } else { message }; // a fragmented message has no limit
    if length > MAX_FRAME {
        Pure::get(py)?.check_length.bind(py).call1((length,))?;
    }
    Ok(())
}

/// Queue the frame of a header, a control tuple and a message of `size` bytes. With `sequence`, a long message is sent
/// in fragments.
#[inline]
pub fn append(
    py: Python<'_>,
    head: &[&[u8]],
    message: &mut Out,
    size: usize,
    sequence: Option<&mut u64>,
    queue: &Mutex<SendQueue>,
) {
    match sequence {
        Some(sequence) if size > MAX_UNFRAGMENTED => {
            *sequence += 1;
            append_fragments(py, head, message, size, *sequence, &mut lock(queue));
        }
        _ => {
            let length = head.iter().map(|part| part.len()).sum::<usize>() + size;
            let length = (length as u32).to_be_bytes();
            let mut queue = lock(queue);
            let mut parts: [&[u8]; 5] = [&length, &[], &[], &[], &[]];
            for (place, part) in parts.iter_mut().skip(1).zip(head) {
                *place = part;
            }
            if message.binaries.is_empty() {
                parts[4] = &message.bytes;
                queue.append(&parts);
                return;
            }
            queue.append(&parts);
            let mut done = 0;
            for binary in message.binaries.drain(..) {
                queue.append(&[message.bytes.get(done..binary.offset).unwrap_or_default()]);
                done = binary.offset;
                queue.append_binary(Binary::whole(py, binary.data));
            }
            queue.append(&[message.bytes.get(done..).unwrap_or_default()]);
        }
    }
}

/// Queue the frames of a long message, 64 KiB of it in each.
fn append_fragments(
    py: Python<'_>,
    head: &[&[u8]],
    message: &mut Out,
    size: usize,
    sequence: u64,
    queue: &mut SendQueue,
) {
    let head: Vec<u8> = head.concat();
    let head = head.get(2..).unwrap_or_default(); // without the bytes 131 68
    let mut left = size;
    let mut number = size.div_ceil(FRAGMENT_SIZE) as u64;
    let mut room = 0;
    let mut kind = FIRST_FRAGMENT;
    let mut put = |queue: &mut SendQueue, mut piece: &[u8], owner: Option<&Py<PyBytes>>| {
        while !piece.is_empty() {
            if room == 0 {
                room = left.min(FRAGMENT_SIZE);
                let head: &[u8] = if kind == FIRST_FRAGMENT { head } else { &[] };
                let length = (FRAGMENT_HEAD_SIZE + head.len() + room) as u32;
                let (sequence, number_bytes) = (sequence.to_be_bytes(), number.to_be_bytes());
                queue.append(&[&length.to_be_bytes(), &[VERSION, kind], &sequence, &number_bytes, head]);
                kind = FRAGMENT;
                number -= 1;
            }
            let (now, rest) = piece.split_at(room.min(piece.len()));
            match owner {
                Some(owner) if now.len() >= BY_REFERENCE => {
                    queue.append_binary(Binary::part(owner.clone_ref(py), now));
                }
                _ => queue.append(&[now]),
            }
            room -= now.len();
            left -= now.len();
            piece = rest;
        }
    };
    let mut done = 0;
    for binary in message.binaries.drain(..) {
        put(queue, message.bytes.get(done..binary.offset).unwrap_or_default(), None);
        done = binary.offset;
        put(queue, binary.data.as_bytes(py), Some(&binary.data));
    }
    put(queue, message.bytes.get(done..).unwrap_or_default(), None);
}
