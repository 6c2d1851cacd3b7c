//! See `nightlatch_fuzz::admit_line`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::admit_line(data));
