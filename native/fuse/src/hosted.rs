//! The front that the tree worker hosts: the same requests, read without waiting.
use crate::device::{self, Read};
use crate::protocol::opcode;
use crate::serve::Front;
use millrace_core::{Engine, HostedFront, Taken};
use std::os::fd::RawFd;
use std::sync::Arc;

/// Payloads from here on are bulk: several fronts read and copy them faster.
const BULK_BYTES: usize = 64 << 10;
/// Requests of one look; a single program has fewer on their way.
const REQUESTS_MAX: usize = 4;

/// A front on a descriptor that never waits, read when somebody says so: /dev/fuse, or what stands in for it where there
/// is no kernel. The descriptor must stay open until every request is answered: see [`Engine::keep_open`].
#[must_use]
pub fn front_on(engine: Arc<Engine>, fd: RawFd) -> Box<dyn HostedFront> {
    Box::new(Hosted::new(engine, fd))
}

/// One more descriptor of the connection, which is only read while the tree worker wants to.
pub(crate) struct Hosted {
    front: Front,
    fd: RawFd,
}

impl Hosted {
    /// `fd` is a clone of its own that the engine keeps open; it must not block.
    pub(crate) fn new(engine: Arc<Engine>, fd: RawFd) -> Self {
        Self { front: Front::hosted(engine, fd), fd }
    }
}

impl HostedFront for Hosted {
    fn take(&mut self) -> Taken {
        for _ in 0..REQUESTS_MAX {
            let Some(targets) = self.front.ready() else {
                return Taken::Many;
            };
            // SAFETY: the targets belong to this front alone.
            let read = unsafe { device::try_read(self.fd, &mut self.front.head, targets) };
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

    fn rest(&mut self) {
        self.front.rest();
    }
}
