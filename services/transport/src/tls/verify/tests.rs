#[path = "../../../tests/certificates/pki.rs"]
#[allow(dead_code, reason = "shared with the tests over sockets")]
mod pki;

use std::fs;

use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;

use self::pki::{Key, Pki};
use super::*;

#[test]
fn every_kind_of_the_field_is_taken_on_either_side() {
    for key in [Key::Rsa, Key::P256, Key::P384, Key::Ed25519] {
        let pki = Pki::new();
        pki.authority("ca", key);
        pki.self_signed("own", key, "/CN=tentacle", "authority");
        pki.self_signed("own-leaf", key, "/CN=tentacle", "leaf");
        pki.v1("v1", key, "/CN=tentacle", "ca");
        pki.v3("v3", key, "/CN=tentacle", "ca", "leaf");
        pki.v3("own-ca", key, "/CN=tentacle", "ca", "authority");
        for (leaf, ca) in
            [("own", "own"), ("own-leaf", "own-leaf"), ("v1", "ca"), ("v3", "ca"), ("own-ca", "ca")]
        {
            assert_taken(&pki, &[leaf], ca);
        }
    }
}

#[test]
fn a_v1_root_of_its_own_and_what_it_has_issued_are_taken() {
    let pki = Pki::new();
    pki.key("root", Key::Rsa);
    pki.openssl("req -new -key root.key -subj /CN=tentacle -config config -out root.csr");
    pki.openssl("x509 -req -in root.csr -signkey root.key -days 30 -out root.pem");
    pki.v1("v1", Key::P256, "/CN=tentacle", "root");
    pki.v3("v3", Key::P256, "/CN=tentacle", "root", "leaf");
    for leaf in ["root", "v1", "v3"] {
        assert_taken(&pki, &[leaf], "root");
    }
}

#[test]
fn a_v1_leaf_is_taken_through_the_authorities_that_are_shown_with_it() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.v3("first", Key::P384, "/CN=first", "ca", "authority");
    pki.v3("second", Key::Ed25519, "/CN=second", "first", "shortest");
    pki.v1("v1", Key::P256, "/CN=tentacle", "second");
    assert_taken(&pki, &["v1", "second", "first"], "ca");
    assert_taken(&pki, &["v1", "first", "ca", "second"], "ca");
    assert_refused(&pki, &["v1", "second"], "ca", "UnknownIssuer");
    // The same without a leaf in v1 goes by webpki.
    pki.v3("v3", Key::P256, "/CN=tentacle", "second", "leaf");
    assert_taken(&pki, &["v3", "second", "first"], "ca");
}

#[test]
fn no_more_than_four_certificates_stand_above_a_leaf() {
    let pki = Pki::new();
    pki.authority("a0", Key::P256);
    for step in 1..5 {
        let name = format!("a{step}");
        pki.v3(&name, Key::P256, &format!("/CN={name}"), &format!("a{}", step - 1), "authority");
    }
    pki.v1("of-three", Key::P256, "/CN=tentacle", "a3");
    pki.v1("of-four", Key::P256, "/CN=tentacle", "a4");
    assert_taken(&pki, &["of-three", "a3", "a2", "a1"], "a0");
    assert_refused(&pki, &["of-four", "a4", "a3", "a2", "a1"], "a0", "UnknownIssuer");
}

#[test]
fn a_v1_leaf_with_any_bit_or_byte_turned_is_refused() {
    for key in [Key::Rsa, Key::P256, Key::Ed25519] {
        let pki = Pki::new();
        pki.authority("ca", key);
        pki.v1("v1", key, "/CN=tentacle", "ca");
        assert_taken(&pki, &["v1"], "ca");
        let whole = read(&pki, "v1");
        let (server, client) = sides(&pki, "ca");
        for place in 0..whole.len() {
            for turn in (0..8).map(|bit| 1 << bit).chain([0xff]) {
                let mut turned = whole.to_vec();
                turned[place] ^= turn;
                let turned = CertificateDer::from(turned);
                let refused = check_server(&server, std::slice::from_ref(&turned)).is_err()
                    && check_client(&client, &[turned]).is_err();
                assert!(refused, "{key:?}: byte {place} turned by {turn:#x} is taken");
            }
        }
    }
}

#[test]
fn a_self_signed_authority_with_any_byte_turned_is_refused() {
    let pki = Pki::new();
    pki.self_signed("own", Key::P256, "/CN=tentacle", "authority");
    let whole = read(&pki, "own");
    let (server, _) = sides(&pki, "own");
    for place in 0..whole.len() {
        let mut turned = whole.to_vec();
        turned[place] ^= 0xff;
        assert!(check_server(&server, &[turned.into()]).is_err(), "byte {place} turned is taken");
    }
}

#[test]
fn of_an_unrelated_authority_is_refused() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.authority("other", Key::P256);
    pki.self_signed("own", Key::P256, "/CN=tentacle", "authority");
    pki.v1("v1", Key::P256, "/CN=tentacle", "ca");
    pki.v3("v3", Key::P256, "/CN=tentacle", "ca", "leaf");
    for leaf in ["v1", "v3", "own"] {
        assert_refused(&pki, &[leaf], "other", "UnknownIssuer");
    }
    // Showing the right one changes nothing: it must be in the file.
    assert_refused(&pki, &["v1", "ca"], "other", "UnknownIssuer");
}

#[test]
fn of_an_authority_with_the_same_name_and_another_key_is_refused() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.self_signed("twin", Key::P256, "/O=Test/CN=ca", "authority");
    pki.self_signed("twin-rsa", Key::Rsa, "/O=Test/CN=ca", "authority");
    pki.v1("v1", Key::P256, "/CN=tentacle", "ca");
    pki.v3("v3", Key::P256, "/CN=tentacle", "ca", "leaf");
    for leaf in ["v1", "v3", "ca"] {
        assert_refused(&pki, &[leaf], "twin", "Signature");
        assert_refused(&pki, &[leaf], "twin-rsa", "UnsupportedSignatureAlgorithmForPublicKey");
    }
    // Both in one file, the wrong one first.
    pki.bundle("both", &["twin-rsa", "twin", "ca"]);
    for leaf in ["v1", "v3", "ca"] {
        assert_taken(&pki, &[leaf], "both");
    }
}

#[test]
fn many_authorities_of_one_name_do_not_cost_more_than_a_bound() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.self_signed("twin", Key::P256, "/O=Test/CN=ca", "authority");
    pki.v1("v1", Key::P256, "/CN=tentacle", "ca");
    let twins = |count: usize| [vec!["twin"; count], vec!["ca"]].concat();
    pki.bundle("many", &twins(15));
    assert_taken(&pki, &["v1"], "many");
    pki.bundle("too-many", &twins(16));
    assert_refused(&pki, &["v1"], "too-many", "Signature");
}

#[test]
fn what_is_no_authority_vouches_for_nobody() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.v1("old", Key::P256, "/CN=old", "ca");
    pki.v3("leaf", Key::P256, "/CN=leaf", "ca", "leaf");
    pki.v3("unsigning", Key::P256, "/CN=unsigning", "ca", "unsigning");
    pki.v3("shortest", Key::P256, "/CN=shortest", "ca", "shortest");
    pki.v3("below", Key::P256, "/CN=below", "shortest", "authority");
    pki.v3("restricted", Key::P256, "/CN=restricted", "ca", "restricted");
    pki.v3("odd", Key::P256, "/CN=odd", "ca", "odd_authority");
    for (issuer, reason) in [
        ("old", "NotAnAuthority"),
        ("leaf", "NotAnAuthority"),
        ("unsigning", "NotAnAuthority"),
        ("restricted", "NameConstraints"),
        ("odd", "UnhandledCriticalExtension"),
    ] {
        let name = format!("by-{issuer}");
        pki.v1(&name, Key::P256, "/CN=tentacle", issuer);
        assert_refused(&pki, &[&name, issuer], "ca", reason);
    }
    pki.v1("deep", Key::P256, "/CN=tentacle", "below");
    assert_refused(&pki, &["deep", "below", "shortest"], "ca", "PathLength");
    // Nor one of the CA file for another than itself.
    pki.self_signed("own", Key::P256, "/CN=own", "leaf");
    pki.v1("v1", Key::P256, "/CN=tentacle", "own");
    pki.v3("v3", Key::P256, "/CN=tentacle", "own", "leaf");
    assert_refused(&pki, &["v1"], "own", "NotAnAuthority");
    assert_refused(&pki, &["v3"], "own", "NotAnAuthority");
}

#[test]
fn out_of_date_is_refused_wherever_in_the_chain() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    let (past, future, now) = ((2020, 2021), (2045, 2046), (2020, 2046));
    for (years, word) in [(past, "Expired"), (future, "NotValidYet")] {
        pki.dated("v1", "ca", years, None);
        pki.dated("v3", "ca", years, Some("leaf"));
        pki.dated("own", "own", years, Some("authority"));
        assert_refused(&pki, &["v1"], "ca", word);
        assert_refused(&pki, &["v3"], "ca", word);
        assert_refused(&pki, &["own"], "own", word);
        pki.dated("middle", "ca", years, Some("authority"));
        pki.dated("below-v1", "middle", now, None);
        pki.dated("below-v3", "middle", now, Some("leaf"));
        assert_refused(&pki, &["below-v1", "middle"], "ca", word);
        assert_refused(&pki, &["below-v3", "middle"], "ca", word);
        pki.dated("v1", "own", now, None);
        pki.dated("v3", "own", now, Some("leaf"));
        assert_refused(&pki, &["v1"], "own", word);
        assert_refused(&pki, &["v3"], "own", word);
        // Renewed with the same key, and both in the file: the one that
        // holds is found.
        pki.bundle("old", &["own"]);
        pki.dated("own", "own", now, Some("authority"));
        pki.bundle("renewed", &["old", "own"]);
        assert_taken(&pki, &["v1"], "renewed");
        assert_taken(&pki, &["v3"], "renewed");
    }
}

#[test]
fn for_another_purpose_is_refused() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.self_signed("own", Key::P256, "/CN=tentacle", "clients_authority");
    pki.v3("for-clients", Key::P256, "/CN=tentacle", "ca", "for_clients");
    pki.v3("for-servers", Key::P256, "/CN=tentacle", "ca", "for_servers");
    for (leaf, ca, to_server, to_client) in
        [("own", "own", true, false), ("for-clients", "ca", true, false), ("for-servers", "ca", false, true)]
    {
        let (server, client) = sides(&pki, ca);
        assert_eq!(check_client(&client, &[read(&pki, leaf)]).is_ok(), to_server, "{leaf}");
        assert_eq!(check_server(&server, &[read(&pki, leaf)]).is_ok(), to_client, "{leaf}");
    }
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.v3("odd", Key::P256, "/CN=tentacle", "ca", "odd");
    pki.self_signed("own", Key::P256, "/CN=tentacle", "odd_authority");
    assert_refused(&pki, &["odd"], "ca", "UnhandledCriticalExtension");
    assert_refused(&pki, &["own"], "own", "UnhandledCriticalExtension");
}

#[test]
fn weak_signatures_and_keys_are_refused() {
    let pki = Pki::new();
    pki.authority("ca", Key::Rsa);
    pki.request("leaf", Key::Rsa, "/CN=tentacle");
    for digest in ["sha1", "md5"] {
        let sign =
            format!("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 1 -days 30 -{digest} -out");
        pki.openssl(&format!("{sign} v1.pem"));
        pki.openssl(&format!("{sign} v3.pem -extfile config -extensions leaf"));
        assert_refused(&pki, &["v1"], "ca", "UnsupportedSignatureAlgorithm");
        assert_refused(&pki, &["v3"], "ca", "UnsupportedSignatureAlgorithm");
    }
    pki.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small.key");
    pki.again_self_signed("small", "/CN=small", "authority");
    pki.v1("v1", Key::Rsa, "/CN=tentacle", "small");
    pki.v3("v3", Key::Rsa, "/CN=tentacle", "small", "leaf");
    pki.bundle("both", &["small", "ca"]);
    assert_refused(&pki, &["v1"], "both", "WeakKey");
    assert_refused(&pki, &["v3"], "both", "WeakKey");
    pki.openssl("req -new -key small.key -subj /CN=middle -config config -out middle.csr");
    pki.openssl("x509 -req -in middle.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 30 -extfile config -extensions authority -out middle.pem");
    fs::copy(pki.private_key("small"), pki.private_key("middle")).unwrap();
    pki.v3("v3", Key::Rsa, "/CN=tentacle", "middle", "leaf");
    assert_refused(&pki, &["v3", "middle"], "ca", "WeakKey");
}

#[test]
fn a_name_holds_by_the_alternative_names_if_there_are_any() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.v3("v3", Key::P256, "/CN=by-cn.example.org", "ca", "named");
    pki.self_signed("own", Key::P256, "/CN=by-cn.example.org", "named_authority");
    for (leaf, ca) in [("v3", "ca"), ("own", "own")] {
        for wanted in ["tentacle.example.org", "TENTACLE.example.org", "127.0.0.1"] {
            assert!(has_name(&pki, leaf, ca, NameCheck::Strict, wanted), "{leaf} {wanted}");
        }
        for wanted in ["by-cn.example.org", "127.0.0.2", "::1", "example.org"] {
            for check in [NameCheck::Strict, NameCheck::SubjectAltNames] {
                assert!(!has_name(&pki, leaf, ca, check, wanted), "{leaf} {wanted}");
            }
        }
    }
    assert!(has_name(&pki, "v3", "ca", NameCheck::Strict, "a.wild.example.org"));
    assert!(!has_name(&pki, "v3", "ca", NameCheck::Strict, "a.b.wild.example.org"));
    // One of another kind is one too.
    pki.v3("mail", Key::P256, "/CN=tentacle", "ca", "mail");
    assert!(!has_name(&pki, "mail", "ca", NameCheck::Strict, "tentacle"));
    assert!(!has_name(&pki, "mail", "ca", NameCheck::SubjectAltNames, "tentacle"));
}

#[test]
fn a_name_holds_by_the_common_name_where_there_is_no_other() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    for (subject, wanted, holds) in [
        ("/CN=tentacle", "tentacle", true),
        ("/CN=Tentacle.Example.ORG", "tentacle.example.org", true),
        ("/CN=tentacle", "other", false),
        ("/CN=*.example.org", "a.example.org", true),
        ("/CN=*.example.org", "example.org", false),
        ("/CN=*.example.org", "a.b.example.org", false),
        ("/CN=*.org", "example.org", false),
        ("/CN=*", "tentacle", false),
        ("/CN=10.1.2.3", "10.1.2.3", true),
        ("/CN=10.1.2.3", "10.1.2.4", false),
        ("/CN=2001:db8:0::1", "2001:db8::1", true),
        ("/CN=*.1.2.3", "10.1.2.3", false),
        ("/CN=general/CN=special", "special", true),
        ("/CN=general/CN=special", "general", false),
        ("/O=tentacle", "tentacle", false),
    ] {
        pki.v1("v1", Key::P256, subject, "ca");
        pki.v3("v3", Key::P256, subject, "ca", "leaf");
        for leaf in ["v1", "v3"] {
            assert_eq!(
                has_name(&pki, leaf, "ca", NameCheck::Strict, wanted),
                holds,
                "{leaf} {subject} {wanted}"
            );
            assert!(has_name(&pki, leaf, "ca", NameCheck::SubjectAltNames, wanted), "{leaf} {subject}");
        }
    }
}

#[test]
fn the_names_of_a_certificate_are_its_alternative_ones_or_the_common_one() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.v3("named", Key::P256, "/CN=hidden", "ca", "named");
    pki.v1("v1", Key::P256, "/O=Test/CN=shown", "ca");
    let names = ["tentacle.example.org", "*.wild.example.org", "127.0.0.1", "me@example.org", "urn:me"];
    assert_eq!(names_of(&read(&pki, "named")), names);
    assert_eq!(names_of(&read(&pki, "v1")), ["shown"]);
    assert!(has_alternative_names(&read(&pki, "named")));
    assert!(!has_alternative_names(&read(&pki, "v1")));
    let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    assert!(names_of(&garbage).is_empty());
    assert!(!has_alternative_names(&garbage));
}

#[test]
fn a_pin_stands_in_place_of_the_name_and_beside_the_authorities() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.authority("other", Key::P256);
    pki.v1("v1", Key::P256, "/CN=elsewhere", "ca");
    pki.dated("expired", "ca", (2020, 2021), None);
    let pinned = |ca: Option<&str>, pin: &str, leaf: &str| {
        let check = ServerCheck {
            authorities: ca.map(|ca| Authorities::load(&pki.certificate(ca).into()).unwrap()),
            name: NameCheck::Strict,
            pin: Some(Sha256::digest(read(&pki, pin)).into()),
        };
        check_server(&Server::new(check, &Arc::new(ring::default_provider())), &[read(&pki, leaf)])
    };
    assert!(pinned(None, "v1", "v1").is_ok());
    assert!(pinned(Some("ca"), "v1", "v1").is_ok());
    assert!(pinned(Some("other"), "v1", "v1").is_err());
    assert!(pinned(None, "ca", "v1").is_err());
    assert!(pinned(Some("ca"), "ca", "v1").is_err());
    let expired = pinned(None, "expired", "expired").unwrap_err();
    assert!(format!("{expired:?}").contains("Expired"), "{expired:?}");
}

#[test]
fn clients_are_told_the_authorities_names_unless_they_are_too_many() {
    let pki = Pki::new();
    pki.authority("ca", Key::P256);
    pki.bundle("few", &["ca"; 3]);
    pki.bundle("many", &["ca"; 200]);
    assert_eq!(sides(&pki, "few").1.root_hint_subjects().len(), 3);
    assert!(sides(&pki, "many").1.root_hint_subjects().is_empty());
}

fn assert_taken(pki: &Pki, chain: &[&str], ca: &str) {
    let (server, client) = sides(pki, ca);
    let shown: Vec<_> = chain.iter().map(|name| read(pki, name)).collect();
    assert_eq!(check_server(&server, &shown), Ok(()), "server's {chain:?}, {ca}");
    assert_eq!(check_client(&client, &shown), Ok(()), "client's {chain:?}, {ca}");
}

fn assert_refused(pki: &Pki, chain: &[&str], ca: &str, reason: &str) {
    let (server, client) = sides(pki, ca);
    let shown: Vec<_> = chain.iter().map(|name| read(pki, name)).collect();
    for error in [check_server(&server, &shown), check_client(&client, &shown)] {
        let error = format!("{:?}", error.unwrap_err());
        assert!(error.contains(reason), "{chain:?}, {ca}: {error} in place of {reason}");
    }
}

fn has_name(pki: &Pki, leaf: &str, ca: &str, name: NameCheck, wanted: &str) -> bool {
    let authorities = Some(Authorities::load(&pki.certificate(ca).into()).unwrap());
    let check = ServerCheck { authorities, name, pin: None };
    let server = Server::new(check, &Arc::new(ring::default_provider()));
    let wanted = ServerName::try_from(wanted).unwrap();
    match server.verify_server_cert(&read(pki, leaf), &[], &wanted, &[], UnixTime::now()) {
        Ok(_) => true,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => false,
        Err(error) => panic!("{leaf}: {error}"),
    }
}

/// Both checks by one CA file; any name goes.
fn sides(pki: &Pki, ca: &str) -> (Server, Clients) {
    let provider = Arc::new(ring::default_provider());
    let authorities = Authorities::load(&pki.certificate(ca).into()).unwrap();
    let clients = Clients::new(&authorities, &provider);
    let name = NameCheck::SubjectAltNames;
    (Server::new(ServerCheck { authorities: Some(authorities), name, pin: None }, &provider), clients)
}

fn check_server(server: &Server, shown: &[CertificateDer<'static>]) -> Result<(), Error> {
    let name = ServerName::try_from("tentacle").unwrap();
    server.verify_server_cert(&shown[0], &shown[1..], &name, &[], UnixTime::now()).map(|_| ())
}

fn check_client(clients: &Clients, shown: &[CertificateDer<'static>]) -> Result<(), Error> {
    clients.verify_client_cert(&shown[0], &shown[1..], UnixTime::now()).map(|_| ())
}

fn read(pki: &Pki, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(pki.certificate(name)).unwrap()
}
