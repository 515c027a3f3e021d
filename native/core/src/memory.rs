//! The shared memory, as cells. No reference to bulk bytes is ever made here that could alias a writer's:
//! frames and inline cells are handed out as raw pointers, and who owns them is the protocol's business.
use crate::ring::{Cells, Ring, Words};
use millrace_layout::{
    Control, DESCRIPTOR_BYTES, FRAME_BYTES, FRAME_COUNT_BYTES, INLINE_BYTES, INODE_BYTES,
    INODE_SLOTS, REQUEST_BODY_BYTES, REQUEST_BYTES, REQUEST_SLOTS, RING_BYTES, RING_HEAD,
    RING_HEADER_BYTES, RING_PARKED, RING_TAIL, SHARD_FRAMES, descriptor,
};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A piece of memory that somebody else keeps mapped for the life of the engine.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First byte.
    pub base: *mut u8,
    /// Bytes.
    pub bytes: usize,
}

/// All memory that workers, fronts and movers share.
#[derive(Debug)]
pub struct Memory {
    control: Region,
    shards: Vec<Region>,
    inline: Region,
    frames: usize,
    data_workers: usize,
    layout: Control,
}

// SAFETY: the regions outlive the memory (contract of `new`), and every access goes through atomics or through
// raw pointers whose exclusive use the frame counts and rings establish.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

const HUGE_BYTES: usize = 2 << 20;

impl Memory {
    /// Lay the engine's cells over memory of the caller's. `None` when a region is too small or misaligned.
    ///
    /// Frames start at the next 2 MiB of each shard, so a shard needs 2 MiB more than its frames.
    ///
    /// # Safety
    /// Every region must stay mapped, zeroed at first, and be used only through this layout until the engine is gone.
    #[must_use]
    pub unsafe fn new(
        control: Region,
        shards: &[Region],
        inline: Region,
        frames: usize,
        data_workers: usize,
    ) -> Option<Self> {
        let layout = Control::new(frames, data_workers);
        let shards: Vec<Region> = shards
            .iter()
            .map(|s| {
                let skip = s.base.align_offset(HUGE_BYTES);
                Region { base: s.base.wrapping_add(skip), bytes: s.bytes.saturating_sub(skip) }
            })
            .collect();
        let fits = control.bytes >= layout.bytes
            && (control.base as usize).is_multiple_of(64)
            && inline.bytes >= INODE_SLOTS * INLINE_BYTES
            && shards.len() == frames.div_ceil(SHARD_FRAMES)
            && shards.iter().enumerate().all(|(i, s)| {
                s.bytes >= (frames - i * SHARD_FRAMES).min(SHARD_FRAMES) * FRAME_BYTES
            });
        if !fits {
            return None;
        }
        for shard in &shards {
            Self::advise(*shard, &[libc::MADV_HUGEPAGE, libc::MADV_DONTDUMP]);
        }
        Self::advise(inline, &[libc::MADV_DONTDUMP]);
        Self::advise(control, &[libc::MADV_DONTDUMP]);
        Some(Self { control, shards, inline, frames, data_workers, layout })
    }

    /// Plaintext must not reach a core dump (invariant 2), and big pages make frames cheaper. Best effort.
    fn advise(region: Region, advice: &[i32]) {
        let skip = region.base.align_offset(4096);
        let bytes = region.bytes.saturating_sub(skip) / 4096 * 4096;
        for &advice in advice {
            // SAFETY: the range lies inside the region; neither advice changes its content.
            unsafe { libc::madvise(region.base.add(skip).cast(), bytes, advice) };
        }
    }

    /// Frames of the slab.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Data workers; the tree worker comes on top.
    #[must_use]
    pub fn data_workers(&self) -> usize {
        self.data_workers
    }

    fn cell32(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset + 4 <= self.layout.bytes);
        // SAFETY: inside the control block, aligned, and only ever used as an atomic by native code.
        unsafe { AtomicU32::from_ptr(self.control.base.add(offset).cast()) }
    }

    fn cell64(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= self.layout.bytes);
        // SAFETY: as in `cell32`.
        unsafe { AtomicU64::from_ptr(self.control.base.add(offset).cast()) }
    }

    /// A word of the control header: see [`millrace_layout::header`].
    #[must_use]
    pub fn header(&self, cell: usize) -> &AtomicU32 {
        self.cell32(cell)
    }

    /// A counter of the control header.
    #[must_use]
    pub fn counter(&self, cell: usize) -> &AtomicU64 {
        self.cell64(cell)
    }

    /// A word of a request slot: see [`millrace_layout::request`].
    #[must_use]
    pub fn request(&self, slot: u32, cell: usize) -> &AtomicU32 {
        debug_assert!((slot as usize) < REQUEST_SLOTS);
        self.cell32(self.layout.requests + slot as usize * REQUEST_BYTES + cell)
    }

    /// A 64-bit cell of a request slot.
    #[must_use]
    pub fn request64(&self, slot: u32, cell: usize) -> &AtomicU64 {
        debug_assert!((slot as usize) < REQUEST_SLOTS);
        self.cell64(self.layout.requests + slot as usize * REQUEST_BYTES + cell)
    }

    /// The body bytes of a request slot: `REQUEST_BODY_BYTES` of them, owned by whoever owns the request.
    #[must_use]
    pub fn body(&self, slot: u32) -> *mut u8 {
        debug_assert!((slot as usize) < REQUEST_SLOTS);
        self.control.base.wrapping_add(self.layout.bodies + slot as usize * REQUEST_BODY_BYTES)
    }

    /// A word of an inode slot: see [`millrace_layout::inode`].
    #[must_use]
    pub fn inode(&self, slot: u32, cell: usize) -> &AtomicU32 {
        debug_assert!((slot as usize) < INODE_SLOTS);
        self.cell32(self.layout.inodes + slot as usize * INODE_BYTES + cell)
    }

    /// A 64-bit cell of an inode slot.
    #[must_use]
    pub fn inode64(&self, slot: u32, cell: usize) -> &AtomicU64 {
        debug_assert!((slot as usize) < INODE_SLOTS);
        self.cell64(self.layout.inodes + slot as usize * INODE_BYTES + cell)
    }

    /// The count of a frame: how many pieces and holders keep it from being reused.
    #[must_use]
    pub fn frame_count(&self, frame: u32) -> &AtomicU32 {
        debug_assert!((frame as usize) < self.frames);
        self.cell32(self.layout.frames + frame as usize * FRAME_COUNT_BYTES)
    }

    /// The first byte of a frame.
    #[must_use]
    pub fn frame(&self, frame: u32) -> *mut u8 {
        let (shard, index) = (frame as usize / SHARD_FRAMES, frame as usize % SHARD_FRAMES);
        self.shards[shard].base.wrapping_add(index * FRAME_BYTES)
    }

    /// The inline cell of an inode slot.
    #[must_use]
    pub fn inline(&self, slot: u32) -> *mut u8 {
        debug_assert!((slot as usize) < INODE_SLOTS);
        self.inline.base.wrapping_add(slot as usize * INLINE_BYTES)
    }

    /// The ring of a worker: 0 is the tree worker, n is data worker n.
    ///
    /// # Panics
    /// When there is no such worker.
    #[must_use]
    pub fn ring(&self, worker: usize) -> Ring<SharedCells<'_>> {
        assert!(worker <= self.data_workers);
        Ring(SharedCells { memory: self, base: self.layout.rings + worker * RING_BYTES })
    }

    /// Have the kernel back every frame with memory now, so that no stream pays for first touches. Changes nothing that
    /// is in the frames, so that it may run beside everything else. Gives up quietly where the kernel cannot (5.14).
    pub fn populate(&self, goes_on: impl Fn() -> bool) {
        const STEP_BYTES: usize = 16 << 20;
        for (i, shard) in self.shards.iter().enumerate() {
            let bytes = (self.frames - i * SHARD_FRAMES).min(SHARD_FRAMES) * FRAME_BYTES;
            for offset in (0..bytes).step_by(STEP_BYTES) {
                if !goes_on() {
                    return;
                }
                let length = STEP_BYTES.min(bytes - offset);
                // SAFETY: inside the shard; the advice makes pages present and leaves their content alone.
                unsafe {
                    libc::madvise(shard.base.add(offset).cast(), length, libc::MADV_POPULATE_WRITE);
                }
            }
        }
    }

    /// Overwrite what plaintext and names the shared memory holds.
    ///
    /// # Safety
    /// No thread may use the memory any more.
    pub unsafe fn wipe(&self) {
        for (i, shard) in self.shards.iter().enumerate() {
            let bytes = (self.frames - i * SHARD_FRAMES).min(SHARD_FRAMES) * FRAME_BYTES;
            // SAFETY: inside the shard, and nobody else uses it (contract).
            unsafe { std::ptr::write_bytes(shard.base, 0, bytes) };
        }
        for slot in 0..INODE_SLOTS as u32 {
            // Cells that were never used are not touched: they would only now become resident.
            if self
                .inode(slot, millrace_layout::inode::USED)
                .load(std::sync::atomic::Ordering::Relaxed)
                != 0
            {
                // SAFETY: as above.
                unsafe { std::ptr::write_bytes(self.inline(slot), 0, INLINE_BYTES) };
            }
        }
        // SAFETY: as above.
        unsafe {
            std::ptr::write_bytes(self.body(0), 0, REQUEST_SLOTS * REQUEST_BODY_BYTES);
        }
    }
}

/// The cells of one ring in the control block.
#[derive(Clone, Copy, Debug)]
pub struct SharedCells<'a> {
    memory: &'a Memory,
    base: usize,
}

impl Cells for SharedCells<'_> {
    fn tail(&self) -> &AtomicU32 {
        self.memory.cell32(self.base + RING_TAIL)
    }
    fn head(&self) -> &AtomicU32 {
        self.memory.cell32(self.base + RING_HEAD)
    }
    fn parked(&self) -> &AtomicU32 {
        self.memory.cell32(self.base + RING_PARKED)
    }
    fn sequence(&self, slot: usize) -> &AtomicU32 {
        self.memory.cell32(self.base + RING_HEADER_BYTES + slot * DESCRIPTOR_BYTES)
    }
    fn fill(&self, slot: usize, words: &Words) {
        let at = self.base + RING_HEADER_BYTES + slot * DESCRIPTOR_BYTES;
        #[expect(
            clippy::cast_ptr_alignment,
            reason = "rings lie on cache lines: `Memory::new` checks the base"
        )]
        // SAFETY: the slot is reserved for this producer, and the consumer reads it only after `sequence` says so.
        unsafe {
            let to = self.memory.control.base.add(at).cast::<u32>();
            std::ptr::copy_nonoverlapping(words[1..].as_ptr(), to.add(1), descriptor::WORDS - 1);
        }
    }
}
