//! Waits for events until a given time, exact to microseconds.
//!
//! epoll's own timeout counts milliseconds, which is longer than most calls take; a timer of the kernel that wakes epoll
//! does better and, unlike spinning, leaves the core to the server under test.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Event of the timer.
pub(super) const TIMER: Token = Token(usize::MAX);

/// The poll of a thread, with its timer.
#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) poll: Poll,
    timer: OwnedFd,
    armed_ns: Option<u64>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        let poll = Poll::new()?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Alarm { poll, timer, armed_ns: None })
    }

    /// Waits for events. `exact_ns` is when something has to be sent, `rough_ns` when something else has to be done; both
    /// count from the start of the run, as `now_ns` does.
    pub(super) fn wait(
        &mut self,
        events: &mut Events,
        now_ns: u64,
        exact_ns: Option<u64>,
        rough_ns: u64,
    ) -> io::Result<()> {
        let mut timeout = Duration::from_nanos(rough_ns.saturating_sub(now_ns));
        match exact_ns {
            Some(exact_ns) if exact_ns <= now_ns => timeout = Duration::ZERO,
            Some(exact_ns) if exact_ns <= rough_ns => self.arm(now_ns, exact_ns)?,
            _ => {}
        }
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn arm(&mut self, now_ns: u64, at_ns: u64) -> io::Result<()> {
        if self.armed_ns == Some(at_ns) {
            return Ok(());
        }
        let wait_ns = at_ns - now_ns;
        let value =
            Timespec { tv_sec: (wait_ns / 1_000_000_000) as i64, tv_nsec: (wait_ns % 1_000_000_000) as i64 };
        let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval: interval, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        self.armed_ns = Some(at_ns);
        Ok(())
    }
}
