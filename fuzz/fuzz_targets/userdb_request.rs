//! See `nightlatch_fuzz::userdb_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::userdb_request(data));
