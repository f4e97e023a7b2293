//! Options, variables and tokens that cannot be taken: one line that names
//! what, its value and what is allowed.

use std::fs;

use tests::{Builder, Receiver};

#[test]
fn every_option_with_a_wrong_value_is_named_with_what_is_allowed() {
    for (arguments, said) in OPTIONS {
        assert_said(Receiver::builder().args(*arguments), said);
    }
}

#[test]
fn every_variable_with_a_wrong_value_is_named_with_what_is_allowed() {
    for (variable, value, said) in VARIABLES {
        assert_said(Receiver::builder().env(variable, value), &[&[*variable, *value], *said].concat());
    }
}

#[test]
fn every_switch_takes_no_value_and_its_variable_yes_or_no() {
    for switch in ["daemon", "insecure", "overwrite", "ssl-password", "quiet", "verbose", "very-verbose"] {
        let argument = format!("--{switch}=maybe");
        assert_said(Receiver::builder().args([&argument]), &[switch, "it is a switch and takes no value"]);
        let variable = format!("TENTACLE_{}", switch.to_uppercase().replace('-', "_"));
        let said = [&variable[..], r#""maybe""#, "allowed are 1, true, yes, on and 0, false, no, off"];
        assert_said(Receiver::builder().env(&variable, "maybe"), &said);
    }
}

#[test]
fn ext_opts_are_options_and_are_named() {
    for (value, said) in EXT_OPTS {
        assert_said(
            Receiver::builder().env("TENTACLE_EXT_OPTS", value),
            &[&["TENTACLE_EXT_OPTS"], *said].concat(),
        );
    }
}

#[test]
fn every_token_with_a_wrong_value_is_named_with_its_line() {
    for (token, value, said) in TOKENS {
        let place = format!("tentacle_server.conf line 3: {token}");
        let conf = format!("# a comment\n\n{token} {value}\n");
        assert_conf(&conf, &[&[place.as_str(), *value], *said].concat());
    }
}

#[test]
fn an_unknown_token_ends_the_start() {
    assert_conf(
        "port 41121\nprot 41122\n",
        &["tentacle_server.conf line 2", r#""prot""#, "no such token", "port"],
    );
}

#[test]
fn a_configuration_file_that_cannot_be_read_ends_the_start() {
    assert_said(
        Receiver::builder().args(["-F", "/missing.conf"]),
        &["-F/--config", "/missing.conf", "No such file"],
    );
    assert_said(Receiver::builder().args(["-F", "/tmp"]), &["-F/--config", "/tmp", "this is a folder"]);
}

#[test]
fn an_address_that_cannot_be_had_ends_the_start() {
    let foreign = Receiver::builder().address([192, 0, 2, 1].into());
    assert_said(foreign, &["192.0.2.1:41121", "it is not an address of this machine"]);
    let folder = tempfile::tempdir().unwrap();
    for (hosts, said) in [("no host", "cannot be resolved"), (",", "an address is empty")] {
        let mut command = tests::program_command("tentacle_server");
        command.args(["-a", hosts, "-s"]).arg(folder.path());
        let stderr = tests::run(command).stderr;
        assert!(stderr.contains(hosts) && stderr.contains(said) && stderr.lines().count() == 1, "{stderr}");
    }
}

#[test]
fn a_start_without_a_spool_asks_for_one() {
    let ended = tests::run(tests::program_command("tentacle_server"));
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("-s/--directory: the folder that holds the files must be named"));
}

#[test]
fn what_is_not_in_this_version_is_said_honestly() {
    for (arguments, said) in NOT_YET {
        assert_said(Receiver::builder().args(*arguments), &[&[arguments[0]], *said].concat());
    }
    for (token, said) in NOT_YET_TOKENS {
        assert_conf(&format!("{token} 1\n"), &[&[*token], *said].concat());
    }
}

fn assert_said(builder: Builder, said: &[&str]) {
    let line = builder.refused();
    assert!(line.starts_with("tentacle_server: error: "), "{line}");
    for said in said {
        assert!(line.contains(said), "{said} is not said in: {line}");
    }
}

fn assert_conf(conf: &str, said: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tentacle_server.conf");
    fs::write(&path, conf).unwrap();
    // The address is left to the file.
    let mut command = tests::program_command("tentacle_server");
    command.arg("-F").arg(&path);
    if !conf.contains("directory") {
        command.arg("-s").arg(folder.path());
    }
    let ended = tests::run(command);
    assert_eq!(ended.status.code(), Some(1), "{conf}{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    for said in said {
        assert!(ended.stderr.contains(said), "{said} is not said in: {}", ended.stderr);
    }
}

const PORTS: &str = "a port is a whole number from 1 to 65535";
const SECONDS: &str = "whole seconds from 1 to 86400 are needed";
const RETRIES: &str = "a whole number from 0 to 1000 is needed";
const CONNECTIONS: &str = "a whole number from 1 to 1000000 is needed";
const SIZES: &str = "bytes from 1 to 18446744073709551615 are needed";
const RESERVES: &str = "bytes from 0 to 18446744073709551615 are needed";
const FILES: &str = "a whole number from 0 to 18446744073709551615 is needed";
const PER_ADDRESS: &str = "a whole number from 0 to 1000000 is needed";
const AGES: &str = "an age is a whole number from 1, with s, m, h or d behind it";
const HTTP: &str = "such as 0.0.0.0:8080 or [::]:8080 (port 0 takes a free one)";
const BLOCKS: &str = "bytes from 512 to 1048576 are needed";

/// Arguments, and what the line must say. The address and the spool follow
/// behind, so that `-a` and `-s` are tested by the environment.
const OPTIONS: &[(&[&str], &[&str])] = &[
    (&["-e", "/missing.pem"], &["-e/--ssl-cert", "/missing.pem", "No such file"]),
    (&["-e", "/dev/null"], &["-e/--ssl-cert", "/dev/null"]),
    (&["-k", "/dev/null"], &["-k/--ssl-key", NO_CERTIFICATE]),
    (&["-f", "/dev/null"], &["-f/--ssl-ca", NO_CERTIFICATE]),
    (&["-w"], &["-w/--ssl-password", NO_CERTIFICATE]),
    (&["--key-password-file", "/dev/null"], &["--key-password-file", NO_CERTIFICATE]),
    (&["-p", "0"], &["-p/--port", r#""0""#, PORTS]),
    (&["-p", "65536"], &["-p/--port", r#""65536""#, PORTS]),
    (&["--port=http"], &["-p/--port", r#""http""#, PORTS]),
    (&["-c", "0"], &["-c/--max-connections", r#""0""#, CONNECTIONS]),
    (&["-c", "-5"], &["-c/--max-connections", r#""-5""#, CONNECTIONS]),
    (&["-m", "0"], &["-m/--max-size", r#""0""#, SIZES]),
    (&["-m", "big"], &["-m/--max-size", r#""big""#, SIZES]),
    (&["-m", "99999999999999999999"], &["-m/--max-size", SIZES]),
    (&["-r", "-1"], &["-r/--retries", r#""-1""#, RETRIES]),
    (&["-r", "many"], &["-r/--retries", r#""many""#, RETRIES]),
    (&["-t", "0"], &["-t/--timeout", r#""0""#, SECONDS]),
    (&["-t", "1.5"], &["-t/--timeout", r#""1.5""#, SECONDS]),
    (&["-i", "*:conf"], &["-i/--filters", "*"]),
    (&["-i", ".*:../up"], &["-i/--filters", "../up"]),
    (&["-i", ".*:/etc"], &["-i/--filters", "/etc"]),
    (&["-l", "/missing/log"], &["/missing/log", "No such file", "-l/--log-file"]),
    (&["-l", "/"], &["log file /", "-l/--log-file"]),
    (&["--log-format", "xml"], &["--log-format", r#""xml""#, "allowed are auto, human, json"]),
    (&["--block-size", "1"], &["--block-size", r#""1""#, BLOCKS]),
    (&["--drain-timeout", "0"], &["--drain-timeout", r#""0""#, SECONDS]),
    (&["--http-addr", "8080"], &["--http-addr", r#""8080""#, HTTP]),
    (&["--http-addr", "localhost:8080"], &["--http-addr", r#""localhost:8080""#, HTTP]),
    (&["--http-addr", "127.0.0.1:65536"], &["--http-addr", HTTP]),
    (&["--http-addr", "192.0.2.1:0"], &["--http-addr: 192.0.2.1:0", "it is not an address of this machine"]),
    (&["--reserve-space", "1%"], &["--reserve-space", r#""1%""#, RESERVES]),
    (&["--reserve-space", "-1"], &["--reserve-space", r#""-1""#, RESERVES]),
    (&["--spool-max-bytes", "much"], &["--spool-max-bytes", r#""much""#, RESERVES]),
    (&["--spool-max-files", "1k"], &["--spool-max-files", r#""1k""#, FILES]),
    (&["--expire", "7d"], &["--expire", r#""7d""#, "such as conf=7d or .=12h"]),
    (&["--expire", "conf=7d"], &["--expire", r#""conf=7d""#, "no filter (-i) has this folder"]),
    (&["--expire", ".=7"], &["--expire", r#"".=7""#, AGES]),
    (&["--max-connections-per-address", "-1"], &["--max-connections-per-address", r#""-1""#, PER_ADDRESS]),
    (&["--password-file", "/missing"], &["--password-file", "/missing", "No such file"]),
    (&["-x", ""], &["-x/--password"]),
    (&["-Z"], &["-Z", "no such option", "--help"]),
    (&["--prot", "1"], &["--prot", "is --port meant?"]),
    (&["operand"], &["operand", "only options are allowed here"]),
];

/// Name, value, and what the line must say beside the two.
const VARIABLES: &[(&str, &str, &[&str])] = &[
    ("TENTACLE_PORT", "0", &[PORTS]),
    ("TENTACLE_MAX_CONNECTIONS", "x", &[CONNECTIONS]),
    ("TENTACLE_MAX_SIZE", "0", &[SIZES]),
    ("TENTACLE_RETRIES", "x", &[RETRIES]),
    ("TENTACLE_TIMEOUT", "0", &[SECONDS]),
    ("TENTACLE_DRAIN_TIMEOUT", "0", &[SECONDS]),
    ("TENTACLE_BLOCK_SIZE", "1", &[BLOCKS]),
    ("TENTACLE_HTTP_ADDR", ":8080", &[HTTP]),
    ("TENTACLE_RESERVE_SPACE", "much", &[RESERVES]),
    ("TENTACLE_SPOOL_MAX_BYTES", "-1", &[RESERVES]),
    ("TENTACLE_SPOOL_MAX_FILES", "many", &[FILES]),
    ("TENTACLE_EXPIRE", ".=0d", &[AGES]),
    ("TENTACLE_MAX_CONNECTIONS_PER_ADDRESS", "x", &[PER_ADDRESS]),
    ("TENTACLE_LOG_FORMAT", "xml", &["allowed are auto, human, json"]),
    ("TENTACLE_FILTERS", "(:conf", &["the pattern is not valid"]),
    ("TENTACLE_CONFIG", "/missing", &["No such file"]),
    ("TENTACLE_PASSWORD_FILE", "/missing", &["No such file"]),
];

const EXT_OPTS: &[(&str, &[&str])] = &[
    ("-p 0", &["-p/--port", r#""0""#, PORTS]),
    ("-t 'x y'", &["-t/--timeout", r#""x y""#, SECONDS]),
    ("-s 'a", &["a quote is not closed"]),
    ("--nope", &["--nope", "no such option"]),
    ("operand", &["only options are allowed here"]),
];

/// Token, value, and what the line must say beside the two.
const TOKENS: &[(&str, &str, &[&str])] = &[
    ("ssl_cert", "/missing.pem", &["No such file"]),
    ("addresses", "127.0.0.1,,::1", &["an address is empty"]),
    ("port", "0", &[PORTS]),
    ("max_connections", "0", &[CONNECTIONS]),
    ("filters", "(:conf", &[]),
    ("max_size", "0", &[SIZES]),
    ("retries", "-1", &[RETRIES]),
    ("timeout", "none", &[SECONDS]),
    ("verbose", "3", &["allowed are 0, 1 (verbose) and 2 (very verbose)"]),
    ("block_size", "0", &[BLOCKS]),
    ("http_addr", "0.0.0.0", &[HTTP]),
    ("reserve_space", "-1", &[RESERVES]),
    ("spool_max_bytes", "x", &[RESERVES]),
    ("spool_max_files", "-1", &[FILES]),
    ("expire", "md5=7d", &["no filter (-i) has this folder"]),
    ("max_connections_per_address", "1000001", &[PER_ADDRESS]),
];

const NOT_YET: &[(&[&str], &[&str])] = &[
    (&["-g", "41121"], &["--proxy-port", "tentacle_server with -b"]),
    (&["-S", "install"], &["--service", "Windows services are for Windows"]),
];

const NOT_YET_TOKENS: &[(&str, &[&str])] = &[("proxy_port", &["tentacle_server with -b"])];

const NO_CERTIFICATE: &str = "only goes with a certificate (name one: -e FILE)";
