//! See `nightlatch_fuzz::roles_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::roles_file(data));
