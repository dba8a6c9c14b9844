//! Fuzzes `weir_fuzz::anthropic_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::anthropic_request(data));
