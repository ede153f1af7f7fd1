//! Counts the elements of a message before it is decoded. `erlmesh.etf.element_count` has the rules; both count alike.

use crate::tags;

/// A message is not counted if the limit is so many times its bytes: it is decoded quickly, whatever it holds.
pub const UNCOUNTED_PART: usize = 4;
const STRING_BYTES_OF_ELEMENT: usize = 16;
const MAP_SURCHARGE: usize = 2;
const ELEMENTS_OF_PAIR: usize = 6;
const ATOM_SURCHARGE: usize = 7;
const RARE_SURCHARGE: usize = 7;
const KEY_SURCHARGE: usize = 6;
const SHORT_KEY: usize = 16;
const LONG_KEY_SURCHARGE: usize = 8;
const FUN_HEAD: usize = 30;
const FUN_PARTS: usize = 4;
const EXPORT_PARTS: usize = 3;

/// The terms left in the open container, whether it is a map, and whether it is in a key of a map.
#[derive(Clone, Copy)]
struct Open {
    left: u64,
    in_map: bool,
    in_key: bool,
}

impl Open {
    /// Outside all maps no nesting is followed.
    const OUTSIDE: Self = Self {
        left: u64::MAX,
        in_map: false,
        in_key: false,
    };

    /// In one integer, because there may be very many. A container has less than 2^34 terms.
    fn pack(self) -> u64 {
        self.left << 2 | u64::from(self.in_map) << 1 | u64::from(self.in_key)
    }

    fn unpack(packed: u64) -> Self {
        Self {
            left: packed >> 2,
            in_map: packed & 2 != 0,
            in_key: packed & 1 != 0,
        }
    }
}

/// Return the offset of the container with which the terms from `pos` on have more than `limit` elements.
///
/// None if they have not, or if the data ends inside a term or has an unknown tag before.
pub fn first_beyond(data: &[u8], mut pos: usize, limit: usize) -> Option<usize> {
    let mut count = 0usize;
    let mut open = Open::OUTSIDE;
    let mut around: Vec<u64> = Vec::new();
    loop {
        let rest = data.get(pos..)?;
        let (size, elements) = extent(rest)?;
        let tag = rest[0];
        let is_map = tag == tags::MAP_EXT;
        let is_key = open.in_key || (open.in_map && open.left & 1 == 0);
        count = count.saturating_add(elements);
        if is_key && is_container(tag) {
            let beyond = elements.saturating_sub(SHORT_KEY);
            count = count.saturating_add(KEY_SURCHARGE + LONG_KEY_SURCHARGE * beyond);
        }
        if count > limit {
            return Some(pos);
        }
        pos = pos.checked_add(size)?;
        let is_inside = !around.is_empty();
        if is_inside && tag != tags::VERSION {
            open.left -= 1;
        }
        if is_inside || is_map {
            let children = children(tag, elements);
            if children > 0 {
                around.push(open.pack());
                open = Open {
                    left: children,
                    in_map: is_map,
                    in_key: is_key,
                };
            }
            while open.left == 0 {
                open = Open::unpack(around.pop()?);
            }
        }
    }
}

fn is_container(tag: u8) -> bool {
    matches!(
        tag,
        tags::SMALL_TUPLE_EXT | tags::LARGE_TUPLE_EXT | tags::LIST_EXT | tags::MAP_EXT | tags::NEW_FUN_EXT
    )
}

/// How many terms a term with this tag contains that announces `elements`.
fn children(tag: u8, elements: usize) -> u64 {
    (match tag {
        tags::SMALL_TUPLE_EXT | tags::LARGE_TUPLE_EXT | tags::LIST_EXT => elements,
        tags::MAP_EXT => (elements - MAP_SURCHARGE) / ELEMENTS_OF_PAIR * 2,
        tags::NEW_FUN_EXT => elements - RARE_SURCHARGE,
        tags::EXPORT_EXT => EXPORT_PARTS,
        _ => 0,
    }) as u64
}

/// Return the bytes to skip and the elements that the term announces with which `data` starts.
#[inline]
fn extent(data: &[u8]) -> Option<(usize, usize)> {
    let size = match *data.first()? {
        tags::VERSION | tags::NIL_EXT => 1,
        tags::SMALL_INTEGER_EXT | tags::ATOM_CACHE_REF => 2,
        tags::INTEGER_EXT => 5,
        tags::NEW_FLOAT_EXT => 9,
        tags::SMALL_TUPLE_EXT => return Some((2, usize::from(*data.get(1)?))),
        tags::LARGE_TUPLE_EXT => return Some((5, u32_at(data, 1)?)),
        tags::LIST_EXT => return Some((5, u32_at(data, 1)? + 1)), // the tail is an element
        tags::MAP_EXT => return Some((5, u32_at(data, 1)? * ELEMENTS_OF_PAIR + MAP_SURCHARGE)),
        tags::STRING_EXT => {
            let length = u16_at(data, 1)?;
            return Some((3 + length, length.div_ceil(STRING_BYTES_OF_ELEMENT)));
        }
        tags::BINARY_EXT => 5 + u32_at(data, 1)?,
        tags::NEW_PID_EXT => return identifier(data, 1, 12),
        tags::NEWER_REFERENCE_EXT => {
            let (size, elements) = identifier(data, 3, 4)?;
            return Some((size + 4 * u16_at(data, 1)?, elements));
        }
        tags::SMALL_ATOM_UTF8_EXT | tags::SMALL_ATOM_EXT => {
            return Some((2 + usize::from(*data.get(1)?), ATOM_SURCHARGE))
        }
        tags::ATOM_UTF8_EXT | tags::ATOM_EXT => return Some((3 + u16_at(data, 1)?, ATOM_SURCHARGE)),
        tags::SMALL_BIG_EXT => 3 + usize::from(*data.get(1)?),
        tags::NEW_FUN_EXT => return Some((FUN_HEAD, RARE_SURCHARGE + FUN_PARTS + u32_at(data, 26)?)),
        tag => return Some((rare_size(data, tag)?, RARE_SURCHARGE)),
    };
    Some((size, 0))
}

/// The size of a term with a rare tag. None for an unknown tag.
fn rare_size(data: &[u8], tag: u8) -> Option<usize> {
    Some(match tag {
        tags::EXPORT_EXT => 1, // the module, the function and the arity follow with their tags
        tags::FLOAT_EXT => 32,
        tags::V4_PORT_EXT => identifier(data, 1, 12)?.0,
        tags::PID_EXT => identifier(data, 1, 9)?.0,
        tags::NEW_PORT_EXT => identifier(data, 1, 8)?.0,
        tags::PORT_EXT | tags::REFERENCE_EXT => identifier(data, 1, 5)?.0,
        tags::NEW_REFERENCE_EXT => identifier(data, 3, 1)?.0 + 4 * u16_at(data, 1)?,
        tags::LARGE_BIG_EXT | tags::BIT_BINARY_EXT => 6 + u32_at(data, 1)?,
        _ => return None,
    })
}

/// The size and the elements of an identifier with `before` bytes before its node and `after` bytes behind it.
fn identifier(data: &[u8], before: usize, after: usize) -> Option<(usize, usize)> {
    let (node, elements) = extent(data.get(before..)?)?;
    Some((before + node + after, elements))
}

fn u16_at(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(bytes)))
}

fn u32_at(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes) as usize)
}
