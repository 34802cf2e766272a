//! What functions that have returned leave on the stack: intermediate values of the curve, copies made by moves. R-31
//!
//! Keys and shares stay at one place of the heap and are wiped there. What computing with them leaves on the stack no type
//! can wipe; whoever drives a step overwrites it afterwards.

/// Deeper than the frames of any step.
const DEPTH_BYTES: usize = 128 << 10;

/// Overwrites the stack below the caller. No guarantee: compilers may keep values in other places, and registers that the
/// system saved are out of reach.
#[inline(never)]
pub fn stack_below() {
    let mut below = [0_u8; DEPTH_BYTES];
    core::hint::black_box(&mut below); // somebody might read it: it is written
}
