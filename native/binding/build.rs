//! Lets the linker leave Node's symbols open.
fn main() {
    napi_build::setup();
}
