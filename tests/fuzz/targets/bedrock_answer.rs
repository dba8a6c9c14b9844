//! Fuzzes `weir_fuzz::bedrock_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bedrock_answer(data));
