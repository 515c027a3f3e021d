//! The request slot of a front that must not wait, in hand before it reads: no request needs more than one.
use millrace_core::Engine;
use std::sync::Arc;

pub(crate) struct Reserve {
    engine: Arc<Engine>,
    slot: Option<u32>,
}

impl Reserve {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, slot: None }
    }

    /// Have one, without waiting. False: none is free.
    pub(crate) fn fill(&mut self) -> bool {
        self.slot = self.slot.or_else(|| self.engine.try_take_request());
        self.slot.is_some()
    }

    /// Take it for the request that was read.
    pub(crate) fn take(&mut self) -> Option<u32> {
        self.slot.take()
    }

    /// Give back what there is.
    pub(crate) fn give_back(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.engine.drop_request(slot);
        }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.give_back();
    }
}
