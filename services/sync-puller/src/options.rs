//! The sync-puller's options: the tokens of `pandora_server.conf`, and what
//! it can do beyond.

mod arguments;
mod coordination;
mod destination;
mod tls;

use std::{collections::HashSet, fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use protocol::Deadline;
use runtime::{
    logs,
    options::{Layers, OptionError, Secret, SecretSource, Source as Layer, secret_from},
};
use security::ClientTls;
use transport::Address;

pub use self::arguments::program;
pub use self::coordination::{Kubernetes, Sharing};
use self::tls::TlsOptions;
pub(crate) use self::tls::{TlsSettings, written as written_tls};
pub use crate::config::Folder;
use crate::config::{File, Settings};

/// What a puller does; valid.
#[derive(Debug)]
pub struct Options {
    /// The remote buffers, each once.
    pub sources: Vec<Source>,
    /// Where the files of a source go that says nothing else; none where each
    /// source says it.
    pub destination: Option<Destination>,
    /// Connections at once, to all sources together.
    pub max_connections: usize,
    /// What it has to do with a Kubernetes cluster; none by itself.
    pub kubernetes: Option<Kubernetes>,
    /// Whether to end after one round.
    pub once: bool,
    /// How long a drain waits for transfers.
    pub drain_timeout: Duration,
    /// Where HTTP is answered.
    pub http_address: Option<SocketAddr>,
    /// The log.
    pub logs: logs::Settings,
    /// What else is said of sources.
    pub(crate) given: Given,
}

/// A remote buffer, and how it is pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it listens.
    pub address: Address,
    /// What it wants to be told.
    pub password: Option<SecretSource>,
    /// The certificates; without them, connections are plain.
    pub tls: Option<ClientTls>,
    /// Folders of its filters that are fetched beside its root.
    pub folders: Vec<Folder>,
    /// The pause after a round that found nothing more.
    pub interval: Duration,
    /// Connections at once.
    pub connections: usize,
    /// How long it is waited for.
    pub deadline: Deadline,
    /// How a file is taken from it.
    pub mode: Mode,
    /// Bytes of a piece of a body.
    pub block_size: usize,
    /// Where its files go.
    pub destination: Destination,
}

/// How a file is taken from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the source turns out to need.
    Auto,
    /// `RECV`, then `MV` and compare: for a server that forgets a file with
    /// its last byte, as the peers' does.
    Safe,
    /// `MV` alone: for a server that keeps a file until its reader has it, or
    /// whose files may be lost.
    Fast,
}

/// Where files go. Sources that name the same share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A folder that a consumer empties.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Whether a file replaces one of its name and other content.
        overwrite: bool,
    },
    /// Central Tentacle servers, by turns.
    Servers {
        /// Where they listen; at least one, each once.
        addresses: Vec<Address>,
        /// What each wants to be told.
        password: Option<SecretSource>,
        /// The certificates; without them, connections are plain.
        tls: Option<Box<ClientTls>>,
    },
}

/// Why there is nothing to do, or no way to do it.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// `syncserver 0`.
    #[error("switched off")]
    Off,
    /// One line that names the option, its value and what is allowed.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// One line about the YAML file.
    #[error("{0}")]
    File(String),
}

impl Options {
    /// Takes what the layers and the YAML file say, and the defaults for the
    /// rest. The YAML file stands above `pandora_server.conf`, and below the
    /// environment.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn from_layers(layers: &Layers) -> Result<Self, OptionsError> {
        if layers.get::<bool>("syncserver") == Some(&false) {
            return Err(OptionsError::Off);
        }
        let path = layers.get::<PathBuf>("config");
        let file = path.map(|path| File::read(path)).transpose();
        let file = file.map_err(|error| OptionsError::File(error.to_string()))?.unwrap_or_default();
        let given = Given { layers: layers.clone(), path: path.cloned().unwrap_or_default(), file };
        Ok(Self {
            sources: given.sources()?,
            destination: given.general_destination()?,
            max_connections: layers.get::<u64>("max-connections").map_or(1024, |&most| most as usize),
            kubernetes: coordination::kubernetes(layers)?,
            once: layers.switch("once"),
            drain_timeout: layers.get("drain-timeout").copied().unwrap_or(Duration::from_secs(25)),
            http_address: layers.get("http-addr").copied(),
            logs: logs::Settings::from_layers(layers),
            given,
        })
    }
}

/// The layers, and the YAML file among them: what a source takes where it says
/// nothing itself.
#[derive(Debug)]
pub(crate) struct Given {
    layers: Layers,
    path: PathBuf,
    file: File,
}

impl Given {
    fn sources(&self) -> Result<Vec<Source>, OptionsError> {
        let mut sources = Vec::new();
        if self.file.sources.is_empty() || self.above("sync-address") {
            let list = self.layers.get::<String>("sync-address");
            let none = "no source is named (write HOST[:PORT], several with commas between, sources in --config, or --custom-resources)";
            let list = match list {
                Some(list) => list,
                // There are objects, or will be.
                None if self.layers.switch("custom-resources") => return Ok(sources),
                None => return Err(self.layers.refuse("sync-address", none).into()),
            };
            for text in list.split(',') {
                let settings = Settings { address: Some(text.trim().to_owned()), ..Settings::default() };
                let wrong = |why: String| OptionsError::Option(self.layers.refuse("sync-address", why));
                sources.push(self.source(&settings, &wrong)?);
            }
        } else {
            for (index, settings) in self.file.sources.iter().enumerate() {
                sources.push(self.source(settings, &|why| self.wrong(&format!("sources[{index}]: {why}")))?);
            }
        }
        let mut seen = HashSet::new();
        if let Some(twice) = sources.iter().find(|source| !seen.insert(source.address.clone())) {
            let why = format!("{} is named twice (each source once)", twice.address);
            return Err(self.layers.refuse("sync-address", why).into());
        }
        Ok(sources)
    }

    /// A source that says `own` of itself.
    pub(crate) fn source(
        &self,
        own: &Settings,
        wrong: &dyn Fn(String) -> OptionsError,
    ) -> Result<Source, OptionsError> {
        let general = &self.file.defaults;
        let address = self.address(own).map_err(wrong)?;
        let bounded = |name: &str, value: u64, most: u64, least: u64| match (least..=most).contains(&value) {
            true => Ok(value),
            false => Err(wrong(format!("{name}: {value}: allowed are {least} to {most}"))),
        };
        let time = |id, own: Option<u64>, general: Option<u64>, default| {
            let default = Duration::from_secs(default);
            self.pick(id, own.map(Duration::from_secs), general.map(Duration::from_secs), default)
        };
        let timeout = time("sync-timeout", own.timeout, general.timeout, 10);
        bounded("timeout", timeout.as_secs(), 86400, 1)?;
        let interval = time("interval", own.interval, general.interval, 10);
        bounded("interval", interval.as_secs(), 86400, 1)?;
        let retries =
            bounded("retries", self.pick("sync-retries", own.retries, general.retries, 3), 1000, 0)?;
        let connections = self.pick("connections", own.connections, general.connections, 4);
        Ok(Source {
            address,
            password: self.password(own)?,
            tls: self
                .tls(tls::SYNC, own.tls.as_ref(), general.tls.as_ref())
                .map_err(|why| wrong(format!("tls: {why}")))?,
            folders: self.folders(own, wrong)?,
            interval,
            connections: usize::try_from(bounded("connections", connections, 256, 1)?).unwrap_or(1),
            deadline: Deadline::new(timeout, u32::try_from(retries).unwrap_or(u32::MAX)),
            mode: self.mode(own, wrong)?,
            block_size: self.layers.get::<u64>("sync-block-size").map_or(256 * 1024, |&size| size as usize),
            destination: self.destination(own, wrong)?.ok_or_else(|| self.nowhere())?,
        })
    }

    /// Where a source that says `own` of itself listens.
    pub(crate) fn address(&self, own: &Settings) -> Result<Address, String> {
        let text = own.address.as_deref().unwrap_or_default();
        let port = self.pick("sync-port", own.port, self.file.defaults.port, 41121);
        match Address::parse(text, port) {
            Ok(_) if port == 0 => Err("port: allowed are 1 to 65535".to_owned()),
            parsed => parsed.map_err(|why| format!("{text:?}: {why}")),
        }
    }

    fn folders(
        &self,
        own: &Settings,
        wrong: &dyn Fn(String) -> OptionsError,
    ) -> Result<Vec<Folder>, OptionsError> {
        let listed = self.layers.get::<String>("folders");
        let listed = listed.map(|list| list.split(',').map(|name| Folder::named(name.trim())).collect());
        let general = self.file.defaults.folders.clone();
        let folders = match (&own.folders, self.above("folders")) {
            (Some(own), _) => own.clone(),
            (None, true) => listed.unwrap_or_default(),
            (None, false) => general.or(listed).unwrap_or_default(),
        };
        match folders.iter().find(|folder| !folder.is_usable()) {
            Some(folder) => Err(wrong(format!("folders: {:?}: a name, without . and ..", folder.name))),
            None => Ok(folders),
        }
    }

    fn mode(&self, own: &Settings, wrong: &dyn Fn(String) -> OptionsError) -> Result<Mode, OptionsError> {
        let read = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
        let own = read(&own.mode).map_err(|why: String| wrong(format!("mode: {why}")))?;
        let general =
            read(&self.file.defaults.mode).map_err(|why| self.wrong(&format!("defaults: mode: {why}")))?;
        Ok(self.pick("sync-mode", own, general, Mode::Auto))
    }

    fn tls(
        &self,
        options: TlsOptions,
        own: Option<&TlsSettings>,
        general: Option<&TlsSettings>,
    ) -> Result<Option<ClientTls>, String> {
        let (above, below) = (options.settings(&self.layers, true), options.settings(&self.layers, false));
        let places = [own, Some(&above), general, Some(&below)];
        TlsSettings::merge(&places.into_iter().flatten().collect::<Vec<_>>())
    }

    fn password(&self, own: &Settings) -> Result<Option<SecretSource>, OptionsError> {
        let general = &self.file.defaults;
        let above = self.layers.source_of("password").or(self.layers.source_of("password-file"));
        Ok(match self.written("password", &own.password, &own.password_file)? {
            None if above.is_none() => self.written("password", &general.password, &general.password_file)?,
            None => secret_from(&self.layers, "password", "password-file")?,
            own => own,
        })
    }

    /// A secret in the YAML file, or in one that it names.
    fn written(
        &self,
        key: &str,
        secret: &Option<Secret>,
        file: &Option<PathBuf>,
    ) -> Result<Option<SecretSource>, OptionsError> {
        match (secret, file) {
            (Some(_), Some(_)) => {
                Err(self.wrong(&format!("{key}: give either this or {key}_file, not both")))
            }
            (None, Some(path)) => {
                let wrong = |why| self.wrong(&format!("{key}_file: {}: {why}", path.display()));
                Secret::from_file(path).map_err(wrong)?;
                Ok(Some(SecretSource::File(path.clone())))
            }
            (secret, None) => Ok(secret.clone().map(SecretSource::Given)),
        }
    }

    /// The source's own, then what stands above the file, then the file's
    /// defaults, then what stands below.
    fn pick<T: Copy + Send + Sync + 'static>(
        &self,
        id: &str,
        own: Option<T>,
        general: Option<T>,
        default: T,
    ) -> T {
        let layered = self.layers.get::<T>(id).copied();
        let ordered = if self.above(id) { layered.or(general) } else { general.or(layered) };
        own.or(ordered).unwrap_or(default)
    }

    /// Whether a layer above the YAML file gives the option.
    fn above(&self, id: &str) -> bool {
        self.layers.source_of(id).is_some_and(|layer| layer != Layer::File)
    }

    fn wrong(&self, why: &str) -> OptionsError {
        // Options say the same things.
        if self.path.as_os_str().is_empty() {
            return OptionsError::File(why.to_owned());
        }
        OptionsError::File(format!("--config: {}: {why}", self.path.display()))
    }
}

impl Source {
    /// The root (empty) and the folders that are fetched, each with the source.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Address, String)> {
        let folders = self.folders.iter().map(|folder| folder.name.clone());
        std::iter::once(String::new()).chain(folders).map(|folder| (self.address.clone(), folder))
    }
}

impl Destination {
    /// Whether certificates are looked at on the way there.
    pub(crate) fn has_tls(&self) -> bool {
        matches!(self, Self::Servers { tls: Some(_), .. })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "safe" => Ok(Self::Safe),
            "fast" => Ok(Self::Fast),
            _ => Err(format!("{text:?}: allowed are auto, safe and fast")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Safe => "safe",
            Self::Fast => "fast",
        })
    }
}
