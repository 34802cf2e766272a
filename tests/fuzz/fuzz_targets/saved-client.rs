//! See `verification::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| verification::fuzz::drive("saved-client", input));
