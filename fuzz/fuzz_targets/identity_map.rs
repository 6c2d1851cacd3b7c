//! See `nightlatch_fuzz::identity_map`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::identity_map(data));
