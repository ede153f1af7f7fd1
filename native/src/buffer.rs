//! Output: bytes, and long binaries that are held by reference instead of being copied.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// A binary of at least this many bytes is kept by reference.
pub const BY_REFERENCE: usize = 16 * 1024;

/// A binary that belongs between two bytes of `Out::bytes`.
pub struct Binary {
    /// The number of bytes of `Out::bytes` that come before the binary.
    pub offset: usize,
    pub data: Py<PyBytes>,
    pub length: usize,
}

/// Encoded bytes. The output is `bytes` with each of `binaries` inserted at its offset. The offsets never decrease.
#[derive(Default)]
pub struct Out {
    pub bytes: Vec<u8>,
    pub binaries: Vec<Binary>,
}

/// A position in an `Out`, to which it can be cut back.
#[derive(Clone, Copy)]
pub struct Mark {
    bytes: usize,
    binaries: usize,
}

impl Out {
    /// An empty output that writes into this memory.
    pub fn with_memory(mut bytes: Vec<u8>) -> Out {
        bytes.clear();
        Out {
            bytes,
            binaries: Vec::new(),
        }
    }

    /// Release the binaries and return the memory.
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// The length of the output, with the binaries.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.binaries.iter().map(|binary| binary.length).sum::<usize>()
    }

    pub fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            binaries: self.binaries.len(),
        }
    }

    /// Remove everything that was written after `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.binaries.truncate(mark.binaries);
    }

    /// The bytes that were written after `mark`, with the binaries.
    pub fn length_since(&self, mark: Mark) -> usize {
        let binaries = self.binaries.iter().skip(mark.binaries);
        self.bytes.len() - mark.bytes + binaries.map(|binary| binary.length).sum::<usize>()
    }

    /// Write over bytes that were written `after` bytes after `mark`.
    pub fn overwrite(&mut self, mark: Mark, after: usize, bytes: &[u8]) {
        let start = mark.bytes + after;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Write the first `length` of these bytes. It is a copy of a fixed size, which is faster.
    #[inline]
    pub fn extend_padded<const SIZE: usize>(&mut self, bytes: &[u8; SIZE], length: usize) {
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(bytes);
        self.bytes.truncate(end);
    }

    /// Write a tag and a number of 16 bits.
    #[inline]
    pub fn tag_u16(&mut self, tag: u8, number: u16) {
        let [a, b] = number.to_be_bytes();
        self.extend(&[tag, a, b]);
    }

    /// Write a tag and a number of 32 bits.
    #[inline]
    pub fn tag_u32(&mut self, tag: u8, number: u32) {
        let [a, b, c, d] = number.to_be_bytes();
        self.extend(&[tag, a, b, c, d]);
    }

    /// Write the bytes of a binary, by copy or by reference.
    #[inline]
    pub fn binary(&mut self, data: &Bound<'_, PyBytes>) {
        let bytes = data.as_bytes();
        if bytes.len() < BY_REFERENCE {
            self.extend(bytes);
        } else {
            self.binaries.push(Binary {
                offset: self.bytes.len(),
                data: data.clone().unbind(),
                length: bytes.len(),
            });
        }
    }

    /// Call `piece` with the parts of the output in their order.
    pub fn pieces(&self, py: Python<'_>, mut piece: impl FnMut(&[u8])) {
        let mut start = 0;
        for binary in &self.binaries {
            piece(&self.bytes[start..binary.offset]);
            piece(binary.data.as_bytes(py));
            start = binary.offset;
        }
        piece(&self.bytes[start..]);
    }

    /// The output as one `bytes` object.
    pub fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let length = self.len();
        // SAFETY: the object is new and has `length` bytes, which are not set yet. The pieces fill all of them: their
        // lengths add up to `length`.
        unsafe {
            let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), length as isize);
            let object = Bound::from_owned_ptr_or_err(py, object)?;
            let mut target: *mut u8 = ffi::PyBytes_AsString(object.as_ptr()).cast();
            self.pieces(py, |piece| {
                std::ptr::copy_nonoverlapping(piece.as_ptr(), target, piece.len());
                target = target.add(piece.len());
            });
            Ok(object.cast_into_unchecked())
        }
    }

    /// Append the output to a list of `bytes` objects. The long binaries are elements of their own.
    pub fn append_to(&self, list: &Bound<'_, PyList>) -> PyResult<()> {
        let py = list.py();
        let mut start = 0;
        for binary in &self.binaries {
            if binary.offset > start {
                list.append(PyBytes::new(py, &self.bytes[start..binary.offset]))?;
            }
            list.append(binary.data.bind(py))?;
            start = binary.offset;
        }
        if self.bytes.len() > start {
            list.append(PyBytes::new(py, &self.bytes[start..]))?;
        }
        Ok(())
    }
}
