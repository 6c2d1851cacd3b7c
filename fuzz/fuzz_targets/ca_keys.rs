//! See `nightlatch_fuzz::ca_keys`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::ca_keys(data));
