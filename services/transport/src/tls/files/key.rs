//! The private key of a certificate.

use std::sync::Arc;

use pkcs8::{
    EncryptedPrivateKeyInfoRef,
    der::Decode as _,
    pkcs5::{EncryptionScheme, pbes2::Kdf},
};
use rustls::{crypto::ring::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{
    PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, pem::SectionKind,
};

use super::{FileError, pem::Pem};

/// The first key in a file.
pub(super) fn read(pem: &Pem, password: Option<&[u8]>) -> Result<Arc<dyn SigningKey>, FileError> {
    refuse_traditional_encryption(pem)?;
    if let Some(der) = encrypted(pem) {
        return decrypt(pem, &der, password).and_then(|key| signing(pem, &key));
    }
    let kinds = [SectionKind::PrivateKey, SectionKind::RsaPrivateKey, SectionKind::EcPrivateKey];
    let Some((kind, der)) = pem.block(|kind| kinds.contains(&kind))? else {
        return Err(pem.wrong(&format!("holds no key, but {}", pem.content())));
    };
    signing(
        pem,
        &match kind {
            SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(der).into(),
            SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(der).into(),
            _ => PrivatePkcs8KeyDer::from(der).into(),
        },
    )
}

fn signing(pem: &Pem, key: &PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, FileError> {
    any_supported_type(key).map_err(|_| {
        pem.wrong("the key is damaged or of a kind that is not supported (RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, and Ed25519 are)")
    })
}

/// `openssl genrsa -aes256` of OpenSSL 1: a format of its own, which hashes the
/// password once with MD5.
fn refuse_traditional_encryption(pem: &Pem) -> Result<(), FileError> {
    if !pem.text.windows(DEK_INFO.len()).any(|window| window == DEK_INFO) {
        return Ok(());
    }
    let path = pem.path.display();
    Err(pem.wrong(&format!(
        "the key is encrypted in OpenSSL's old format (DEK-Info); turn it into PKCS#8: openssl pkcs8 -topk8 -in {path} -out {path}.new"
    )))
}

/// The block of an encrypted PKCS#8 key, which the PEM reader does not know.
fn encrypted(pem: &Pem) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(&pem.text);
    let after = text.split_once("-----BEGIN ENCRYPTED PRIVATE KEY-----")?.1;
    let body = after.split_once("-----END ENCRYPTED PRIVATE KEY-----")?.0;
    let digits: String = body.split_whitespace().collect();
    base64::Engine::decode(&base64::prelude::BASE64_STANDARD, digits).ok()
}

fn decrypt(pem: &Pem, der: &[u8], password: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, FileError> {
    let Some(password) = password else {
        return Err(pem.wrong(
            "the key is encrypted (name the file that holds its password: --key-password-file FILE, or be asked: -w)",
        ));
    };
    let unknown = || {
        pem.wrong("the key is damaged, or encrypted in a way that is not supported (openssl pkcs8 -topk8 makes one that is)")
    };
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|_| unknown())?;
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else { return Err(unknown()) };
    let cost = match &parameters.kdf {
        Kdf::Pbkdf2(kdf) => u64::from(kdf.iteration_count),
        Kdf::Scrypt(kdf) => {
            let memory = u64::from(kdf.block_size).saturating_mul(kdf.cost_parameter);
            memory.saturating_mul(u64::from(kdf.parallelization))
        }
        _ => return Err(unknown()),
    };
    if cost > MAX_COST {
        return Err(pem.wrong("the key is encrypted with a cost that would take minutes (openssl pkcs8 -topk8 -iter 600000 makes one that is right)"));
    }
    match info.decrypt(password) {
        Ok(document) => Ok(PrivatePkcs8KeyDer::from(document.as_bytes().to_vec()).into()),
        Err(_) => Err(pem.wrong("the password does not open the key")),
    }
}

const DEK_INFO: &[u8] = b"DEK-Info:";

/// Rounds of PBKDF2, or blocks of 128 bytes that scrypt goes through: seconds.
const MAX_COST: u64 = 10_000_000;
