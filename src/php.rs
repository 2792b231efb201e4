//! What Rust asks of PHP, by the C shim: none of it can longjmp.
#![allow(unsafe_code)]

use std::ffi::c_int;

unsafe extern "C" {
    fn clk_shim_is_table_used() -> bool;
    fn clk_shim_set_table_used(used: bool);
    fn clk_shim_interrupted() -> bool;
    fn clk_shim_is_out_of_memory() -> bool;
    fn clk_shim_hold_signals() -> bool;
    fn clk_shim_let_signals();
    fn clk_shim_fiber() -> usize;
    fn clk_shim_in_coroutine() -> bool;
    fn clk_shim_hooked() -> bool;
    fn clk_shim_same_open_file(one: c_int, other: c_int) -> bool;
    fn clk_shim_set_inherited(fd: c_int, inherited: bool) -> bool;
}

/// A fiber that runs, or [`NO_FIBER`].
pub(crate) type Fiber = usize;

/// Outside of fibers.
pub(crate) const NO_FIBER: Fiber = 0;

/// Whether there may be anything in this thread's table. The shim keeps it, so that it need not call Rust for a request
/// that has no locks.
pub(crate) fn is_table_used() -> bool {
    // SAFETY: reads a flag of the calling thread.
    unsafe { clk_shim_is_table_used() }
}

/// Says so.
pub(crate) fn set_table_used(used: bool) {
    // SAFETY: sets a flag of the calling thread.
    unsafe { clk_shim_set_table_used(used) }
}

/// Whether PHP wants the thread back: a time limit, a signal for user code, or one that is [held off](HeldSignals).
pub(crate) fn interrupted() -> bool {
    // SAFETY: reads flags of the calling thread, which is PHP's.
    unsafe { clk_shim_interrupted() }
}

/// Whether PHP ends the script for its memory limit as soon as our function has returned; what is built meanwhile is for
/// nobody, and at twice the limit PHP ends the process.
pub(crate) fn is_out_of_memory() -> bool {
    // SAFETY: reads the state of the calling thread, which is PHP's.
    unsafe { clk_shim_is_out_of_memory() }
}

/// While it is there, the server module ends the process in no signal's handler. One within another does nothing.
pub(crate) struct HeldSignals(bool);

impl HeldSignals {
    pub(crate) fn new() -> Self {
        // SAFETY: counts up for the calling thread, which is PHP's.
        Self(unsafe { clk_shim_hold_signals() })
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: counts down. A handler may end the process here, where nothing of ours is half done.
            unsafe { clk_shim_let_signals() };
        }
    }
}

/// The fiber that runs: a number that no other has while it exists.
pub(crate) fn fiber() -> Fiber {
    // SAFETY: compares two pointers of the calling thread, which is PHP's.
    unsafe { clk_shim_fiber() }
}

/// Whether a coroutine of Swoole or `OpenSwoole` runs, which PHP does not know as a fiber.
pub(crate) fn in_coroutine() -> bool {
    // SAFETY: looks up a module and a class of the calling thread, which is PHP's, and calls an internal function of that
    // module's that returns a number.
    unsafe { clk_shim_in_coroutine() }
}

/// Whether the operations of PHP's plain streams pass through the shim.
pub(crate) fn is_hooked() -> bool {
    // SAFETY: compares two function pointers.
    unsafe { clk_shim_hooked() }
}

/// Whether two descriptors of this process are copies of one (dup(2)). Where the kernel does not
/// tell, no.
pub(crate) fn is_same_open_file(one: c_int, other: c_int) -> bool {
    // SAFETY: asks the kernel about two numbers; any are allowed.
    unsafe { clk_shim_same_open_file(one, other) }
}

/// Whether programs that this process starts get this descriptor; true: that was otherwise.
pub(crate) fn set_inherited(fd: c_int, inherited: bool) -> bool {
    // SAFETY: sets a flag of a number, which need not be a descriptor.
    unsafe { clk_shim_set_inherited(fd, inherited) }
}
