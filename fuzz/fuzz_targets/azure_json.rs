//! See `nightlatch_fuzz::azure_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::azure_json(data));
