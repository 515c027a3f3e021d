//! What one request can need beside the frame that it lands in, kept by a front that must not wait.
use millrace_core::Engine;
use millrace_layout::NONE;
use std::sync::Arc;

/// A frame to assemble an answer in or to keep a long body in, and a request slot: no request needs more.
pub(crate) struct Reserve {
    engine: Arc<Engine>,
    frame: u32,
    request: u32,
}

impl Reserve {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, frame: NONE, request: NONE }
    }

    /// Have both, without waiting. False: there is not enough.
    pub(crate) fn fill(&mut self) -> bool {
        if self.frame == NONE {
            self.frame = self.engine.try_take_frame().unwrap_or(NONE);
        }
        if self.request == NONE {
            self.request = self.engine.try_take_request().unwrap_or(NONE);
        }
        self.frame != NONE && self.request != NONE
    }

    /// The frame, for the request that was read.
    pub(crate) fn take_frame(&mut self) -> Option<u32> {
        taken(&mut self.frame)
    }

    /// The request slot, likewise.
    pub(crate) fn take_request(&mut self) -> Option<u32> {
        taken(&mut self.request)
    }

    /// Give back what there is.
    pub(crate) fn give_back(&mut self) {
        if let Some(frame) = taken(&mut self.frame) {
            self.engine.free_frame(frame);
        }
        if let Some(request) = taken(&mut self.request) {
            self.engine.drop_request(request);
        }
    }
}

fn taken(index: &mut u32) -> Option<u32> {
    let taken = std::mem::replace(index, NONE);
    (taken != NONE).then_some(taken)
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.give_back();
    }
}
