//! The decoder for terms that are seldom sent: funs, ports, exports, bitstrings, long integers, and forms that only old
//! releases of OTP write.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};

use crate::decode::{Decoder, GiveUp};
use crate::decode_deep::FunHead;
use crate::tags;
use crate::terms::{Pid, Ref};

/// Bytes of a longer integer are refused: `MAX_BIG_BYTES` in `erlmesh.etf.decode_leaves`.
const MAX_BIG_BYTES: usize = 512 * 1024;

/// Bytes of the text of a FLOAT_EXT.
const FLOAT_TEXT: usize = 31;

impl<'py> Decoder<'_, 'py> {
    /// Read a term with a rare tag after the tag.
    #[cold]
    #[inline(never)]
    pub fn rare(&mut self, tag: u8) -> Result<Bound<'py, PyAny>, GiveUp> {
        match tag {
            tags::NEW_FUN_EXT => {
                let fun = self.open_fun()?;
                self.deep(fun)
            }
            tags::V4_PORT_EXT | tags::NEW_PORT_EXT | tags::PORT_EXT => self.port(tag),
            tags::EXPORT_EXT => self.export(),
            tags::BIT_BINARY_EXT => self.bit_binary(),
            tags::LARGE_BIG_EXT => {
                let length = self.u32()? as usize;
                let is_negative = self.byte()? != 0;
                self.long_integer(length, is_negative)
            }
            tags::FLOAT_EXT => {
                let number = text_float(self.slice(FLOAT_TEXT)?).ok_or(GiveUp)?;
                self.float(number)
            }
            tags::PID_EXT => self.old_pid(),
            tags::REFERENCE_EXT => {
                let node = self.node()?;
                let word = self.u32()?;
                let creation = u32::from(self.byte()?);
                let reference = Ref::from_words(node.unbind(), creation, &[word]).ok_or(GiveUp)?;
                Ok(Bound::new(self.py, reference).map_err(|_| GiveUp)?.into_any())
            }
            tags::NEW_REFERENCE_EXT => {
                let count = usize::from(u16::from_be_bytes(self.array()?));
                let node = self.node()?;
                let creation = u32::from(self.byte()?);
                self.reference_of(node, creation, count)
            }
            _ => Err(GiveUp),
        }
    }

    #[cold]
    pub fn latin1_atom(&self, text: &[u8]) -> Result<Bound<'py, PyAny>, GiveUp> {
        let text: String = text.iter().copied().map(char::from).collect();
        self.context.atom(self.py, text.as_bytes()).map_err(|_| GiveUp)
    }

    /// Read the bytes of an integer of any length.
    #[cold]
    pub fn long_integer(&mut self, length: usize, is_negative: bool) -> Result<Bound<'py, PyAny>, GiveUp> {
        if length > MAX_BIG_BYTES {
            return Err(GiveUp);
        }
        let py = self.py;
        let bytes = PyBytes::new(py, self.slice(length)?);
        let number = py
            .get_type::<PyInt>()
            .call_method1(intern!(py, "from_bytes"), (bytes, intern!(py, "little")))
            .map_err(|_| GiveUp)?;
        match is_negative {
            true => number.neg().map_err(|_| GiveUp),
            false => Ok(number),
        }
    }

    /// Read an integer of at most 32 bits with its tag.
    pub fn short_integer(&mut self) -> Result<i32, GiveUp> {
        match self.byte()? {
            tags::SMALL_INTEGER_EXT => self.byte().map(i32::from),
            tags::INTEGER_EXT => Ok(i32::from_be_bytes(self.array()?)),
            _ => Err(GiveUp),
        }
    }

    /// Read a pid with its tag.
    pub fn any_pid(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        match self.byte()? {
            tag @ tags::NEW_PID_EXT => self.leaf(tag),
            tags::PID_EXT => self.old_pid(),
            _ => Err(GiveUp),
        }
    }

    fn old_pid(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let node = self.node()?;
        let (id, serial) = (self.u32()?, self.u32()?);
        let pid = Pid {
            node: node.unbind(),
            id,
            serial,
            creation: u32::from(self.byte()?),
        };
        Ok(Bound::new(self.py, pid).map_err(|_| GiveUp)?.into_any())
    }

    fn port(&mut self, tag: u8) -> Result<Bound<'py, PyAny>, GiveUp> {
        let node = self.node()?;
        let id = match tag {
            tags::V4_PORT_EXT => u64::from_be_bytes(self.array()?),
            _ => u64::from(self.u32()?),
        };
        let creation = match tag {
            tags::PORT_EXT => u32::from(self.byte()?),
            _ => self.u32()?,
        };
        self.made(self.context.port_class(self.py).call1((node, id, creation)))
    }

    fn export(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let (module, function) = (self.node()?, self.node()?);
        let arity = u8::try_from(self.short_integer()?).map_err(|_| GiveUp)?;
        self.made(self.context.export_class(self.py).call1((module, function, arity)))
    }

    fn bit_binary(&mut self) -> Result<Bound<'py, PyAny>, GiveUp> {
        let length = self.u32()? as usize;
        let bits = self.byte()?;
        let bytes = self.slice(length)?;
        if bits > 8 || (bits == 0) != (length == 0) {
            return Err(GiveUp);
        }
        let Some((last, whole)) = bytes.split_last().filter(|_| bits < 8) else {
            return Ok(PyBytes::new(self.py, bytes).into_any());
        };
        // Clear the unused bits: the format does not define them, and `BitString` requires zeros.
        let last = last & (0xFF00u16 >> bits) as u8;
        let bytes = PyBytes::new(self.py, &[whole, &[last]].concat());
        self.made(self.context.bit_string_class(self.py).call1((bytes, bits)))
    }

    /// Make a fun. `free` is the tuple of its free variables.
    pub fn fun(&self, head: &FunHead, free: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, GiveUp> {
        let uniq = PyBytes::new(self.py, &head.uniq);
        self.made(self.context.fun_class(self.py).call1((
            head.arity,
            uniq,
            head.index,
            &head.module,
            head.old_index,
            head.old_uniq,
            &head.pid,
            free,
        )))
    }

    fn made(&self, made: PyResult<Bound<'py, PyAny>>) -> Result<Bound<'py, PyAny>, GiveUp> {
        made.map_err(|_| GiveUp)
    }
}

/// The number that a text of `sprintf("%.20e")` says; None if it is no such text. Zero bytes may follow it.
fn text_float(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next()?;
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let point = unsigned.iter().position(|&byte| byte == b'.')?;
    let (whole, rest) = (&unsigned[..point], &unsigned[point + 1..]);
    let exponent_at = rest.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (fraction, exponent) = match exponent_at {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let exponent = exponent.map(|digits| {
        digits
            .strip_prefix(b"-")
            .or(digits.strip_prefix(b"+"))
            .unwrap_or(digits)
    });
    let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !is_number(whole) || !is_number(fraction) || !exponent.is_none_or(is_number) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
