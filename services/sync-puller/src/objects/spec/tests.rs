//! Specs as people write them.

use std::{fs, process::Command, sync::Arc, time::Duration};

use runtime::options::SecretSource;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::options::{Mode, Options, program};

/// What holds for all sources.
fn given(arguments: &[&str]) -> Given {
    let needed = ["--incoming-dir", "/tmp", "--sync-address", "other"];
    let arguments = needed.iter().chain(arguments).map(|&text| text.into());
    let runtime::options::Given::Layers(layers) = program("puller").parse(arguments, []).unwrap() else {
        panic!("a text was asked for");
    };
    Options::from_layers(&layers).unwrap().given
}

fn secret(name: &str, keys: &[(&str, &str)]) -> (String, Found) {
    let keys = keys.iter().map(|(key, text)| ((*key).to_owned(), Secret::from(text.as_bytes().to_vec())));
    (name.to_owned(), Found::Here(Arc::new(keys.collect())))
}

fn read(spec: Value, secrets: &[(String, Found)], given: &Given) -> Result<options::Source, Refusal> {
    let spec: TentacleSourceSpec = serde_json::from_value(spec).unwrap();
    Reader { namespace: "ships", secrets, given }.source(&spec)
}

/// A folder with a certificate, its key, and another key.
fn certificates() -> TempDir {
    let folder = TempDir::new().unwrap();
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -subj /CN=web01",
        "genpkey -algorithm ED25519 -out other.pem",
    ] {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    folder
}

#[test]
fn each_field_is_taken_and_the_rest_is_as_for_all_sources() {
    let given = given(&["--interval", "60", "--sync-port", "5000", "--folders", "conf"]);
    let source = read(json!({ "address": "ship7" }), &[], &given).unwrap();
    assert_eq!(source.address.to_string(), "ship7:5000");
    assert_eq!((source.interval, source.connections, source.mode), (Duration::from_secs(60), 4, Mode::Auto));
    assert_eq!((source.password, source.tls), (None, None));
    assert_eq!(source.folders, [Folder::named("conf")]);

    let spec = json!({
        "address": "ship7", "port": 41122, "interval": 300, "connections": 8, "timeout": 20, "retries": 1,
        "mode": "safe", "passwordSecret": { "name": "p", "key": "word" },
        "folders": [{ "name": "md5" }, { "name": "x", "argument": "y.z" }],
    });
    let source = read(spec.clone(), &[secret("p", &[("word", "geheim\n")])], &given).unwrap();
    assert_eq!(source.address.to_string(), "ship7:41122");
    assert_eq!((source.interval, source.connections, source.mode), (Duration::from_secs(300), 8, Mode::Safe));
    assert_eq!(source.deadline.as_duration(), Duration::from_secs(40));
    assert_eq!(source.password, Some(SecretSource::Given(b"geheim".to_vec().into())));
    let y = Folder { name: "x".to_owned(), argument: "y.z".to_owned() };
    assert_eq!(source.folders, [Folder::named("md5"), y]);
    assert!(!format!("{source:?}").contains("geheim"));

    let other = read(spec.clone(), &[secret("p", &[("word", "anders")])], &given).unwrap();
    assert_ne!(source, other, "a password that changes is seen");
    assert_eq!(source, read(spec, &[secret("p", &[("word", "geheim")])], &given).unwrap());
}

#[test]
fn what_is_wrong_is_said_in_a_word_and_a_line() {
    let given = given(&[]);
    let secrets = [
        secret("empty", &[("password", "\n")]),
        secret("other", &[("x", "y")]),
        ("closed".to_owned(), Found::Forbidden("secrets \"closed\" is forbidden".to_owned())),
        ("gone".to_owned(), Found::Absent),
        secret("odd", &[("tls.crt", "x"), ("tls.key", "x"), ("ca.crt", "x")]),
    ];
    for (spec, reason, why) in [
        (json!({ "address": "" }), "InvalidAddress", "address: \"\": the host is missing"),
        (json!({ "address": "a b" }), "InvalidAddress", "address: \"a b\": a host holds no blanks"),
        (json!({ "address": "a:0" }), "InvalidAddress", "the port must be a number from 1 to 65535"),
        (json!({ "address": "a", "port": 0 }), "InvalidAddress", "port: allowed are 1 to 65535"),
        (json!({ "address": "a", "interval": 0 }), "InvalidSpec", "interval: 0: allowed are 1 to 86400"),
        (json!({ "address": "a", "timeout": 90000 }), "InvalidSpec", "timeout: 90000: allowed are"),
        (json!({ "address": "a", "retries": 2000 }), "InvalidSpec", "retries: 2000: allowed are 0 to 1000"),
        (
            json!({ "address": "a", "connections": 999 }),
            "InvalidSpec",
            "connections: 999: allowed are 1 to 256",
        ),
        (
            json!({ "address": "a", "mode": "quick" }),
            "InvalidSpec",
            "mode: \"quick\": allowed are auto, safe",
        ),
        (json!({ "address": "a", "folders": [{ "name": "../x" }] }), "InvalidSpec", "folders: \"../x\""),
        (
            json!({ "address": "a", "tls": { "verifyName": "x", "pinSha256": "0f".repeat(32) } }),
            "InvalidSpec",
            "verify_name: \"x\": allowed are auto and strict",
        ),
        (json!({ "address": "a", "tls": { "pinSha256": "12" } }), "InvalidSpec", "64 hexadecimal digits"),
        (
            json!({ "address": "a", "tls": { "serverName": "b" } }),
            "InvalidSpec",
            "server_name: only goes with ca or pin_sha256",
        ),
        (
            json!({ "address": "a", "passwordSecret": { "name": "gone" } }),
            "SecretNotFound",
            "secret ships/gone is not there",
        ),
        (
            json!({ "address": "a", "passwordSecret": { "name": "closed" } }),
            "SecretForbidden",
            "secret ships/closed: secrets \"closed\" is forbidden (let this process's role get it)",
        ),
        (
            json!({ "address": "a", "passwordSecret": { "name": "other" } }),
            "SecretInvalid",
            "secret ships/other: has no key password",
        ),
        (
            json!({ "address": "a", "passwordSecret": { "name": "empty" } }),
            "SecretInvalid",
            "secret ships/empty: password: is empty",
        ),
        (
            json!({ "address": "a", "tls": { "secretName": "other" } }),
            "SecretInvalid",
            "secret ships/other: has no key tls.crt",
        ),
        (
            json!({ "address": "a", "tls": { "caSecretName": "other" } }),
            "SecretInvalid",
            "secret ships/other: has no key ca.crt",
        ),
        (
            json!({ "address": "a", "tls": { "secretName": "odd" } }),
            "SecretInvalid",
            "secret ships/odd: tls.crt: holds no certificate, but no PEM at all",
        ),
        (
            json!({ "address": "a", "tls": { "caSecretName": "odd" } }),
            "SecretInvalid",
            "secret ships/odd: ca.crt: holds no certificate",
        ),
    ] {
        let refusal = read(spec.clone(), &secrets, &given).unwrap_err();
        assert_eq!(refusal.reason, reason, "{spec}: {refusal:?}");
        assert!(refusal.why.contains(why) && !refusal.why.contains('\n'), "{spec}: {refusal:?}");
    }
}

#[test]
fn certificates_come_from_secrets_and_never_from_files() {
    let folder = certificates();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (certificate, key, other) = (text("cert.pem"), text("key.pem"), text("other.pem"));
    let secrets = [
        secret("pair", &[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &certificate)]),
        secret("alone", &[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", "")]),
        secret("wrong", &[("tls.crt", &certificate), ("tls.key", &other)]),
        secret("ca", &[("ca.crt", &certificate)]),
    ];
    let given = given(&[]);
    let tls =
        |tls: Value| read(json!({ "address": "a", "tls": tls }), &secrets, &given).map(|source| source.tls);
    let pair = tls(json!({ "secretName": "pair", "serverName": "web01" })).unwrap().unwrap();
    assert_eq!(pair.authorities.as_ref().unwrap().to_string(), "secret ships/pair: ca.crt");
    assert!(pair.identity.is_some() && pair.server_name.as_deref() == Some("web01"));
    let shown = format!("{pair:?}");
    assert!(key.lines().skip(1).all(|line| line.starts_with('-') || !shown.contains(line)), "{shown}");

    assert_eq!(tls(json!({ "secretName": "alone" })).unwrap().unwrap().authorities, None);
    let both = tls(json!({ "secretName": "pair", "caSecretName": "ca" })).unwrap().unwrap();
    assert_eq!(both.authorities.unwrap().to_string(), "secret ships/ca: ca.crt");
    assert!(
        tls(json!({ "caSecretName": "ca", "verifyName": "strict" })).unwrap().unwrap().identity.is_none()
    );
    assert!(tls(json!({})).unwrap().is_some());
    assert_eq!(tls(json!({ "enabled": false, "secretName": "none" })), Ok(None));

    let refusal = tls(json!({ "secretName": "wrong" })).unwrap_err();
    assert!(
        refusal.why.contains("the key in secret ships/wrong: tls.key is not this certificate's"),
        "{refusal:?}"
    );
}
