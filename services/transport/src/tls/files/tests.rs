//! Files as openssl makes them.

use std::{fs, process::Command};

use tempfile::TempDir;

use super::*;

/// A folder in which openssl works.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// With a key of this kind and a certificate for it.
    fn with(kind: &str) -> Self {
        let files = Self::new();
        let made = match kind {
            "rsa" => "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem",
            "p256" => "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
            "p384" => "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key.pem",
            "p521" => "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key.pem",
            "rsa1024" => "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key.pem",
            _ => "genpkey -algorithm ED25519 -out key.pem",
        };
        files.openssl(made);
        files.openssl("req -x509 -key key.pem -out cert.pem -subj /CN=web01 -days 2");
        files
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.0).output().unwrap();
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pem(&self, name: &str) -> Pem {
        self.path(name).into()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    #[track_caller]
    fn loads(&self, certificate: &str, key: Option<&str>, password: Option<&str>) {
        let loaded = Identity::load(
            &self.pem(certificate),
            key.map(|key| self.pem(key)).as_ref(),
            password.map(str::as_bytes),
        );
        loaded.unwrap_or_else(|error| panic!("{certificate}, {key:?}: {error}"));
    }

    /// What is said of files that cannot be used: one line that names one.
    #[track_caller]
    fn refused(&self, certificate: &str, key: Option<&str>, password: Option<&str>) -> String {
        let key = key.map(|key| self.pem(key));
        let error =
            Identity::load(&self.pem(certificate), key.as_ref(), password.map(str::as_bytes)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&*self.0.path().to_string_lossy()) && !error.contains('\n'), "{error}");
        error
    }
}

#[test]
fn keys_of_every_kind_and_form_are_read() {
    for kind in ["rsa", "p256", "p384", "ed25519"] {
        let files = Files::with(kind);
        files.loads("cert.pem", Some("key.pem"), None);
        files.openssl("pkcs8 -topk8 -in key.pem -out encrypted.pem -passout pass:geheim");
        files.loads("cert.pem", Some("encrypted.pem"), Some("geheim"));
        // Not encrypted: the password is not looked at.
        files.loads("cert.pem", Some("key.pem"), Some("geheim"));
        if kind != "ed25519" {
            files.openssl("pkey -in key.pem -traditional -out traditional.pem");
            assert!(files.text("traditional.pem").contains(if kind == "rsa" {
                "BEGIN RSA"
            } else {
                "BEGIN EC"
            }));
            files.loads("cert.pem", Some("traditional.pem"), None);
        }
    }
    let files = Files::new();
    // As the guides' `openssl ecparam -genkey`, with the curve in front.
    files.openssl("ecparam -name prime256v1 -genkey -out key.pem");
    assert!(files.text("key.pem").starts_with("-----BEGIN EC PARAMETERS"));
    files.openssl("req -x509 -key key.pem -out cert.pem -subj /CN=web01");
    files.loads("cert.pem", Some("key.pem"), None);
}

#[test]
fn keys_are_decrypted_however_openssl_encrypts_them() {
    let files = Files::with("p256");
    for how in [
        "-v2 aes-128-cbc",
        // As OpenSSL 1.0 did: SHA-1, and no word of it.
        "-v2 aes-256-cbc -v2prf hmacWithSHA1",
        "-v2 aes-256-cbc -v2prf hmacWithSHA512",
        "-v2 des3",
        "-scrypt",
    ] {
        files.openssl(&format!("pkcs8 -topk8 {how} -in key.pem -out encrypted.pem -passout pass:geheim"));
        files.loads("cert.pem", Some("encrypted.pem"), Some("geheim"));
    }
}

#[test]
fn a_certificate_and_its_key_may_share_a_file() {
    let files = Files::with("p256");
    let (certificate, key) = (files.text("cert.pem"), files.text("key.pem"));
    files.openssl("pkcs8 -topk8 -in key.pem -out encrypted.pem -passout pass:geheim");
    files.write("a.pem", format!("{certificate}{key}"));
    files.write("b.pem", format!("Subject: CN=web01\n{key}{certificate}").replace('\n', "\r\n"));
    files.write("c.pem", format!("{}{certificate}", files.text("encrypted.pem")));
    files.loads("a.pem", None, None);
    files.loads("b.pem", None, None);
    files.loads("c.pem", None, Some("geheim"));
}

#[test]
fn chains_and_authorities_stand_one_after_the_other() {
    let (files, other) = (Files::with("p256"), Files::with("p256"));
    files.write("chain.pem", files.text("cert.pem") + &other.text("cert.pem"));
    files.loads("chain.pem", Some("key.pem"), None);
    Authorities::load(&files.pem("chain.pem")).unwrap();
    let validities = validities(&files.pem("chain.pem")).unwrap();
    assert_eq!(validities.len(), 2);
    assert_eq!(validities[0].subject, "CN=web01");
    assert_eq!(validities[0].not_after - validities[0].not_before, 2 * 86400);
    // The first is the key's.
    files.write("turned.pem", other.text("cert.pem") + &files.text("cert.pem"));
    assert!(files.refused("turned.pem", Some("key.pem"), None).contains("is not this certificate's"));
}

#[test]
fn a_file_in_which_nothing_vouches_for_any_is_no_ca_file() {
    let (files, small) = (Files::with("p256"), Files::with("rsa1024"));
    files.openssl("req -new -key key.pem -out web.csr -subj /CN=web02");
    files.openssl("x509 -req -in web.csr -CA cert.pem -CAkey key.pem -CAcreateserial -out issued.pem");
    files.write("small.pem", small.text("cert.pem"));
    let refused = |name: &str| Authorities::load(&files.pem(name)).unwrap_err().to_string();
    let said =
        "issued.pem: certificate 1 can vouch for nobody: it is neither an authority's nor signed by itself";
    assert!(refused("issued.pem").ends_with(said), "{}", refused("issued.pem"));
    assert!(refused("small.pem").ends_with("it has an RSA key below 2048 bits, which is not taken"));
    // In a bundle they are passed over.
    files.write("bundle.pem", files.text("issued.pem") + &files.text("cert.pem") + &files.text("small.pem"));
    let loaded = Authorities::load(&files.pem("bundle.pem")).unwrap();
    assert_eq!(loaded.unusable().len(), 2);
    assert!(loaded.unusable()[1].starts_with("certificate 3 can vouch"), "{:?}", loaded.unusable());
}

#[test]
fn a_certificate_of_x509_v1_has_its_key() {
    let files = Files::with("p256");
    files.openssl("req -new -key key.pem -out web.csr -subj /CN=web02");
    files.openssl("x509 -req -in web.csr -CA cert.pem -CAkey key.pem -CAcreateserial -out v1.pem");
    files.loads("v1.pem", Some("key.pem"), None);
    let other = Files::with("p256");
    files.write("other.pem", other.text("key.pem"));
    let said = files.refused("v1.pem", Some("other.pem"), None);
    assert!(said.contains("v1.pem: the key in") && said.contains("other.pem"), "{said}");
}

#[test]
fn what_is_in_a_file_instead_is_said() {
    let files = Files::with("p256");
    files.openssl("req -new -key key.pem -out web.csr -subj /CN=web01");
    files.openssl("pkey -in key.pem -pubout -out public.pem");
    files.openssl("x509 -in cert.pem -outform DER -out cert.der");
    files.write("empty.pem", "");
    files.write("garbage.pem", "Lorem ipsum\n");
    files.write("damaged.pem", files.text("cert.pem").replace("MII", "!!!"));
    files.write("cut.pem", files.text("cert.pem").replace("-----END CERTIFICATE-----", ""));
    files.write("half.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    files.write("huge.pem", vec![b'\n'; (4 << 20) + 1]);
    fs::create_dir(files.path("folder")).unwrap();
    for (certificate, said) in [
        ("missing.pem", "cannot be read: No such file"),
        ("folder", "cannot be read: Is a directory"),
        ("empty.pem", "is empty"),
        ("garbage.pem", "holds no certificate, but no PEM at all"),
        ("key.pem", "holds no certificate, but PRIVATE KEY"),
        ("web.csr", "holds no certificate, but CERTIFICATE REQUEST"),
        ("cert.der", "holds no certificate, but DER (turn it into PEM: openssl x509 -inform DER"),
        ("damaged.pem", "is damaged: a block holds something else than base64"),
        ("cut.pem", "is damaged: a block has no END line"),
        ("half.pem", "certificate 1: it is damaged"),
        ("huge.pem", "is longer than"),
    ] {
        let error = files.refused(certificate, Some("key.pem"), None);
        assert!(error.contains(said), "{error}");
        let error = Authorities::load(&files.pem(certificate)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for (key, said) in [
        ("missing.pem", "cannot be read: No such file"),
        ("cert.pem", "holds no key, but CERTIFICATE (is it the wrong file?)"),
        ("public.pem", "holds no key, but PUBLIC KEY"),
        ("garbage.pem", "holds no key, but no PEM at all"),
    ] {
        let error = files.refused("cert.pem", Some(key), None);
        assert!(error.contains(said), "{error}");
    }
    assert!(files.refused("cert.pem", None, None).contains("holds no key, but CERTIFICATE"));
}

#[test]
fn what_is_wrong_with_a_key_is_said_with_what_to_do() {
    let files = Files::with("rsa");
    files.openssl("rsa -in key.pem -aes256 -traditional -out old.pem -passout pass:geheim");
    files.openssl("pkcs8 -topk8 -in key.pem -out encrypted.pem -passout pass:geheim");
    files.openssl("pkcs8 -topk8 -iter 20000000 -in key.pem -out dear.pem -passout pass:geheim");
    let said = files.refused("cert.pem", Some("old.pem"), Some("geheim"));
    let command = format!("openssl pkcs8 -topk8 -in {0} -out {0}.new", files.path("old.pem").display());
    assert!(said.contains(&command), "{said}");
    assert!(files.refused("cert.pem", Some("encrypted.pem"), None).contains("--key-password-file FILE"));
    let said = files.refused("cert.pem", Some("encrypted.pem"), Some("falsch"));
    assert!(said.ends_with("encrypted.pem: the password does not open the key"), "{said}");
    assert!(!said.contains("falsch"));
    assert!(files.refused("cert.pem", Some("dear.pem"), Some("geheim")).contains("would take minutes"));
    for kind in ["p521", "rsa1024"] {
        let files = Files::with(kind);
        assert!(
            files.refused("cert.pem", Some("key.pem"), None).contains("RSA of 2048 to 8192 bits"),
            "{kind}"
        );
    }
}

#[test]
fn an_encryption_that_is_not_supported_is_no_wrong_password_and_has_a_way_out() {
    let files = Files::with("p256");
    let pass = "-passin pass:geheim -passout pass:geheim";
    for how in ["-v1 PBE-SHA1-3DES", "-v2 camellia-256-cbc", "-v2 aes-256-cbc -v2prf hmacWithSHA512-256"] {
        files.openssl(&format!("pkcs8 -topk8 {how} -in key.pem -out odd.pem {pass}"));
        let said = files.refused("cert.pem", Some("odd.pem"), Some("geheim"));
        assert!(said.contains("in a way that is not supported"), "{how}: {said}");
        let command = said.split_once(": openssl ").unwrap().1;
        files.openssl(&format!("{command} {pass}"));
        files.loads("cert.pem", Some("odd.pem.new"), Some("geheim"));
    }
}

#[test]
fn a_damaged_block_of_an_encrypted_key_is_said_to_be_damaged() {
    let files = Files::with("p256");
    files.openssl("pkcs8 -topk8 -in key.pem -out encrypted.pem -passout pass:geheim");
    let good = files.text("encrypted.pem");
    files.write("base64.pem", good.replace("MI", "!!"));
    files.write("cut.pem", good.replace("-----END ENCRYPTED PRIVATE KEY-----", ""));
    for (key, said) in [
        ("base64.pem", "is damaged: a block holds something else than base64"),
        ("cut.pem", "is damaged: a block has no END line"),
    ] {
        let error = files.refused("cert.pem", Some(key), Some("geheim"));
        assert!(error.ends_with(said), "{error}");
    }
}

#[test]
fn parameters_that_make_no_sense_or_cost_too_much_are_refused() {
    let files = Files::with("p256");
    let scrypt = |cost: &[u8], block: &[u8], lanes: &[u8]| {
        let numbers = [cost, block, lanes].map(|number| element(2, &[number])).concat();
        let parameters = element(0x30, &[&element(4, &[b"saltsalt"]), &numbers]);
        element(0x30, &[b"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x04\x0b", &parameters])
    };
    let cipher = |iv: &[u8]| {
        let triple_des = b"\x06\x08\x2a\x86\x48\x86\xf7\x0d\x03\x07";
        element(0x30, &[triple_des, &element(4, &[iv])])
    };
    let (damaged, dear) = ("the encryption of the key is damaged", "or more than 64 MiB");
    let (usual, iv) = ([0x40, 0].as_slice(), [7; 8].as_slice());
    for (kdf, iv, said) in [
        (scrypt(usual, &[8], &[1]), iv, "the password does not open the key"),
        (scrypt(usual, &[8], &[1]), &iv[..4], damaged),
        (scrypt(usual, &[8], &[1]), &[], damaged),
        (scrypt(&[0], &[8], &[1]), iv, damaged),
        (scrypt(&[3], &[8], &[1]), iv, damaged),
        (scrypt(usual, &[0], &[1]), iv, damaged),
        (scrypt(usual, &[8], &[0]), iv, damaged),
        (scrypt(usual, &[64], &[1]), iv, dear),
        (scrypt(&[2], &[0x7f, 0xff], &[0x7f, 0xff]), iv, dear),
    ] {
        let parameters = element(0x30, &[&kdf, &cipher(iv)]);
        let scheme = element(0x30, &[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d", &parameters]);
        let der = element(0x30, &[&scheme, &element(4, &[&[1; 16]])]);
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
        let label = "ENCRYPTED PRIVATE KEY-----";
        files.write("odd.pem", format!("-----BEGIN {label}\n{text}\n-----END {label}\n"));
        let error = files.refused("cert.pem", Some("odd.pem"), Some("geheim"));
        assert!(error.contains(said), "{kdf:?}, {iv:?}: {error}");
    }
}

/// Of DER, with less than 128 bytes in it.
fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    [vec![tag, contents.len() as u8], contents].concat()
}

#[test]
fn what_is_given_is_read_as_from_a_file_and_errors_name_it() {
    let files = Files::with("p256");
    let given = |file: &str| Pem::given(format!("secret s: {file}"), files.text(file).into_bytes());
    Identity::load(&given("cert.pem"), Some(&given("key.pem")), None).unwrap();
    Authorities::load(&given("cert.pem")).unwrap();
    assert_eq!(validities(&given("cert.pem")).unwrap(), validities(&files.pem("cert.pem")).unwrap());
    assert_eq!(given("key.pem"), given("key.pem"));
    assert_ne!(given("key.pem"), Pem::given("secret s: key.pem".to_owned(), b"other".to_vec()));

    files.openssl("pkcs8 -topk8 -in key.pem -out encrypted.pem -passout pass:geheim");
    files.write("empty.pem", "");
    for (key, wanted) in [
        ("encrypted.pem", "secret s: encrypted.pem: the key is encrypted, and must not be here"),
        ("empty.pem", "secret s: empty.pem: is empty"),
        ("cert.pem", "secret s: cert.pem: holds no key, but CERTIFICATE"),
    ] {
        let error = Identity::load(&given("cert.pem"), Some(&given(key)), None).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let files = Files::with("p256");
    let made = Command::new("mkfifo").arg(files.path("pipe")).status().unwrap();
    assert!(made.success());
    for error in [
        files.refused("pipe", None, None),
        files.refused("cert.pem", Some("pipe"), None),
        Authorities::load(&files.pem("pipe")).unwrap_err().to_string(),
    ] {
        assert!(error.ends_with("pipe: is no regular file: a pipe cannot be read again"), "{error}");
    }
}

#[test]
fn neither_key_nor_password_is_shown() {
    let files = Files::with("p256");
    let identity = Identity::load(&files.pem("cert.pem"), Some(&files.pem("key.pem")), None).unwrap();
    let shown = format!("{identity:?}");
    let body: String = files.text("key.pem").lines().nth(1).unwrap().to_owned();
    assert!(!shown.contains(&body), "{shown}");
    let given = Pem::given("here".to_owned(), files.text("key.pem").into_bytes());
    assert_eq!(format!("{given:?}"), "Pem(here)");
}
