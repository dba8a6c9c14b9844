//! Fuzzes `weir_fuzz::openai_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::openai_answer(data));
