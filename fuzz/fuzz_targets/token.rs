//! See `nightlatch_fuzz::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::token(data));
