//! Numbers of the distribution protocol: flags of the handshake, first bytes of frames, tags and ops.

pub const FLAG_ATOM_CACHE: u64 = 1 << 13;
pub const FLAG_SEND_SENDER: u64 = 1 << 19;
pub const FLAG_EXIT_PAYLOAD: u64 = 1 << 22;
pub const FLAG_FRAGMENTS: u64 = 1 << 23;
pub const FLAG_ALIAS: u64 = 1 << 35;

pub const VERSION: u8 = 131;
pub const PASS_THROUGH: u8 = 112;
/// The types of a header, after the version byte.
pub const NORMAL: u8 = 68;
pub const FIRST_FRAGMENT: u8 = 69;
pub const FRAGMENT: u8 = 70;
/// Bytes of `131 69` or `131 70`, the sequence id and the fragment number.
pub const FRAGMENT_HEAD_SIZE: usize = 18;

pub const SMALL_TUPLE: u8 = 104;
pub const SMALL_INTEGER: u8 = 97;

pub const SEND: u8 = 2;
pub const REG_SEND: u8 = 6;
pub const MONITOR_P: u8 = 19;
pub const DEMONITOR_P: u8 = 20;
pub const SEND_SENDER: u8 = 22;
pub const DOWN: u8 = 28;
pub const SPAWN_REQUEST: u8 = 29;
pub const SPAWN_REPLY: u8 = 31;
pub const ALIAS_SEND: u8 = 33;
