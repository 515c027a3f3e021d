//! A worker's turn: execute what it decided, give back what it consumed, wait for more.
use crate::engine::Engine;
use crate::futex;
use crate::memory::Region;
use crate::mover::{Job, ReadBuffers};
use crate::ring::Cells;
use crate::stack::hide_stack;
use millrace_layout::{TREE_WORKER, header};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The most descriptors of one turn.
const BATCH: usize = 256;
/// Longest spin before a worker parks: longer than a FUSE round trip, or it would be useless.
const SPIN_MAX: Duration = Duration::from_micros(200);
/// Shortest spin: an idle mount soon stops trying.
const SPIN_MIN: Duration = Duration::from_micros(2);
/// What a sleep must have been shorter than for a longer spin to have paid.
const NAP: Duration = Duration::from_micros(300);

/// What native code keeps for one worker between its turns.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) commands: Region,
    pub(crate) out: Region,
    pub(crate) job: Box<Job>,
    pub(crate) buffers: ReadBuffers,
    /// Workers to wake at the end of the turn, as bits.
    pub(crate) wakes: u32,
    spin: Duration,
}

// SAFETY: the regions are registered by the worker that polls, for as long as it does.
unsafe impl Send for Seat {}

impl Default for Seat {
    fn default() -> Self {
        let none = Region { base: std::ptr::null_mut(), bytes: 0 };
        Self {
            commands: none,
            out: none,
            job: Box::default(),
            buffers: ReadBuffers::default(),
            wakes: 0,
            spin: SPIN_MAX,
        }
    }
}

/// How a worker sleeps: on its ring's futex, or in its event loop, which only a threadsafe function wakes.
pub(crate) const PARKED_NATIVE: u32 = 1;
pub(crate) const PARKED_EVENT_LOOP: u32 = 2;

/// Why a turn ended, as the number that crosses to TypeScript: descriptors that are ready, or one of these.
pub(crate) const STOPPED: i32 = -1;
pub(crate) const MALFORMED: i32 = -2;

impl Engine {
    /// Register the buffers of a worker before its first turn; call it on its thread. False when they are too small or
    /// misaligned.
    ///
    /// # Safety
    /// Both must stay mapped, and be written by the polling thread only, until the engine has stopped.
    pub unsafe fn attach(&self, worker: usize, commands: Region, out: Region) -> bool {
        let fits = worker < self.seats.len()
            && (commands.base as usize).is_multiple_of(4)
            && commands.bytes >= millrace_layout::COMMAND_WORDS * 4;
        if fits {
            hide_stack();
            let mut seat = self.seats[worker].lock().unwrap_or_else(PoisonError::into_inner);
            seat.commands = commands;
            seat.out = out;
        }
        fits
    }

    /// One turn of a worker: give `consumed` descriptors back, execute the first `words` command words, then wait
    /// up to `timeout` for descriptors. Returns how many are ready (0 after the timeout), −1 when the engine
    /// stops, −2 when the commands make no sense.
    pub fn poll(&self, worker: usize, consumed: usize, words: usize, timeout: Duration) -> i32 {
        let mut seat = self.seats[worker].lock().unwrap_or_else(PoisonError::into_inner);
        let seat = &mut *seat;
        let ring = self.memory.ring(worker);
        if consumed > 0 {
            ring.release(consumed);
        }
        // Also when nothing was consumed: a producer that found the ring full may reach the overflow only after the
        // consumer has emptied the ring.
        self.refill(worker);
        if words * 4 > seat.commands.bytes {
            return MALFORMED;
        }
        #[expect(clippy::cast_ptr_alignment, reason = "`attach` has checked it")]
        // SAFETY: registered by `attach`; the polling thread is the only one that writes it, and it is in this call.
        let commands =
            unsafe { std::slice::from_raw_parts(seat.commands.base.cast::<u32>(), words) };
        let done = self.execute(worker, seat, commands);
        let mut wakes = std::mem::take(&mut seat.wakes);
        while wakes != 0 {
            self.wake(wakes.trailing_zeros() as usize);
            wakes &= wakes - 1;
        }
        if done.is_err() {
            return MALFORMED;
        }
        self.await_descriptors(worker, seat, timeout)
    }

    fn await_descriptors(&self, worker: usize, seat: &mut Seat, timeout: Duration) -> i32 {
        // The tree worker alone may read requests itself: see hosted.rs.
        let hosts = worker == TREE_WORKER;
        if hosts {
            self.take_hosted();
        }
        let ring = self.memory.ring(worker);
        let ready = ring.available(BATCH);
        if ready > 0 || timeout.is_zero() {
            if hosts && ready > 0 {
                self.note_wait(ready, false);
            }
            return if self.stopping() { STOPPED } else { ready as i32 };
        }
        let start = Instant::now();
        // While movers have work, every core is worth more to them than a wake-up saved.
        let busy = self.memory.header(header::SETTLING).load(Ordering::Relaxed) > 0;
        let spin = if busy { Duration::ZERO } else { seat.spin.min(timeout) };
        loop {
            if self.stopping() {
                return STOPPED;
            }
            let ready = ring.available(BATCH);
            if ready > 0 {
                seat.spin = (seat.spin * 2).min(SPIN_MAX);
                if hosts {
                    self.note_wait(ready, false);
                }
                return ready as i32;
            }
            if start.elapsed() >= spin {
                break;
            }
            std::thread::yield_now();
            if hosts {
                self.take_hosted();
            }
        }
        if hosts {
            self.note_wait(0, true);
        }
        if spin >= timeout {
            return 0;
        }
        // ORDER: `stop` sets its word before it looks who sleeps, we arm before we look at the word: one sees the other.
        if self.park(worker, PARKED_NATIVE) && !self.stopping() {
            futex::wait(ring.0.parked(), PARKED_NATIVE, timeout);
            ring.disarm();
        }
        // It may lie beside the ring: see overflow.rs.
        self.refill(worker);
        let slept = start.elapsed();
        seat.spin =
            if slept < NAP { (seat.spin * 2).min(SPIN_MAX) } else { (seat.spin / 2).max(SPIN_MIN) };
        if self.stopping() { STOPPED } else { ring.available(BATCH) as i32 }
    }

    /// Announce that the tree worker goes back to its event loop. False: something arrived meanwhile.
    pub fn arm(&self, worker: usize) -> bool {
        self.unhost();
        self.park(worker, PARKED_EVENT_LOOP) && !self.stopping()
    }
}
