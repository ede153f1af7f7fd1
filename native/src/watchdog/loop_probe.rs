//! Whether a thread waits in the selector of its event loop. It is found without waking up the loop.
//!
//! Linux tells the system call in which a thread waits, with its arguments (`/proc/PID/task/TID/syscall`, see proc(5)),
//! and the descriptors that an epoll instance watches (`/proc/PID/fdinfo`). Where this cannot be read, the answer is
//! always that it is unknown. The caller then has to ask the loop.

use std::fs::{self, File};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

/// Looks after which the epoll instance is searched again. The loop may have been closed, and the number of its
/// descriptor may belong to another one.
const LOOKS_PER_SEARCH: u32 = 16;

/// Seconds and nanoseconds.
type CpuTime = (libc::time_t, libc::c_long);

#[derive(Default)]
pub struct LoopProbe {
    epoll: Option<RawFd>,
    looks: u32,
    /// The file that tells in which call a thread waits. To open it costs more than to read it.
    calls: Option<(i32, File)>,
    /// A thread that waited in the selector, and the CPU time that it had used until then.
    waiting: Option<(i32, CpuTime)>,
}

impl LoopProbe {
    /// Return whether `thread` certainly waits in the selector that watches the descriptor `bell`.
    pub fn is_waiting(&mut self, thread: i32, bell: RawFd) -> bool {
        // A thread that has used no CPU time since it waited in the selector still waits there. To know that is cheap.
        let used = cpu_time(thread).map(|time| (thread, time));
        if used.is_some() && used == self.waiting {
            return true;
        }
        if self.looks % LOOKS_PER_SEARCH == 0 {
            self.epoll = find_epoll(self.epoll, bell);
        }
        self.looks = self.looks.wrapping_add(1);
        let is_waiting = self.epoll.is_some_and(|epoll| self.waits_for(thread, epoll));
        self.waiting = used.filter(|_| is_waiting);
        is_waiting
    }

    /// The file has the number of the system call and its arguments: `232 0x3 0x7f… …`, or `running`.
    fn waits_for(&mut self, thread: i32, epoll: RawFd) -> bool {
        if self.calls.as_ref().is_none_or(|(known, _)| *known != thread) {
            let file = File::open(format!("/proc/self/task/{thread}/syscall"));
            self.calls = file.ok().map(|file| (thread, file));
        }
        let mut line = [0; 256];
        let size = match &self.calls {
            Some((_, file)) => file.read_at(&mut line, 0).unwrap_or_default(),
            None => 0,
        };
        let text = std::str::from_utf8(line.get(..size).unwrap_or_default());
        let mut words = text.unwrap_or_default().split_whitespace();
        let call = words.next().and_then(|word| word.parse::<i64>().ok());
        let first = words
            .next()
            .and_then(|word| i64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        call.is_some_and(is_epoll_wait) && first == Some(i64::from(epoll))
    }
}

/// Find the epoll instance that watches `bell`. `known` is the likely one.
fn find_epoll(known: Option<RawFd>, bell: RawFd) -> Option<RawFd> {
    if let Some(fd) = known {
        return watches(fd, bell).then_some(fd);
    }
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let is_epoll = fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]");
        if let (true, Some(fd)) = (is_epoll, entry.file_name().to_str().and_then(|name| name.parse().ok())) {
            if watches(fd, bell) {
                return Some(fd);
            }
        }
    }
    None
}

/// A line of fdinfo is `tfd:       11 events:       19 data: …`.
fn watches(epoll: RawFd, bell: RawFd) -> bool {
    let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")) else {
        return false;
    };
    info.lines().any(|line| {
        let fd = line
            .strip_prefix("tfd:")
            .and_then(|rest| rest.split_whitespace().next());
        fd.and_then(|fd| fd.parse().ok()) == Some(bell)
    })
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn is_epoll_wait(call: i64) -> bool {
    call == libc::SYS_epoll_wait || call == libc::SYS_epoll_pwait || call == libc::SYS_epoll_pwait2
}

#[cfg(all(target_os = "linux", not(target_arch = "x86_64")))]
fn is_epoll_wait(call: i64) -> bool {
    call == libc::SYS_epoll_pwait || call == libc::SYS_epoll_pwait2
}

#[cfg(not(target_os = "linux"))]
fn is_epoll_wait(_call: i64) -> bool {
    false
}

/// The CPU time that a thread has used.
#[cfg(target_os = "linux")]
fn cpu_time(thread: i32) -> Option<CpuTime> {
    // The identifier of the clock of a thread is made as in pthread_getcpuclockid(3): its inverted number, and the bits
    // for "a thread" (4) and "the time on the CPU" (2).
    let clock = (!thread << 3) | 6;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure that it gets.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then_some((time.tv_sec, time.tv_nsec))
}

#[cfg(not(target_os = "linux"))]
fn cpu_time(_thread: i32) -> Option<CpuTime> {
    None
}

/// The number that the system gives to the calling thread; 0 if it has none.
#[cfg(target_os = "linux")]
pub fn current_thread() -> i32 {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

#[cfg(not(target_os = "linux"))]
pub fn current_thread() -> i32 {
    0
}
