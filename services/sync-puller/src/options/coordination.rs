//! The options of a puller that is not alone: it shares its sources with
//! others, or is told of them by a cluster.

use std::{str::FromStr, time::Duration};

use clap::Arg;
use runtime::options::{Layers, OptionError, switch, value, values::count};

/// A part in a Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// Where the leases and the objects are; None: where this process is.
    pub namespace: Option<String>,
    /// What this process is called there.
    pub identity: String,
    /// How it shares its sources with other processes; None: it does not.
    pub sharing: Option<Sharing>,
    /// Whether the namespace's objects name sources too.
    pub custom_resources: bool,
}

/// How sources are shared: all who do must say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// How many shards the sources are in.
    pub shards: u32,
    /// How long others wait for one that does not renew a lease.
    pub lease_duration: Duration,
    /// How the names of all leases begin.
    pub lease_name: String,
}

/// Who else pulls the same sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coordination {
    None,
    Kubernetes,
}

pub(super) fn arguments() -> Vec<Arg> {
    vec![
        value(
            "coordination",
            None,
            "none|kubernetes",
            "With kubernetes, share the sources with other pullers, by leases in a cluster [default: none]",
        )
        .value_parser(Coordination::from_str),
        value("shards", None, "NUMBER", "Share them in so many parts, the same in all pullers [default: 32]")
            .value_parser(count(1..=1024)),
        value(
            "lease-duration",
            None,
            "SECONDS",
            "Replace a puller that was not heard of for so long, 3 to 3600 [default: 15]",
        )
        .value_parser(lease_duration),
        value(
            "lease-name",
            None,
            "NAME",
            "Begin the names of the leases with this [default: tentacle-sync-puller]",
        )
        .value_parser(lease_name),
        value(
            "namespace",
            None,
            "NAMESPACE",
            "Use this namespace of the cluster [default: the pod's, or that of the kubeconfig's context]",
        )
        .value_parser(namespace),
        value(
            "identity",
            None,
            "NAME",
            "Be called so among the pullers, each by its own name [default: the host name]",
        )
        .value_parser(identity),
        switch(
            "custom-resources",
            None,
            "Fetch from the sources that the namespace's TentacleSource objects name, too",
        ),
    ]
}

/// What the layers say; None where nothing has to do with a cluster.
pub(super) fn kubernetes(layers: &Layers) -> Result<Option<Kubernetes>, OptionError> {
    let is_shared = layers.get("coordination") == Some(&Coordination::Kubernetes);
    let custom_resources = layers.switch("custom-resources");
    let given = |options: [&'static str; 3]| options.into_iter().find(|id| layers.source_of(id).is_some());
    if let Some(id) = given(["shards", "lease-duration", "lease-name"]).filter(|_| !is_shared) {
        return Err(layers.refuse(id, "only goes with --coordination kubernetes (give both, or neither)"));
    }
    if is_shared && layers.switch("once") {
        let why = "one round takes no part in --coordination kubernetes (give one of the two)";
        return Err(layers.refuse("once", why));
    }
    if !is_shared && !custom_resources {
        let alone =
            "only goes with --coordination kubernetes or --custom-resources (give one of them, or leave it)";
        let senseless = ["namespace", "identity"].into_iter().find(|id| layers.source_of(id).is_some());
        return senseless.map_or(Ok(None), |id| Err(layers.refuse(id, alone)));
    }
    let host = || {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let wrong = |why: String| {
            layers.refuse("identity", format!("the host name is {host:?}: {why} (give another)"))
        };
        identity(&host).map_err(wrong)
    };
    let sharing = is_shared.then(|| Sharing {
        shards: layers.get::<u64>("shards").map_or(32, |&shards| u32::try_from(shards).unwrap_or(u32::MAX)),
        lease_duration: layers.get::<Duration>("lease-duration").copied().unwrap_or(Duration::from_secs(15)),
        lease_name: layers
            .get::<String>("lease-name")
            .cloned()
            .unwrap_or_else(|| "tentacle-sync-puller".to_owned()),
    });
    Ok(Some(Kubernetes {
        namespace: layers.get::<String>("namespace").cloned(),
        identity: layers.get::<String>("identity").map_or_else(host, |name| Ok(name.clone()))?,
        sharing,
        custom_resources,
    }))
}

impl FromStr for Coordination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "kubernetes" => Ok(Self::Kubernetes),
            _ => Err("allowed are none and kubernetes".to_owned()),
        }
    }
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (3..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "allowed are 3 to 3600 seconds".to_owned())
}

/// Others append `-member-IDENTITY` and `-shard-NUMBER`, and write it as the
/// value of a label.
fn lease_name(text: &str) -> Result<String, String> {
    match is_label(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{LABEL}, as leases are named after it")),
    }
}

fn namespace(text: &str) -> Result<String, String> {
    if is_label(text) { Ok(text.to_owned()) } else { Err(LABEL.to_owned()) }
}

/// Stands in leases, in statuses and in the log.
fn identity(text: &str) -> Result<String, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        _ if text.len() > 253 => Err("at most 253 bytes are allowed".to_owned()),
        _ if text.chars().any(char::is_control) => Err("it holds a control character".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// RFC 1123, as Kubernetes takes it.
fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().last().is_some_and(plain);
    ends && text.len() <= 63 && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

const LABEL: &str = "allowed are up to 63 small letters, digits and -, with neither end a -";
