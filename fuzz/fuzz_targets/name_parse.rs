//! See `nightlatch_fuzz::name_parse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::name_parse(data));
