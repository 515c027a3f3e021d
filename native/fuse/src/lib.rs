//! The kernel front: speaks the FUSE protocol on /dev/fuse and only enqueues (invariant 1).
//!
//! [`Session::mount`] attaches a mount point, [`Session::serve`] starts one thread per cloned descriptor. A thread
//! reads a request so that the payload of a WRITE lands in a frame of the slab, cuts it at the borders of frames
//! and regions, queues the pieces, and answers. Everything else becomes a request slot and a descriptor.
//!
//! [`Bridge`] queues in the same way what JavaScript was called for: by the `fuse-native` binding, whose calls
//! [`libfuse2`] can read.

mod bridge;
mod device;
mod hosted;
mod landing;
pub mod libfuse2;
mod mount_point;
mod protocol;
mod reserve;
mod serve;
mod session;

pub use bridge::{Bridge, FULL, Order, PENDING, Watchers, when_left};
pub use hosted::front_on;
pub use mount_point::MountPoint;
pub use session::{MountError, Mounting, Session, negotiate};
