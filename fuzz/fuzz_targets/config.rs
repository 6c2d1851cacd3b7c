//! See `nightlatch_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::config(data));
