//! The way to the API server.

use std::{env, time::Duration};

use anyhow::Context as _;
use kube::{Client, Config, config::KubeConfigOptions};

use crate::options::Kubernetes;

/// A client, and the namespace that everything is in: as a pod of the cluster,
/// or as a kubeconfig says. The API server is not asked yet.
///
/// # Errors
/// Neither is there, or it cannot be used.
pub(crate) async fn client(options: &Kubernetes) -> anyhow::Result<(Client, String)> {
    let by = match options.sharing {
        Some(_) => "--coordination kubernetes",
        None => "--custom-resources",
    };
    let mut config = if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Config::incluster().with_context(|| {
            format!("{by}: the pod's service account cannot be used (automountServiceAccountToken: true gives it one)")
        })?
    } else {
        Config::from_kubeconfig(&KubeConfigOptions::default()).await.with_context(|| {
            format!("{by}: no cluster: this is no pod, and there is no usable kubeconfig (name one: KUBECONFIG=FILE)")
        })?
    };
    config.connect_timeout = Some(PATIENCE);
    config.write_timeout = Some(PATIENCE);
    // A watch is silent for as long as nothing changes; what asks has a
    // deadline of its own.
    config.read_timeout = None;
    let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).with_context(|| format!("{by}: {server}: cannot be used"))?;
    tracing::info!(server, namespace, identity = options.identity, "taking part in a cluster");
    Ok((client, namespace))
}

const PATIENCE: Duration = Duration::from_secs(5);
