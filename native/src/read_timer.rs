//! A timer of the kernel and the low-water mark of a socket, for `erlmesh.net.read_pauses`. Linux only.
//!
//! Both event loops round their own timers up to a millisecond. A timer descriptor is exact, and to set it again costs
//! one system call.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::send_queue::lock;

/// A descriptor that becomes readable once, a time after each call of `start`.
#[pyclass(frozen, module = "erlmesh_native")]
pub struct ReadTimer {
    /// None when it is closed.
    fd: Mutex<Option<OwnedFd>>,
}

#[pymethods]
impl ReadTimer {
    /// Raises OSError if the process has no free descriptor.
    #[new]
    fn new() -> PyResult<ReadTimer> {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor is new and belongs to nothing else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(ReadTimer {
            fd: Mutex::new(Some(fd)),
        })
    }

    /// The descriptor, for the event loop.
    fn fileno(&self) -> PyResult<RawFd> {
        lock(&self.fd)
            .as_ref()
            .map(AsRawFd::as_raw_fd)
            .ok_or_else(|| PyValueError::new_err("the timer is closed"))
    }

    /// Become readable in `seconds`, and not before. 0 stops the timer.
    fn start(&self, seconds: f64) -> PyResult<()> {
        let time = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: time.as_secs() as libc::time_t,
                tv_nsec: time.subsec_nanos().into(),
            },
        };
        // SAFETY: the structure lives during the call. The kernel returns the old setting only to a pointer.
        let result = unsafe { libc::timerfd_settime(self.fileno()?, 0, &setting, std::ptr::null_mut()) };
        checked(result)
    }

    /// Close the descriptor. The event loop must not watch it any more.
    fn close(&self) {
        drop(lock(&self.fd).take());
    }

    /// Let a socket be readable only when `size` bytes have arrived, or the end of the stream.
    #[staticmethod]
    fn set_low_water(socket: RawFd, size: i32) -> PyResult<()> {
        // SAFETY: the pointer and the size are those of an int, as the option requires.
        let result = unsafe {
            libc::setsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                (&raw const size).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        checked(result)
    }
}

fn checked(result: libc::c_int) -> PyResult<()> {
    if result < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}
