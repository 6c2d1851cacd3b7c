//! See `nightlatch_fuzz::break_glass`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::break_glass(data));
