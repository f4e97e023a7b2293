//! The private key of a certificate.

use std::sync::Arc;

use pkcs8::{
    AlgorithmIdentifierRef, SecretDocument,
    der::{
        self, Decode as _, ErrorKind, Tag,
        asn1::{AnyRef, OctetStringRef},
    },
    pkcs5::{
        self,
        pbes2::{DES_EDE3_CBC_OID, Kdf, PBES2_OID, Parameters},
    },
};
use rustls::{crypto::ring::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{
    PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, pem::SectionKind,
};

use super::{Pem, PemError, pem::Text};

/// The first key there.
pub(super) fn read(pem: &Text<'_>, password: Option<&[u8]>) -> Result<Arc<dyn SigningKey>, PemError> {
    refuse_traditional_encryption(pem)?;
    if let Some(der) = encrypted(pem)? {
        let key = decrypt(pem, &der, password)?;
        return signing(pem, &PrivatePkcs8KeyDer::from(key.as_bytes()).into());
    }
    let kinds = [SectionKind::PrivateKey, SectionKind::RsaPrivateKey, SectionKind::EcPrivateKey];
    for block in pem.blocks() {
        let (kind, der) = block?;
        if kinds.contains(&kind) {
            return signing(
                pem,
                &match kind {
                    SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(&der[..]).into(),
                    SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(&der[..]).into(),
                    _ => PrivatePkcs8KeyDer::from(&der[..]).into(),
                },
            );
        }
    }
    Err(pem.wrong(&format!("holds no key, but {}", pem.content())))
}

fn signing(pem: &Text<'_>, key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, PemError> {
    any_supported_type(key).map_err(|_| {
        pem.wrong("the key is damaged or of a kind that is not supported (RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, and Ed25519 are)")
    })
}

/// `openssl genrsa -aes256` of OpenSSL 1: a format of its own, which hashes the
/// password once with MD5.
fn refuse_traditional_encryption(pem: &Text<'_>) -> Result<(), PemError> {
    match split_once(&pem.text, b"DEK-Info:") {
        None => Ok(()),
        Some(_) => Err(pem.wrong(&format!(
            "the key is encrypted in OpenSSL's old format (DEK-Info); turn it into PKCS#8: {}",
            conversion(pem)
        ))),
    }
}

/// The block of an encrypted PKCS#8 key, which the PEM reader does not know.
fn encrypted(pem: &Text<'_>) -> Result<Option<Vec<u8>>, PemError> {
    let block = split_once(&pem.text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        .and_then(|(_, after)| split_once(after, b"-----END ENCRYPTED PRIVATE KEY-----"));
    let Some((body, _)) = block else { return Ok(None) };
    let digits: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    match base64::Engine::decode(&base64::prelude::BASE64_STANDARD, digits) {
        Ok(der) => Ok(Some(der)),
        Err(_) => Err(pem.no_base64()),
    }
}

fn decrypt(pem: &Text<'_>, der: &[u8], password: Option<&[u8]>) -> Result<SecretDocument, PemError> {
    let Some(password) = password else {
        return Err(pem.wrong(match pem.from {
            Pem::File(_) => "the key is encrypted (name the file that holds its password: --key-password-file FILE, or be asked: -w)",
            Pem::Given { .. } => "the key is encrypted, and must not be here (openssl pkey takes the password away)",
        }));
    };
    let unsupported = || {
        let command = conversion(pem);
        pem.wrong(&format!(
            "the key is encrypted in a way that is not supported; turn it into one that is: {command}"
        ))
    };
    let (parameters, data) = encryption(der).map_err(|error| match error.kind() {
        ErrorKind::OidUnknown { .. } => unsupported(),
        _ => pem.wrong(DAMAGED),
    })?;
    check_cost(pem, &parameters.kdf)?;
    let wrong = || pem.wrong("the password does not open the key");
    match parameters.decrypt(password, data) {
        // A wrong password may leave what ends as padding has to.
        Ok(key) => SecretDocument::try_from(key).map_err(|_| wrong()),
        Err(pkcs5::Error::DecryptFailed) => Err(wrong()),
        Err(pkcs5::Error::AlgorithmParametersInvalid { .. }) => Err(pem.wrong(DAMAGED)),
        Err(_) => Err(unsupported()),
    }
}

/// How a key is encrypted, and what came of it: RFC 8018, appendix A.4. Not
/// by `EncryptedPrivateKeyInfo`, which panics where the IV of 3DES is short.
fn encryption(der: &[u8]) -> der::Result<(Parameters, &[u8])> {
    let (scheme, data) = AnyRef::from_der(der)?.sequence(|fields| {
        let scheme = AlgorithmIdentifierRef::decode(fields)?;
        der::Result::Ok((scheme, <&OctetStringRef>::decode(fields)?.as_bytes()))
    })?;
    if scheme.oid != PBES2_OID {
        return Err(ErrorKind::OidUnknown { oid: scheme.oid }.into());
    }
    let parameters = scheme.parameters.ok_or(Tag::Sequence.value_error())?;
    let parameters = parameters.sequence(|fields| {
        let kdf = AlgorithmIdentifierRef::decode(fields)?;
        let cipher = AlgorithmIdentifierRef::decode(fields)?;
        let iv = cipher.parameters.ok_or(Tag::OctetString.value_error())?;
        if cipher.oid == DES_EDE3_CBC_OID && iv.value().len() != 8 {
            return Err(Tag::OctetString.value_error().into());
        }
        der::Result::Ok(Parameters { kdf: kdf.try_into()?, encryption: cipher.try_into()? })
    })?;
    Ok((parameters, data))
}

fn check_cost(pem: &Text<'_>, kdf: &Kdf) -> Result<(), PemError> {
    let (rounds, memory) = match kdf {
        Kdf::Pbkdf2(kdf) => (u64::from(kdf.iteration_count), 0),
        // Of another number, the crates panic.
        Kdf::Scrypt(kdf) if kdf.cost_parameter.is_power_of_two() => {
            let (lanes, block) = (u64::from(kdf.parallelization), u64::from(kdf.block_size));
            let blocks = block.saturating_mul(kdf.cost_parameter);
            (
                blocks.saturating_mul(lanes),
                block.saturating_mul(lanes).saturating_add(blocks).saturating_mul(128),
            )
        }
        _ => return Err(pem.wrong(DAMAGED)),
    };
    if rounds > MAX_ROUNDS || memory > MAX_MEMORY {
        return Err(pem.wrong("the key is encrypted with a cost that would take minutes, or more than 64 MiB (openssl pkcs8 -topk8 -iter 600000 makes one that is right)"));
    }
    Ok(())
}

/// What makes a key that can be read of any that openssl can read.
fn conversion(pem: &Text<'_>) -> String {
    let path = pem.from.path().map_or_else(|| "KEY".to_owned(), |path| path.display().to_string());
    format!("openssl pkcs8 -topk8 -in {path} -out {path}.new")
}

fn split_once<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    Some((&text[..at], &text[at + mark.len()..]))
}

const DAMAGED: &str = "the encryption of the key is damaged (openssl pkcs8 -topk8 makes one anew)";

/// Rounds of PBKDF2, or blocks of 128 bytes that scrypt goes through: seconds.
const MAX_ROUNDS: u64 = 10_000_000;

/// Bytes that scrypt may hold: four times what openssl's own keys need.
const MAX_MEMORY: u64 = 64 << 20;
