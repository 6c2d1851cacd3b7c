//! See `nightlatch_fuzz::sshcert_parse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::sshcert_parse(data));
