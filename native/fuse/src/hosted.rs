//! The front that the tree worker hosts: the same requests, read without waiting.
use crate::device::{self, Read};
use crate::protocol::opcode;
use crate::serve::Front;
use millrace_core::{Engine, HostedFront, Taken};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Payloads from here on are bulk: several fronts read and copy them faster.
const BULK_BYTES: usize = 64 << 10;
/// Requests of one look; a single program has fewer on their way.
const REQUESTS_MAX: usize = 4;

/// A front on a descriptor that never waits, read when somebody says so: /dev/fuse, or what stands in for it where there
/// is no kernel.
#[must_use]
pub fn front_on(engine: Arc<Engine>, fd: OwnedFd) -> Box<dyn HostedFront> {
    Box::new(Hosted::new(engine, fd))
}

/// One more descriptor of the connection, which is only read while the tree worker wants to.
pub(crate) struct Hosted {
    front: Front,
    fd: OwnedFd,
}

impl Hosted {
    /// `fd` is a clone of its own; it must not block.
    pub(crate) fn new(engine: Arc<Engine>, fd: OwnedFd) -> Self {
        Self { front: Front::new(engine, fd.as_raw_fd()), fd }
    }
}

impl HostedFront for Hosted {
    fn take(&mut self) -> Taken {
        for _ in 0..REQUESTS_MAX {
            let Ok(targets) = self.front.targets() else {
                return Taken::Gone;
            };
            // SAFETY: the targets belong to this front alone.
            let read =
                unsafe { device::try_read(self.fd.as_raw_fd(), &mut self.front.head, targets) };
            match read {
                Ok(Read::Bytes(bytes)) => {
                    let head = &self.front.head;
                    let transfers = matches!(head.opcode(), opcode::READ | opcode::WRITE);
                    let bulk = transfers && head.size() >= BULK_BYTES;
                    self.front.accept(bytes);
                    if bulk {
                        return Taken::Many;
                    }
                }
                Ok(Read::Nothing) => return Taken::Few,
                Ok(Read::Gone) | Err(_) => return Taken::Gone,
            }
        }
        Taken::Many
    }
}
