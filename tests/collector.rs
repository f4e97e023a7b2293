//! A collector of OpenTelemetry: built on the project's own services and messages, over gRPC and HTTP at one address.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message as _;
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, body::Body, codegen::Service as _};

use crate::{Kind, NAME, certificates};

/// A collector that listens; it ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    scheme: &'static str,
    address: SocketAddr,
    told: Told,
    _runtime: Runtime,
}

/// A span, and who told it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `service.name`
    pub service: String,
    /// The span.
    pub span: Span,
}

#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Everything>>);

#[derive(Debug, Default)]
struct Everything {
    spans: Vec<Seen>,
    metrics: Vec<String>,
    logs: Vec<String>,
}

impl Collector {
    /// One over gRPC.
    pub fn grpc() -> Self {
        Self::start(true, None)
    }

    /// One over HTTP.
    pub fn http() -> Self {
        Self::start(false, None)
    }

    /// One over TLS, with a certificate of this kind, that asks clients for one.
    pub fn tls(grpc: bool, kind: Kind) -> Self {
        let pki = certificates();
        let read = |file: String| {
            CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        let mut clients = RootCertStore::empty();
        clients.add_parsable_certificates(read(pki.certificate(&kind.clients_authority())));
        let provider = Arc::new(ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider)).build();
        let key = PrivateKeyDer::from_pem_file(pki.key(&kind.server())).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.unwrap())
            .with_single_cert(read(pki.certificate(&kind.server())), key)
            .unwrap();
        config.alpn_protocols = vec![if grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Self::start(grpc, Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn start(grpc: bool, tls: Option<TlsAcceptor>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((NAME, 0))).unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (address, told) = (listener.local_addr().unwrap(), Told::default());
        let serving = told.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => told.serve(stream, grpc).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                told.serve(stream, grpc).await;
                            }
                        }
                    }
                });
            }
        });
        Self { scheme, address, told, _runtime: runtime }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Seen> {
        self.told.all().spans.clone()
    }

    /// The names of all metrics so far.
    pub fn metrics(&self) -> Vec<String> {
        self.told.all().metrics.clone()
    }

    /// The words of all log records so far.
    pub fn logs(&self) -> Vec<String> {
        self.told.all().logs.clone()
    }
}

impl Seen {
    /// The text of an attribute, or nothing.
    pub fn attribute(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }
}

impl Told {
    fn all(&self) -> MutexGuard<'_, Everything> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, grpc: bool) {
        let stream = TokioIo::new(stream);
        if grpc {
            let service = service_fn(move |request| self.clone().over_grpc(request));
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
        } else {
            let service = service_fn(move |request| self.clone().over_http(request));
            let _ = http1::Builder::new().serve_connection(stream, service).await;
        }
    }

    async fn over_grpc(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        match request.uri().path().split('/').nth(1) {
            Some(name) if name.ends_with("TraceService") => TraceServiceServer::new(self).call(request).await,
            Some(name) if name.ends_with("MetricsService") => {
                MetricsServiceServer::new(self).call(request).await
            }
            _ => LogsServiceServer::new(self).call(request).await,
        }
    }

    async fn over_http(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let taken = match path.as_str() {
            "/v1/traces" => ExportTraceServiceRequest::decode(body).map(|request| self.traces(request)),
            "/v1/metrics" => ExportMetricsServiceRequest::decode(body).map(|request| self.metrics(request)),
            "/v1/logs" => ExportLogsServiceRequest::decode(body).map(|request| self.logs(request)),
            _ => panic!("nothing of OTLP is at {path}"),
        };
        let mut response = Response::new(Full::new(Bytes::new()));
        if taken.is_err() {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        Ok(response)
    }

    fn traces(&self, request: ExportTraceServiceRequest) {
        for of in request.resource_spans {
            let service = service(of.resource.as_ref());
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.all().spans.extend(spans.map(|span| Seen { service: service.clone(), span }));
        }
    }

    fn metrics(&self, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        self.all().metrics.extend(scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name));
    }

    fn logs(&self, request: ExportLogsServiceRequest) {
        let scopes = request.resource_logs.into_iter().flat_map(|of| of.scope_logs);
        let records = scopes.flat_map(|scope| scope.log_records);
        self.all().logs.extend(records.map(|record| said(record.body.as_ref())));
    }
}

#[tonic::async_trait]
impl TraceService for Told {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        self.traces(request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Told {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        Told::metrics(self, request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Told {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        Told::logs(self, request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

fn service(resource: Option<&Resource>) -> String {
    resource.map_or_else(String::new, |resource| text(&resource.attributes, "service.name"))
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    said(found.and_then(|attribute| attribute.value.as_ref()))
}

fn said(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
