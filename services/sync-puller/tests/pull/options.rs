//! What can be wrong with the puller's options and files, and what is right.

use std::{fs, process::Command};

use super::{Peer, files, found, incoming};

/// Runs the puller with `args`; status, standard error.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tentacle-sync-puller")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_wrong_value_ends_the_start_with_one_line() {
    let incoming = incoming();
    let folder = incoming.path().to_str().unwrap();
    let cases: [(&[&str], &str); 28] = [
        (&[], "--sync-address: no source is named"),
        (&["--sync-address", "a"], "--incoming-dir: nowhere for the files to go"),
        (&["--sync-address", "a:0"], "--sync-address: \"a:0\": the port must be a number from 1 to 65535"),
        (&["--sync-address", "a,,b", "--incoming-dir", folder], "--sync-address: \"\": the host is missing"),
        (&["--sync-address", "a,a:41121", "--incoming-dir", folder], "a:41121 is named twice"),
        (&["--sync-port", "70000"], "--sync-port: \"70000\": a port is a whole number from 1 to 65535"),
        (&["--sync-timeout", "x"], "--sync-timeout: \"x\""),
        (&["--sync-retries", "-1"], "--sync-retries: \"-1\""),
        (&["--connections", "0"], "--connections: \"0\""),
        (&["--interval", "0"], "--interval: \"0\""),
        (&["--sync-mode", "quick"], "\"quick\": allowed are auto, safe and fast"),
        (&["--syncserver", "2"], "allowed are 0 and 1"),
        (&["--forward-to", ":1"], "--forward-to: \":1\": the host is missing"),
        (&["--forward-to", "a,"], "--forward-to: \"a,\": \"\": the host is missing"),
        (&["--forward-to", "a,b:0"], "\"b:0\": the port must be a number from 1 to 65535"),
        (&["--forward-to", "a,b,a:41121"], "a:41121 is named twice (each server once)"),
        (&["--max-connections", "0"], "--max-connections: \"0\": a whole number from 1 to 65536 is needed"),
        (&["--max-connections", "65537"], "--max-connections: \"65537\""),
        (&["--max-connections", "many"], "--max-connections: \"many\""),
        (&["--sync-address", "a", "--forward-to", "b", "--forward-verify-name", "x"], "forward_tls: "),
        (&["--sync-address", "a", "--incoming-dir", "/none/such"], "/none/such: cannot be used"),
        (&["--sync-ca", "/none/such.pem"], "--sync-ca: \"/none/such.pem\": the file cannot be used"),
        (&["--sync-address", "a", "--sync-ca", "/dev/null"], "tls: /dev/null: "),
        (&["--sync-address", "a", "--sync-key", "/dev/null"], "tls: key: only goes with a certificate"),
        (
            &["--sync-address", "a", "--sync-tls", "--verify-name", "x"],
            "verify_name: \"x\": allowed are auto and strict",
        ),
        (
            &["--sync-address", "a", "--sync-tls", "--server-name", "a b"],
            "server_name: \"a b\": a host name or an address",
        ),
        (
            &["--sync-address", "a", "--pin-sha256", "12"],
            "pin_sha256: \"12\": 64 hexadecimal digits are needed",
        ),
        (&["--sync-address", "a", "--incoming-dir", folder, "--folders", "../x"], "folders: \"../x\""),
    ];
    for (args, wanted) in cases {
        let (status, error) = run(args);
        assert_eq!(status, Some(1), "{args:?}");
        assert!(error.contains(wanted), "{args:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    }
}

#[test]
fn a_wrong_part_in_a_cluster_ends_the_start_with_one_line() {
    let long = "x".repeat(254);
    let cases: [(&[&str], &str); 17] = [
        (&["--coordination", "etcd"], "--coordination: \"etcd\": allowed are none and kubernetes"),
        (
            &["--coordination", "kubernetes", "--shards", "0"],
            "--shards: \"0\": a whole number from 1 to 1024",
        ),
        (&["--coordination", "kubernetes", "--shards", "1025"], "--shards: \"1025\""),
        (&["--coordination", "kubernetes", "--lease-duration", "2"], "allowed are 3 to 3600 seconds"),
        (&["--coordination", "kubernetes", "--lease-duration", "3601"], "allowed are 3 to 3600 seconds"),
        (&["--coordination", "kubernetes", "--lease-name", "My_Leases"], "small letters, digits and -"),
        (&["--coordination", "kubernetes", "--lease-name", "-a"], "small letters, digits and -"),
        (&["--coordination", "kubernetes", "--namespace", "a/b"], "--namespace: \"a/b\""),
        (&["--coordination", "kubernetes", "--identity", ""], "--identity: "),
        (&["--coordination", "kubernetes", "--identity", "a\nb"], "a control character"),
        (&["--coordination", "kubernetes", "--identity", &long], "at most 253 bytes"),
        (&["--coordination", "kubernetes", "--once"], "--once: one round takes no part"),
        (&["--shards", "8"], "--shards: only goes with --coordination kubernetes"),
        (&["--coordination", "none", "--lease-duration", "9"], "--lease-duration: only goes with"),
        (
            &["--namespace", "a"],
            "--namespace: only goes with --coordination kubernetes or --custom-resources",
        ),
        (&["--custom-resources", "--lease-name", "a"], "--lease-name: only goes with"),
        (&["--custom-resources", "--once"], "--once: "),
    ];
    let incoming = incoming();
    let always = ["--sync-address", "a", "--incoming-dir", incoming.path().to_str().unwrap()];
    for (args, wanted) in cases {
        let (status, error) = run(&[&always[..], args].concat());
        assert_eq!(status, Some(1), "{args:?}");
        assert!(error.contains(wanted), "{args:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    }
}

#[test]
fn without_a_cluster_it_says_what_is_missing() {
    let incoming = incoming();
    let folder = incoming.path().to_str().unwrap();
    for (option, wanted) in [
        (&["--coordination", "kubernetes"][..], "--coordination kubernetes: no cluster: "),
        (&["--custom-resources"][..], "--custom-resources: no cluster: "),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tentacle-sync-puller"));
        command.args(["--sync-address", "a", "--incoming-dir", folder]).args(option);
        command.env("KUBECONFIG", "/none/such").env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(wanted) && error.contains("KUBECONFIG=FILE"), "{error}");
    }
}

#[test]
fn switched_off_it_says_so_and_exits_with_0() {
    let home = incoming();
    let conf = home.path().join("pandora_server.conf");
    fs::write(&conf, "# a comment\nservername x\nSYNCSERVER 0\nincomingdir /none\n").unwrap();
    let (status, log) = run(&["-F", conf.to_str().unwrap()]);
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("switched off"), "{log}");
}

#[test]
fn pandora_server_conf_is_read_and_tokens_of_others_are_passed_over() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    let (home, incoming) = (incoming(), incoming());
    let (host, port) = peer.start().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let conf = home.path().join("pandora_server.conf");
    let text = format!(
        "servername pandora\n# syncserver 0\nsyncserver 1\nsync_address {host} \nsync_port {port}\n\
         sync_retries 3\nSync_Timeout 2\nsync_block_size 65535\nincomingdir {}\ndbengine mysql\n",
        incoming.path().display()
    );
    fs::write(&conf, text).unwrap();
    let (status, log) = run(&["-F", conf.to_str().unwrap(), "--once"]);
    assert_eq!(status, Some(0), "{log}");
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
}

#[test]
fn each_source_has_settings_of_its_own_in_yaml() {
    let (one, two) = (Peer::default(), Peer::default().with_password("9e769017c85f064977fe6a658f207fa6"));
    one.put("a.data", "hello");
    one.put("a.conf", "cfg");
    two.put("b.data", "world");
    two.put("b.conf", "left");
    let (home, incoming) = (incoming(), incoming());
    fs::write(home.path().join("password"), "secret\n").unwrap();
    let (two_host, two_port) =
        two.start().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let yaml = home.path().join("sources.yaml");
    let text = format!(
        "incoming_dir: {}\ndefaults: {{timeout: 2, folders: [{{name: conf, argument: .conf}}]}}\nsources:\n  - address: {}\n  - \
         {{address: {two_host}, port: {two_port}, password_file: {}, folders: [], connections: 1, mode: fast}}\n",
        incoming.path().display(),
        one.start(),
        home.path().join("password").display(),
    );
    fs::write(&yaml, text).unwrap();
    let (status, log) = run(&["--config", yaml.to_str().unwrap(), "--once"]);
    assert_eq!(status, Some(0), "{log}");
    let all = files([("a.data", "hello"), ("b.data", "world"), ("conf/a.conf", "cfg")]);
    assert_eq!(found(incoming.path()), all);
    assert_eq!(two.names(), ["b.conf"]);
}

#[test]
fn a_wrong_yaml_file_ends_the_start_with_its_place() {
    let home = incoming();
    let yaml = home.path().join("sources.yaml");
    let cases = [
        ("sources:\n  - addres: x\n", "unknown field `addres`"),
        ("sources: 3\n", "invalid type"),
        ("sources: [{address: a, port: 70000}]\n", "70000"),
        ("sources: [{address: a, port: 0}]\n", "port"),
        ("sources: [{port: 1}]\n", "sources[0]: \"\": the host is missing"),
        ("sources: [{address: a, mode: quick}]\n", "mode: \"quick\": allowed are auto, safe and fast"),
        ("sources: [{address: a, connections: 0}]\n", "connections: 0: allowed are 1 to 256"),
        ("sources: [{address: a, interval: 0}]\n", "interval: 0: allowed are 1 to 86400"),
        ("sources: [{address: a, folders: [/etc]}]\n", "folders: \"/etc\""),
        ("sources: [{address: a, folders: 3}]\n", "folders: a list of names"),
        ("sources: [{address: a, password_file: /none/such}]\n", "/none/such: cannot be read"),
        ("sources: [{address: a, password: 31337}]\n", "a text is needed"),
        (
            "sources: [{address: a, password: x, password_file: y}]\n",
            "password: give either this or password_file",
        ),
        ("forward_to: ':1'\nsources: [{address: a}]\n", "forward_to: the host is missing"),
        ("forward_to: [a, ':1']\nsources: [{address: a}]\n", "forward_to: \":1\": the host is missing"),
        ("forward_to: 3\nsources: [{address: a}]\n", "forward_to: HOST[:PORT], or a list of them"),
        ("sources: [{address: a, forward_to: 'b,b'}]\n", "sources[0]: forward_to: b:41121 is named twice"),
        ("sources: [{address: a, forward_to: ''}]\n", "sources[0]: forward_to: the host is missing"),
        (
            "sources: [{address: a, forward_to: b, incoming_dir: /tmp}]\n",
            "sources[0]: forward_to: give either this or incoming_dir",
        ),
        (
            "sources: [{address: a, forward_to: b, overwrite: true}]\n",
            "sources[0]: overwrite: only goes with incoming_dir",
        ),
        (
            "sources: [{address: a, incoming_dir: /tmp, forward_tls: true}]\n",
            "sources[0]: forward_tls: only goes with forward_to, and its files go to /tmp",
        ),
        ("sources: [{address: a, forward_password: x}]\n", "forward_password: only goes with forward_to"),
        ("sources: [{address: a, forward_to: b, forward_password: 31337}]\n", "a text is needed"),
        (
            "sources: [{address: a, forward_to: b, forward_password: x, forward_password_file: y}]\n",
            "forward_password: give either this or forward_password_file",
        ),
        (
            "sources: [{address: a, forward_to: b, forward_password_file: /none/such}]\n",
            "forward_password_file: /none/such: cannot be read",
        ),
        (
            "sources: [{address: a, forward_to: b, forward_tls: {verify_name: x}}]\n",
            "sources[0]: forward_tls: verify_name: \"x\"",
        ),
        ("sources: [{address: a, incoming_dir: [x]}]\n", "invalid type"),
        ("sources: [{address: a, overwrite: 3}]\n", "invalid type"),
        (
            "defaults: {incoming_dir: /tmp}\nsources: [{address: a}]\n",
            "defaults: incoming_dir: belongs at the top of the file, or to a source",
        ),
        ("defaults: {forward_to: b}\nsources: [{address: a}]\n", "defaults: forward_to: belongs at the top"),
        ("sources: [{address: a, tls: 3}]\n", "tls: true, false, or a map"),
        ("sources: [{address: a, tls: {cacert: x}}]\n", "unknown field `cacert`"),
        ("sources: [{address: a, tls: {ca: /none/such}}]\n", "sources[0]: tls: /none/such: "),
        ("sources: [{address: a, tls: {key: /dev/null}}]\n", "key: only goes with a certificate"),
        ("sources: [{address: a, tls: {cert: x, key_password: 31337}}]\n", "a text is needed"),
        (
            "sources: [{address: a, tls: {cert: x, key_password: x, key_password_file: y}}]\n",
            "key_password: give either this or key_password_file",
        ),
        ("sources: [{address: a, tls: {pin_sha256: '00'}}]\n", "pin_sha256"),
        ("sources: [\n", "line 2"),
        ("other: 1\n", "unknown field `other`"),
    ];
    for (text, wanted) in cases {
        fs::write(&yaml, text).unwrap();
        let (status, error) = run(&["--config", yaml.to_str().unwrap(), "--incoming-dir", "/tmp"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(error.contains(wanted) && error.contains("sources.yaml"), "{text}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(!error.contains("31337"), "a secret is shown: {error}");
    }
}

#[test]
fn where_files_go_is_said_for_each_source_or_for_all() {
    let home = incoming();
    let yaml = home.path().join("sources.yaml");
    let run = |text: &str| {
        fs::write(&yaml, text).unwrap();
        run(&["--config", yaml.to_str().unwrap(), "--once"])
    };
    let folder = home.path().join("in");
    fs::create_dir(&folder).unwrap();
    let folder = folder.display();
    let (status, error) =
        run(&format!("sources: [{{address: a, incoming_dir: {folder}}}, {{address: b}}]\n"));
    assert_eq!(status, Some(1));
    assert!(error.contains("--incoming-dir: nowhere for the files to go"), "{error}");
    // A folder is either overwritten in or not.
    let (status, error) = run(&format!(
        "incoming_dir: {folder}\nsources: [{{address: 127.0.0.1:1}}, {{address: 127.0.0.1:2, overwrite: true}}]\n"
    ));
    assert_eq!(status, Some(1));
    assert!(error.contains("in: one source overwrites there and another does not"), "{error}");
    let peer = Peer::default();
    peer.put("a.data", "hello");
    let one = peer.start();
    let other = Peer::default().start();
    let (status, error) = run(&format!(
        "sources: [{{address: '{one}', incoming_dir: {folder}}}, {{address: '{other}', incoming_dir: {folder}/}}]\n"
    ));
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(found(&home.path().join("in")), files([("a.data", "hello")]));
}

#[test]
fn what_is_wrong_with_tls_to_the_central_server_ends_the_start() {
    let home = incoming();
    let yaml = home.path().join("sources.yaml");
    fs::write(&yaml, "forward_to: a\nforward_tls: {verify_name: x}\nsources: [{address: a}]\n").unwrap();
    let (status, error) = run(&["--config", yaml.to_str().unwrap()]);
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("sources.yaml: forward_tls: verify_name: \"x\""), "{error}");
}

#[test]
fn an_incoming_folder_on_the_command_line_overrides_where_the_file_forwards_to() {
    let peer = Peer::default();
    peer.put("a.data", "hello");
    let (home, incoming) = (incoming(), incoming());
    let yaml = home.path().join("sources.yaml");
    fs::write(&yaml, format!("forward_to: 127.0.0.1:1\nsources: [{{address: '{}'}}]\n", peer.start()))
        .unwrap();
    let folder = incoming.path().to_str().unwrap();
    let (status, log) = run(&["--config", yaml.to_str().unwrap(), "--once", "--incoming-dir", folder]);
    assert_eq!(status, Some(0), "{log}");
    assert_eq!(found(incoming.path()), files([("a.data", "hello")]));
}
