//! See `nightlatch_fuzz::ledger`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nightlatch_fuzz::ledger(data));
