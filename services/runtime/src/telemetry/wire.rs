//! Connections to collectors, as the variables describe them.

use std::fs;
use std::path::Path;

use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _, WithTonicConfig as _,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::settings::{Protocol, SettingsError, Target};

/// An exporter of one signal: the three builders are alike, and have no trait in common.
macro_rules! exporter {
    ($name:ident, $exporter:ty, $of:literal) => {
        #[doc = concat!("An exporter of ", $of, ". Must be called within a tokio runtime.")]
        pub(crate) fn $name(target: &Target) -> Result<$exporter, SettingsError> {
            let built = match target.protocol {
                Protocol::Grpc => {
                    let builder = <$exporter>::builder()
                        .with_tonic()
                        .with_endpoint(&target.endpoint)
                        .with_timeout(target.patience);
                    match grpc_tls(target)? {
                        Some(tls) => builder.with_tls_config(tls).build(),
                        None => builder.build(),
                    }
                }
                Protocol::HttpProtobuf => <$exporter>::builder()
                    .with_http()
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(&target.endpoint)
                    .with_timeout(target.patience)
                    .with_http_client(http_client(target)?)
                    .build(),
            };
            built.map_err(|error| refused(target, error))
        }
    };
}

exporter!(spans, SpanExporter, "spans");
exporter!(metrics, MetricExporter, "metrics");
exporter!(logs, LogExporter, "log records");

fn refused(target: &Target, error: ExporterBuildError) -> SettingsError {
    SettingsError { name: ENDPOINT.to_owned(), value: target.endpoint.clone(), why: error.to_string() }
}

fn is_tls(target: &Target) -> bool {
    target.endpoint.starts_with("https:")
}

fn grpc_tls(target: &Target) -> Result<Option<ClientTlsConfig>, SettingsError> {
    if !is_tls(target) {
        return Ok(None);
    }
    let mut tls = ClientTlsConfig::new();
    tls = match &target.tls.authorities {
        Some(path) => {
            // Read as certificates first: what is wrong with them would be said at the first request only.
            certificates(path)?;
            tls.ca_certificate(Certificate::from_pem(bytes(path)?))
        }
        None => tls.with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&target.tls.certificate, &target.tls.key) {
        tls = tls.identity(Identity::from_pem(bytes(certificate)?, bytes(key)?));
    }
    Ok(Some(tls))
}

fn http_client(target: &Target) -> Result<HyperClient<HttpsConnector<HttpConnector>>, SettingsError> {
    let versions = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the versions that it is built with");
    let config = match &target.tls.authorities {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            versions.with_root_certificates(roots)
        }
        // Without TLS nobody asks for them.
        None if !is_tls(target) => versions.with_root_certificates(RootCertStore::empty()),
        None => versions.with_native_roots().map_err(|error| SettingsError {
            name: ENDPOINT.to_owned(),
            value: target.endpoint.clone(),
            why: format!(
                "this machine has no authorities to check it by: {error} (name them by {CERTIFICATE})"
            ),
        })?,
    };
    let config = match (&target.tls.certificate, &target.tls.key) {
        (Some(certificate), Some(key)) => {
            let (chain, read) = (certificates(certificate)?, PrivateKeyDer::from_pem_file(key));
            let read = read.map_err(|error| unusable(key, &error))?;
            config.with_client_auth_cert(chain, read).map_err(|error| unusable(certificate, &error))?
        }
        _ => config.with_no_client_auth(),
    };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Ok(HyperClient::new(connector, target.patience, None))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, &error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"there is no certificate in it"));
    }
    Ok(found)
}

fn bytes(path: &Path) -> Result<Vec<u8>, SettingsError> {
    fs::read(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> SettingsError {
    SettingsError {
        name: CERTIFICATE.to_owned(),
        value: path.display().to_string(),
        why: format!("{why} (name a PEM file of its kind)"),
    }
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
