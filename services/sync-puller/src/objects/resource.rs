//! The custom resource `TentacleSource`, as the API server has it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A remote buffer of files, and how it is pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, CustomResource, Deserialize, JsonSchema, Serialize)]
#[kube(
    group = "tentacle.dev",
    version = "v1alpha1",
    kind = "TentacleSource",
    plural = "tentaclesources",
    shortname = "tsrc",
    namespaced,
    status = "TentacleSourceStatus",
    doc = "A remote buffer of files that speaks the Tentacle protocol, and that the sync-puller empties.",
    printcolumn = r#"{"name": "Address", "type": "string", "jsonPath": ".spec.address", "description": "Where it listens"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status", "description": "Whether the last round ended well"}"#,
    printcolumn = r#"{"name": "Holder", "type": "string", "jsonPath": ".status.holder", "description": "The process that pulls it"}"#,
    printcolumn = r#"{"name": "Backlog", "type": "integer", "jsonPath": ".status.backlog", "description": "Files that are listed and not fetched"}"#,
    printcolumn = r#"{"name": "Files", "type": "integer", "jsonPath": ".status.files", "description": "Files that were fetched"}"#,
    printcolumn = r#"{"name": "Last success", "type": "date", "jsonPath": ".status.lastSuccess", "description": "When a round ended well the last time"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.message", "description": "Why it is not pulled"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "When it was made"}"#
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TentacleSourceSpec {
    /// The host to connect to, with a port or without: HOST or HOST:PORT; an address of IPv6 stands
    /// in brackets before a port. A name that stands for several addresses, such as that of a
    /// headless service, stands for several buffers, each pulled by itself.
    #[schemars(length(min = 1, max = 270))]
    pub(crate) address: String,
    /// The TCP port, where the address has none. Default: that of the sync-puller's options, 41121.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// Whether pulling is to rest. What is fetched stays where it is, and what is not stays at the
    /// source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<bool>,
    /// Encryption. Without this, the sync-puller's options say whether and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<SourceTls>,
    /// The password that the source wants to be told, in a secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password_secret: Option<PasswordSecret>,
    /// Folders of the source's filters that are fetched beside its root. Default: those of the
    /// sync-puller's options.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) folders: Option<Vec<SourceFolder>>,
    /// Seconds between a round that found nothing more and the next. Default: that of the
    /// sync-puller's options, 10.
    #[schemars(range(min = 1, max = 86400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<u64>,
    /// Connections to it at once. Default: that of the sync-puller's options, 4.
    #[schemars(range(min = 1, max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<u64>,
    /// Seconds that it is waited for, each try. Default: that of the sync-puller's options, 10.
    #[schemars(range(min = 1, max = 86400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<u64>,
    /// Tries after the first: the source has (retries + 1) x timeout seconds. Default: that of the
    /// sync-puller's options, 3.
    #[schemars(range(max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<u64>,
    /// How a file is taken: safe (fetch, then move and compare: for a server that forgets a file
    /// with its last byte), fast (move alone), or auto (the source is asked). Default: that of the
    /// sync-puller's options, auto.
    #[schemars(extend("enum" = ["auto", "safe", "fast"]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
}

/// Encryption of the connections to a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceTls {
    /// Whether connections are encrypted. Default: true, where tls is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    /// A secret of the same namespace, as cert-manager writes them: the certificate to show in
    /// tls.crt, its key in tls.key, and in ca.crt, if it is there, the authority that the source's
    /// certificate must be of.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_name: Option<String>,
    /// A secret of the same namespace that holds the authority in ca.crt, in place of that of
    /// secretName.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_secret_name: Option<String>,
    /// The name or address that the source's certificate must be for. Default: the address's host.
    /// Only with an authority or a pin.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
    /// What becomes of a certificate without alternative names: taken by its authority alone
    /// (auto), or only if its CN is the name (strict). Only with an authority or a pin.
    #[schemars(extend("enum" = ["auto", "strict"]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verify_name: Option<String>,
    /// The source's certificate must be the one with this SHA-256: 64 hexadecimal digits, with
    /// colons between or without. Its name is not looked at then.
    #[schemars(regex(pattern = r"^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31}$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pin_sha256: Option<String>,
}

/// Where a password is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PasswordSecret {
    /// The secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub(crate) name: String,
    /// The key in it. Default: password.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

/// A folder of the source's filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceFolder {
    /// Its name, here as there.
    #[schemars(length(min = 1, max = 255))]
    pub(crate) name: String,
    /// A file name that the source's filters lead to it. Default: that of a documented filter, or
    /// .NAME.
    #[schemars(length(min = 1, max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) argument: Option<String>,
}

/// How it stands with a source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TentacleSourceStatus {
    /// Accepted: whether the spec can be used. Ready: whether the last round ended well.
    #[schemars(schema_with = "conditions")]
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
    /// When a round ended well the last time.
    #[schemars(schema_with = "date_time")]
    #[serde(default)]
    pub(crate) last_success: Option<Time>,
    /// Files that are listed at the source and not fetched.
    #[serde(default)]
    pub(crate) backlog: Option<u64>,
    /// Files that were fetched since the object was made.
    #[serde(default)]
    pub(crate) files: Option<u64>,
    /// Their bytes.
    #[serde(default)]
    pub(crate) bytes: Option<u64>,
    /// The process that pulls it.
    #[serde(default)]
    pub(crate) holder: Option<String>,
    /// Why it is not pulled, in one line.
    #[serde(default)]
    pub(crate) message: Option<String>,
    /// The metadata.generation that the conditions are about.
    #[serde(default)]
    pub(crate) observed_generation: Option<i64>,
}

/// The API server merges them by their types.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "description": "Accepted or Ready." },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so." },
                "reason": { "type": "string", "description": "Why, in one word." },
                "message": { "type": "string", "description": "Why, in one line." },
                "lastTransitionTime": { "type": "string", "format": "date-time", "description": "When the status changed." },
                "observedGeneration": { "type": "integer", "format": "int64", "description": "The metadata.generation that it is about." },
            },
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "nullable": true })
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use kube::CustomResourceExt as _;
    use serde_json::Value;

    use super::*;

    /// As `kubectl apply` takes it.
    fn definition() -> String {
        let mut definition = serde_json::to_value(TentacleSource::crd()).unwrap();
        plain(&mut definition);
        let yaml = serde_yaml::to_string(&definition).unwrap();
        format!("{HEAD}{yaml}")
    }

    /// Bounds without a fraction, descriptions in one line, and no formats
    /// that API servers warn of because they do not know them.
    fn plain(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let is_foreign =
                    |value: &mut Value| value.as_str().is_some_and(|text| text.starts_with("uint"));
                fields.retain(|key, value| key != "format" || !is_foreign(value));
                fields.values_mut().for_each(plain);
            }
            Value::Array(values) => values.iter_mut().for_each(plain),
            Value::String(text) => *text = text.replace('\n', " "),
            Value::Number(number) => {
                let whole = number.as_f64().filter(|number| number.fract() == 0.0);
                *value = whole.map_or_else(|| value.clone(), |whole| Value::from(whole as i64));
            }
            _ => {}
        }
    }

    #[test]
    fn the_committed_definition_is_that_of_the_type() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/tentacle/crds/tentaclesources.yaml");
        let wanted = definition();
        if env::var_os("UPDATE_CRD").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "charts/tentacle/crds/tentaclesources.yaml is not what the type says; write it anew: {COMMAND}"
        );
    }

    const HEAD: &str = "\
# The custom resource of the sync-puller: a source. Generated from the Rust type:
# UPDATE_CRD=1 cargo test -p sync-puller the_committed_definition
";

    const COMMAND: &str = "UPDATE_CRD=1 cargo test -p sync-puller the_committed_definition";
}
