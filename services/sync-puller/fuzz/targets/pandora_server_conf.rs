#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::pandora_server_conf::run(input));
