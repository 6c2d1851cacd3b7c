//! See `nightlatch_fuzz::imds_answers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::imds_answers(data));
