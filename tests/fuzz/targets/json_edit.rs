//! Fuzzes `weir_fuzz::json_edit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::json_edit(data));
