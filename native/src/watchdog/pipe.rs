//! A pipe that ends the wait of a thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub struct Bell {
    reader: File,
    writer: File,
}

impl Bell {
    pub fn new() -> io::Result<Bell> {
        let mut ends = [0; 2];
        // SAFETY: the call fills the array.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has opened both descriptors, and nothing else owns them.
        let [reader, writer] = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
        for fd in ends {
            // SAFETY: these calls only change flags of the two descriptors.
            unsafe {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            set_nonblocking(fd);
        }
        Ok(Bell { reader, writer })
    }

    /// The end that becomes readable.
    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// It does not fail: a full pipe is readable already.
    pub fn ring(&self) {
        let _ = (&self.writer).write(&[1]);
    }

    pub fn drain(&self) {
        let mut bytes = [0; 256];
        while matches!((&self.reader).read(&mut bytes), Ok(count) if count == bytes.len()) {}
    }
}

impl Bell {
    /// Both ends.
    pub fn fds(&self) -> [RawFd; 2] {
        [self.reader.as_raw_fd(), self.writer.as_raw_fd()]
    }
}

/// In a forked child, replace descriptors with the null device, so that the child does not keep connections of its
/// parent open. The numbers stay in use: a later close cannot hit another file. See `erlmesh.net.fork_guard`.
pub fn replace_with_null(descriptors: &[RawFd]) {
    // SAFETY: the path is a valid C string. The other calls use descriptors of this process only.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for &fd in descriptors.iter().filter(|&&fd| fd >= 0 && null >= 0) {
            libc::dup2(null, fd);
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        if null >= 0 {
            libc::close(null);
        }
    }
}

pub fn set_nonblocking(fd: RawFd) {
    // SAFETY: these calls only read and change the flags of a descriptor.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

/// A duplicate of a descriptor of Python, which no child process inherits.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call makes a new descriptor, and nothing else owns it.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) } {
        new if new >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(new) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Accept a connection at a socket that does not block. The connection does not block either.
pub fn accept(listener: RawFd) -> Option<OwnedFd> {
    let fd = accept_one(listener);
    if fd < 0 {
        return None;
    }
    // SAFETY: the call has opened the descriptor, and nothing else owns it.
    let accepted = unsafe { OwnedFd::from_raw_fd(fd) };
    set_nonblocking(fd);
    Some(accepted)
}

#[cfg(target_os = "linux")]
fn accept_one(listener: RawFd) -> RawFd {
    // SAFETY: null pointers mean that the address is not wanted.
    unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) }
}

#[cfg(not(target_os = "linux"))]
fn accept_one(listener: RawFd) -> RawFd {
    // SAFETY: null pointers mean that the address is not wanted. `fcntl` only changes flags.
    unsafe {
        let fd = libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut());
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        fd
    }
}
