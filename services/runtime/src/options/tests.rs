use std::io::Write;

use clap::value_parser;
use tempfile::NamedTempFile;

use super::*;
use crate::logs;

fn program() -> Program {
    let value = |id, short| Arg::new(id).long(id).short(short);
    let switch = |id, short| Arg::new(id).long(id).short(short).action(ArgAction::SetTrue);
    let command = Command::new("tentacle_server")
        .version("1.2.3")
        .about("Receives files")
        .args(logs::arguments())
        .arg(value("addresses", 'a').value_name("ADDRESS").value_delimiter(',').action(ArgAction::Append))
        .arg(value("port", 'p').value_name("PORT").value_parser(values::port))
        .arg(value("directory", 's').value_parser(value_parser!(PathBuf)))
        .arg(value("password", 'x').value_parser(values::secret()))
        .arg(Arg::new("password-file").long("password-file").value_parser(value_parser!(PathBuf)))
        .arg(value("config-file", 'F').value_parser(value_parser!(PathBuf)))
        .arg(value("ssl-cert", 'e').value_parser(value_parser!(PathBuf)))
        .arg(switch("ssl-password", 'w'))
        .arg(switch("insecure", 'I'))
        .arg(switch("overwrite", 'o'));
    Program::new(command).secrets(&["password"]).not_yet(NOT_YET).file(
        "config-file",
        FileFormat::TentacleServer,
        TOKENS,
    )
}

fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Given, OptionError> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    program().parse(arguments.iter().map(OsString::from), environment)
}

fn layers(arguments: &[&str], environment: &[(&str, &str)]) -> Layers {
    match parse(arguments, environment).unwrap() {
        Given::Layers(layers) => layers,
        Given::Text(text) => panic!("a text instead of options: {text}"),
    }
}

fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let message = parse(arguments, environment).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn each_layer_overrides_the_ones_below() {
    let config = file("port 4\n");
    let all =
        [("TENTACLE_EXT_OPTS", "-p 2"), ("TENTACLE_PORT", "3"), ("TENTACLE_CONFIG_FILE", path(&config))];
    for (top, source) in
        [Source::CommandLine, Source::ExtOpts, Source::Environment, Source::File].into_iter().enumerate()
    {
        let arguments: &[&str] = if top == 0 { &["-p", "1"] } else { &[] };
        let given = layers(arguments, &all[top.saturating_sub(1)..]);
        assert_eq!(given.get::<u16>("port"), Some(&(top as u16 + 1)));
        assert_eq!(given.source_of("port"), Some(source));
    }
    assert_eq!(layers(&[], &[]).get::<u16>("port"), None);
    assert_eq!(layers(&[], &[]).source_of("port"), None);
}

#[test]
fn a_higher_layer_turns_a_switch_off() {
    let config = file("insecure 1\noverwrite 1\nquiet true\n");
    let given = layers(&["-F", path(&config)], &[("TENTACLE_INSECURE", "0"), ("TENTACLE_VERBOSE", "Yes")]);
    assert!(!given.switch("insecure"));
    assert!(given.switch("overwrite"));
    assert!(given.switch("verbose"));
    assert!(!given.switch("quiet"), "a switch of the file is on with 1 alone");
    assert!(layers(&["-I"], &[("TENTACLE_INSECURE", "off")]).switch("insecure"));
}

#[test]
fn clusters_attached_values_and_repeated_options_are_read() {
    let given = layers(&["-vIop41121", "-p", "41122"], &[]);
    assert!(given.switch("verbose") && given.switch("insecure") && given.switch("overwrite"));
    assert_eq!(given.get::<u16>("port"), Some(&41122));
}

#[test]
fn an_option_that_collects_takes_all_values_of_its_highest_layer() {
    let given = layers(&["-a", "::1,a", "-a", "b"], &[("TENTACLE_ADDRESSES", "c")]);
    assert_eq!(given.get_many::<String>("addresses").unwrap(), ["::1", "a", "b"]);
}

#[test]
fn the_extra_options_are_split_as_a_shell_would() {
    let given = layers(&[], &[("TENTACLE_EXT_OPTS", r#"-s '/a b' -I --port="41122""#)]);
    assert_eq!(given.get::<PathBuf>("directory"), Some(&PathBuf::from("/a b")));
    assert_eq!(given.get::<u16>("port"), Some(&41122));
    assert!(given.switch("insecure"));
    assert!(refusal(&[], &[("TENTACLE_EXT_OPTS", "-s 'a")]).starts_with("TENTACLE_EXT_OPTS: a quote"));
    assert_eq!(
        refusal(&[], &[("TENTACLE_EXT_OPTS", "-I x")]),
        r#"TENTACLE_EXT_OPTS: "x": only options are allowed here, no operands"#
    );
}

#[test]
fn operands_are_taken_from_the_command_line_alone() {
    let command = Command::new("tentacle_client").version("1").arg(Arg::new("file").num_args(0..));
    let program = Program::new(command);
    let parse = |words: &str| {
        program.parse(["a", "b"].map(OsString::from), [("TENTACLE_EXT_OPTS".into(), OsString::from(words))])
    };
    match parse("").unwrap() {
        Given::Layers(layers) => assert_eq!(layers.operands::<String>("file"), ["a", "b"]),
        Given::Text(text) => panic!("a text instead of options: {text}"),
    }
    assert!(parse("c").unwrap_err().to_string().starts_with("TENTACLE_EXT_OPTS: only options"));
}

#[test]
fn an_empty_or_unknown_variable_is_as_if_absent() {
    let given = layers(&[], &[("TENTACLE_PORT", ""), ("TENTACLE_EXT_OPTS", ""), ("TENTACLE_SOMETHING", "x")]);
    assert_eq!(given.get::<u16>("port"), None);
    assert!(layers(&[], &[("TENTACLE_HELP", "1")]).get::<u16>("port").is_none());
}

#[test]
fn the_address_of_a_kubernetes_service_is_no_port() {
    let link = [("TENTACLE_PORT", "tcp://10.0.0.1:41121"), ("TENTACLE_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(layers(&[], &link).get::<u16>("port"), None);
    assert!(refusal(&[], &link[..1]).starts_with("TENTACLE_PORT"));
}

#[test]
fn the_last_line_of_a_token_wins() {
    let config = file("port 1\nport 70000\nport 2\nport \ninsecure 1\ninsecure 0");
    let given = layers(&["-F", path(&config)], &[]);
    assert_eq!(given.get::<u16>("port"), Some(&2));
    assert!(!given.switch("insecure"));
    assert_eq!(given.label("port"), format!("{} line 3: port", path(&config)));
}

#[test]
fn verbose_of_the_file_is_a_number() {
    for (value, switches) in [("0", [false, false]), ("1", [true, false]), ("2", [false, true])] {
        let config = file(&format!("verbose {value}"));
        let given = layers(&["-F", path(&config)], &[]);
        assert_eq!([given.switch("verbose"), given.switch("very-verbose")], switches);
    }
    let config = file("verbose 3");
    assert_eq!(
        refusal(&["-F", path(&config)], &[]),
        format!(r#"{} line 1: verbose: "3": allowed are 0, 1 (verbose) and 2 (very verbose)"#, path(&config))
    );
}

#[test]
fn an_unknown_token_of_tentacle_server_conf_ends_the_start() {
    let config = file("port 1\nprot 2\n");
    let message = refusal(&["-F", path(&config)], &[]);
    let expected =
        format!(r#"{} line 2: "prot": no such token (allowed are directory, insecure, "#, path(&config));
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn an_unknown_token_of_pandora_server_conf_is_passed_over() {
    let config = file("dbpass secret\nSYNC_PORT 41122\n");
    const SYNC: &[Token] = &[Token { name: "sync_port", sets: Sets::Value("port") }];
    let program = program().file("config-file", FileFormat::PandoraServer, SYNC);
    match program.parse(["-F", path(&config)].map(OsString::from), []).unwrap() {
        Given::Layers(layers) => assert_eq!(layers.get::<u16>("port"), Some(&41122)),
        Given::Text(text) => panic!("a text instead of options: {text}"),
    }
}

#[test]
fn a_configuration_file_that_cannot_be_read_ends_the_start() {
    let message = refusal(&["-F", "/missing/file"], &[]);
    assert!(message.starts_with("configuration file /missing/file: No such file"), "{message}");
    assert!(refusal(&["-F", "/"], &[]).starts_with("configuration file /: "));
    assert!(refusal(&["-F", "/dev/zero"], &[]).contains("more than 1048576 bytes"));
}

#[test]
fn a_wrong_value_is_named_as_it_was_given() {
    let config = file("port x");
    let reason = "a port is a whole number from 1 to 65535";
    assert_eq!(refusal(&["-p", "0"], &[]), format!(r#"-p/--port: "0": {reason}"#));
    assert_eq!(refusal(&["-p", "-I"], &[]), format!(r#"-p/--port: "-I": {reason}"#));
    assert_eq!(
        refusal(&[], &[("TENTACLE_EXT_OPTS", "--port a\\\nb")]),
        format!(r#"TENTACLE_EXT_OPTS: -p/--port: "ab": {reason}"#)
    );
    assert_eq!(refusal(&["--port", "a\nb"], &[]), format!(r#"-p/--port: "a\nb": {reason}"#));
    assert_eq!(refusal(&[], &[("TENTACLE_PORT", "65536")]), format!(r#"TENTACLE_PORT: "65536": {reason}"#));
    assert_eq!(
        refusal(&["-F", path(&config)], &[]),
        format!(r#"{} line 1: port: "x": {reason}"#, path(&config))
    );
}

#[test]
fn a_missing_value_and_a_wrong_choice_say_what_is_allowed() {
    assert_eq!(refusal(&["-p"], &[]), "-p/--port: a value is needed (PORT)");
    assert_eq!(
        refusal(&["--log-format", "xml"], &[]),
        r#"--log-format: "xml": allowed are auto, human, json"#
    );
    assert_eq!(refusal(&["--insecure=1"], &[]), r#"-I/--insecure: "1": it is a switch and takes no value"#);
    assert_eq!(
        refusal(&[], &[("TENTACLE_INSECURE", "2")]),
        r#"TENTACLE_INSECURE: "2": allowed are 1, true, yes, on and 0, false, no, off"#
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_where_text_is_needed() {
    let value = OsString::from_vec(b"\xff".to_vec());
    let error = program().parse([], [("TENTACLE_PORT".into(), value.clone())]).unwrap_err();
    assert_eq!(error.to_string(), "TENTACLE_PORT: the value is not UTF-8 text");
    let error = program().parse(["-p".into(), value], []).unwrap_err();
    assert_eq!(error.to_string(), "an argument: the value is not UTF-8 text");
}

#[test]
fn an_unknown_option_is_named_with_what_may_be_meant() {
    assert_eq!(refusal(&["--prot", "1"], &[]), r#""--prot": no such option (is --port meant?)"#);
    assert_eq!(refusal(&["-vZ"], &[]), r#""-Z": no such option (`tentacle_server --help` lists them)"#);
    assert_eq!(refusal(&["x"], &[]), r#""x": only options are allowed here, no operands"#);
}

#[test]
fn an_option_that_is_not_there_yet_ends_the_start() {
    let what = "TLS is not in this version";
    assert_eq!(refusal(&["-e", "c.pem"], &[]), format!("-e/--ssl-cert: {what}"));
    assert_eq!(refusal(&["-w"], &[]), format!("-w/--ssl-password: {what}"));
    assert_eq!(refusal(&[], &[("TENTACLE_SSL_CERT", "c")]), format!("TENTACLE_SSL_CERT: {what}"));
    let config = file("ssl_cert c.pem");
    assert_eq!(refusal(&["-F", path(&config)], &[]), format!("{} line 1: ssl_cert: {what}", path(&config)));
    let config = file("ssl_cert\nssl_password 0\n");
    layers(&["-F", path(&config)], &[]);
}

#[test]
fn a_secret_comes_from_the_higher_layer() {
    let from_file = file("in file\r\n");
    let in_file = path(&from_file);
    let secret = |arguments: &[&str], environment: &[(&str, &str)]| {
        secret_from(&layers(arguments, environment), "password", "password-file").map(|secret| {
            secret.map(|source| String::from_utf8(source.read().unwrap().expose().to_vec()).unwrap())
        })
    };
    assert_eq!(secret(&[], &[]).unwrap(), None);
    assert_eq!(secret(&["-x", "-a b"], &[]).unwrap().unwrap(), "-a b");
    assert_eq!(secret(&["-x", "a"], &[("TENTACLE_PASSWORD_FILE", in_file)]).unwrap().unwrap(), "a");
    assert_eq!(
        secret(&["--password-file", in_file], &[("TENTACLE_PASSWORD", "a")]).unwrap().unwrap(),
        "in file"
    );
    let both = secret(&["-x", "a", "--password-file", in_file], &[]).unwrap_err().to_string();
    assert_eq!(both, "-x/--password: give either this or --password-file, not both");
}

#[test]
fn a_file_of_a_secret_must_hold_one() {
    let refusal = |path: &str| {
        secret_from(&layers(&["--password-file", path], &[]), "password", "password-file")
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(path(&file("\n"))).ends_with(": is empty, and must hold the secret"));
    assert!(refusal(path(&file(&"x".repeat(65537)))).contains("is longer than 65536 bytes"));
    assert!(refusal("/dev/zero").ends_with("is no regular file: a pipe cannot be read again"));
    assert!(refusal("/missing").starts_with(r#"--password-file: "/missing": cannot be read: No such file"#));
}

#[test]
fn a_pipe_in_place_of_a_secrets_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let why = Secret::from_file(&pipe).unwrap_err();
    assert_eq!(why, "is no regular file: a pipe cannot be read again");
}

#[test]
fn a_secret_is_in_no_message() {
    let picky =
        Arg::new("password").long("password").value_parser(|_: &str| Err::<String, _>("allowed is nothing"));
    let program = Program::new(Command::new("tentacle").version("1").arg(picky)).secrets(&["password"]);
    let message = program.parse(["--password".into(), "hush".into()], []).unwrap_err().to_string();
    assert_eq!(message, "--password: allowed is nothing");

    let given = layers(&["-x", "hush"], &[]);
    let secret = given.get::<Secret>("password").unwrap();
    assert!(!format!("{given:?} {secret:?} {secret}").contains("hush"));
}

#[test]
fn help_and_version_are_texts() {
    for arguments in [["-h"], ["--help"]] {
        match parse(&arguments, &[]).unwrap() {
            Given::Text(text) => {
                assert!(text.contains("Usage: tentacle_server") && text.contains("--port <PORT>"))
            }
            Given::Layers(_) => panic!("options instead of help"),
        }
    }
    assert!(
        matches!(parse(&["--version"], &[]).unwrap(), Given::Text(text) if text == "tentacle_server 1.2.3\n")
    );
}

const NOT_YET: &[NotYet] = &[
    NotYet { id: "ssl-cert", what: "TLS is not in this version" },
    NotYet { id: "ssl-password", what: "TLS is not in this version" },
];

const TOKENS: &[Token] = &[
    Token { name: "port", sets: Sets::Value("port") },
    Token { name: "directory", sets: Sets::Value("directory") },
    Token { name: "insecure", sets: Sets::Switch("insecure") },
    Token { name: "overwrite", sets: Sets::Switch("overwrite") },
    Token { name: "quiet", sets: Sets::Switch("quiet") },
    Token { name: "verbose", sets: Sets::By(logs::verbose_token) },
    Token { name: "ssl_cert", sets: Sets::Value("ssl-cert") },
    Token { name: "ssl_password", sets: Sets::Switch("ssl-password") },
];
