//! See `nightlatch_fuzz::decisions`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::decisions(data));
