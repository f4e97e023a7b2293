//! A certificate as the narrow check and the names read it.

use std::{net::IpAddr, time::Duration};

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    asn1_rs::{Any, Class, FromDer as _, Tag},
    certificate::X509Certificate,
    extensions::{BasicConstraints, GeneralName, ParsedExtension},
    oid_registry::{
        OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, Oid,
    },
    public_key::PublicKey,
    x509::X509Version,
};

use super::{refusal::Refusal, usage::Usage};

/// X.509 v1 without extensions, or v3 with each extension at most once.
#[derive(Clone)]
pub(super) struct Certificate<'a> {
    pub(super) der: &'a [u8],
    /// What the signature is over.
    pub(super) signed: &'a [u8],
    /// Both places that name the signature's algorithm name this one: the
    /// contents of an `AlgorithmIdentifier`.
    pub(super) algorithm: &'a [u8],
    parsed: X509Certificate<'a>,
}

// === impl Certificate ===

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a CertificateDer<'_>) -> Result<Self, CertificateError> {
        let der: &'a [u8] = der.as_ref();
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
        let (signed, algorithm) = signed_part(der).ok_or(CertificateError::BadEncoding)?;
        let plain = rest.is_empty() && *der == whole(signed, algorithm, &parsed.signature_value.data);
        let plain_v1 = parsed.version() == X509Version::V1
            && parsed.extensions().is_empty()
            && parsed.issuer_uid.is_none()
            && parsed.subject_uid.is_none();
        let v3 = parsed.version() == X509Version::V3
            && parsed.extensions_map().is_ok()
            && parsed
                .extensions()
                .iter()
                .all(|one| one.parsed_extension().error().is_none() || !UNDERSTOOD.contains(&one.oid));
        if !plain || !(plain_v1 || v3) {
            return Err(CertificateError::BadEncoding);
        }
        Ok(Self { der, signed, algorithm, parsed })
    }

    pub(super) fn is_v1(&self) -> bool {
        self.parsed.version() == X509Version::V1
    }

    pub(super) fn is_authority(&self) -> bool {
        self.constraints().is_some_and(|constraints| constraints.ca)
    }

    /// By its names; whether its key has signed it is not looked at.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer() == self.subject()
    }

    pub(super) fn issuer(&self) -> &'a [u8] {
        self.parsed.issuer.as_raw()
    }

    pub(super) fn subject(&self) -> &'a [u8] {
        self.parsed.subject.as_raw()
    }

    /// The `SubjectPublicKeyInfo`, whole.
    pub(super) fn public_key(&self) -> &'a [u8] {
        self.parsed.subject_pki.raw
    }

    /// Whether it is an RSA key that is too short for the TLS library, which
    /// finds every signature by it false.
    pub(super) fn has_weak_key(&self) -> bool {
        let Ok(PublicKey::RSA(key)) = self.parsed.public_key().parsed() else { return false };
        let leading = key.modulus.iter().take_while(|byte| **byte == 0).count();
        key.modulus.len() - leading < 2048 / 8
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.parsed.signature_value.data
    }

    pub(super) fn check_dates(&self, now: UnixTime) -> Result<(), CertificateError> {
        let validity = self.parsed.validity();
        let [not_before, not_after] = [&validity.not_before, &validity.not_after].map(|time| {
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
        });
        if not_before > not_after {
            Err(CertificateError::BadEncoding)
        } else if now < not_before {
            Err(CertificateError::NotValidYetContext { time: now, not_before })
        } else if now > not_after {
            Err(CertificateError::ExpiredContext { time: now, not_after })
        } else {
            Ok(())
        }
    }

    /// What it is for, if it says so, and that all which it says with weight
    /// is understood here.
    pub(super) fn check_extensions(&self, usage: Usage) -> Result<(), CertificateError> {
        for extension in self.parsed.extensions() {
            match extension.parsed_extension() {
                // Not judged here, so that whoever has them is not taken.
                ParsedExtension::NameConstraints(_) => return Err(Refusal::NameConstraints.into()),
                ParsedExtension::ExtendedKeyUsage(extended) if !usage.is_in(extended) => {
                    return Err(CertificateError::InvalidPurpose);
                }
                _ if extension.critical && !UNDERSTOOD.contains(&extension.oid) => {
                    return Err(CertificateError::UnhandledCriticalExtension);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it may vouch for one with `below` other authorities in
    /// between.
    pub(super) fn check_may_issue(&self, below: usize) -> Result<(), CertificateError> {
        let constraints = self.constraints().filter(|constraints| constraints.ca);
        let constraints = constraints.ok_or(Refusal::NotAnAuthority)?;
        let length = constraints.path_len_constraint;
        if length.is_some_and(|length| usize::try_from(length).is_ok_and(|length| below > length)) {
            return Err(Refusal::PathLength.into());
        }
        let signs = self.parsed.extensions().iter().all(|extension| match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => usage.key_cert_sign(),
            _ => true,
        });
        if signs { Ok(()) } else { Err(Refusal::NotAnAuthority.into()) }
    }

    pub(super) fn has_alternative_names(&self) -> bool {
        self.parsed.extensions().iter().any(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME)
    }

    /// Those of the kinds that machines and persons have, as text.
    pub(super) fn alternative_names(&self) -> Vec<String> {
        let extensions = self.parsed.extensions().iter();
        let names = extensions.filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.iter()),
            _ => None,
        });
        let text = names.flatten().filter_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
                Some((*text).to_owned())
            }
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        text.collect()
    }

    /// The most specific one: the last.
    pub(super) fn common_name(&self) -> Option<&str> {
        self.parsed.subject.iter_common_name().last()?.as_str().ok()
    }

    fn constraints(&self) -> Option<&BasicConstraints> {
        self.parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => Some(constraints),
            _ => None,
        })
    }
}

/// The signed part, and what names the algorithm of the signature inside it:
/// behind the serial number, before which the version may stand.
fn signed_part(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, certificate) = Any::from_der(der).ok()?;
    let (rest, inside) = Any::from_der(certificate.data).ok()?;
    let signed = certificate.data.strip_suffix(rest)?;
    let (mut fields, first) = Any::from_der(inside.data).ok()?;
    if first.class() == Class::ContextSpecific {
        (fields, _) = Any::from_der(fields).ok()?;
    }
    let (_, algorithm) = Any::from_der(fields).ok()?;
    Some((signed, algorithm.data))
}

/// A certificate as DER writes it. The signature covers nothing of what this
/// adds, so that each byte of it has to be the one that it must be.
fn whole(signed: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let algorithm = element(Tag::Sequence, true, &[algorithm]);
    let signature = element(Tag::BitString, false, &[&[0], signature]);
    element(Tag::Sequence, true, &[signed, &algorithm, &signature])
}

fn element(tag: Tag, constructed: bool, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let length = contents.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    // A tag of these is below 31, and a number of bytes of a length below 9.
    let mut element = vec![tag.0 as u8 | if constructed { 0x20 } else { 0 }];
    if contents.len() >= 0x80 {
        element.push(0x80 | length.len() as u8);
    }
    element.extend_from_slice(if contents.is_empty() { &[0] } else { length });
    element.extend(contents);
    element
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Extensions whose weight is felt here.
const UNDERSTOOD: [Oid<'static>; 5] = [
    OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_NAME_CONSTRAINTS,
];
