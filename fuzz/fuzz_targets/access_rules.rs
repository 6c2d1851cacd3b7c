//! See `nightlatch_fuzz::access_rules`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::access_rules(data));
