//! Fuzzes `weir_fuzz::endpoint_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::endpoint_url(data));
