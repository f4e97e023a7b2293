//! Whose certificate it is.

use std::net::IpAddr;

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use super::{NameCheck, certificate::Certificate};

/// The names of a certificate: its SANs (DNS names, addresses, mail
/// addresses, URIs) if it has the extension, else its CN. None of what cannot
/// be read.
///
/// A name is as its authority wrote it, and may hold any character.
pub fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    match Certificate::parse(certificate) {
        Ok(certificate) if certificate.has_alternative_names() => certificate.alternative_names(),
        Ok(certificate) => certificate.common_name().map(str::to_owned).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

/// Whether a certificate has SANs of any kind. Without, [`NameCheck::SubjectAltNames`]
/// lets it pass on its chain alone.
pub fn has_alternative_names(certificate: &CertificateDer<'_>) -> bool {
    Certificate::parse(certificate).is_ok_and(|certificate| certificate.has_alternative_names())
}

/// Against the SANs if there are any, of whatever kind, else the CN.
pub(super) fn check(
    der: &CertificateDer<'_>,
    wanted: &ServerName<'_>,
    check: NameCheck,
) -> Result<(), CertificateError> {
    let certificate = Certificate::parse(der)?;
    let holds = if certificate.has_alternative_names() {
        // Only v3 has any, which webpki can read.
        let strict = EndEntityCert::try_from(der).map_err(|_| CertificateError::BadEncoding)?;
        strict.verify_is_valid_for_subject_name(wanted).is_ok()
    } else {
        check == NameCheck::SubjectAltNames
            || certificate.common_name().is_some_and(|name| is_common_name(name, wanted))
    };
    if holds {
        return Ok(());
    }
    Err(CertificateError::NotValidForNameContext { expected: wanted.to_owned(), presented: names_of(der) })
}

fn is_common_name(name: &str, wanted: &ServerName<'_>) -> bool {
    match wanted {
        ServerName::DnsName(wanted) => is_host(name, wanted.as_ref()),
        ServerName::IpAddress(wanted) => name.parse() == Ok(IpAddr::from(*wanted)),
        _ => false,
    }
}

/// A wildcard stands for the whole left-most label, with two others after it
/// at least, as in SANs.
fn is_host(name: &str, wanted: &str) -> bool {
    let wanted = wanted.strip_suffix('.').unwrap_or(wanted);
    match (name.strip_prefix("*."), wanted.split_once('.')) {
        (Some(domain), Some((_, rest))) => domain.contains('.') && domain.eq_ignore_ascii_case(rest),
        (Some(_), None) => false,
        (None, _) => name.eq_ignore_ascii_case(wanted),
    }
}
