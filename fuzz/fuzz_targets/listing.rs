//! See `nightlatch_fuzz::listing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::listing(data));
