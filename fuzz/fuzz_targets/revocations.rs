//! See `nightlatch_fuzz::revocations`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::revocations(data));
