#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::tentacle_server_conf::run(input));
