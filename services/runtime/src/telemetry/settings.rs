//! The `OTEL_*` variables, as the specification has them.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use opentelemetry_sdk::trace::Sampler;

/// What the variables ask for.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `OTEL_SDK_DISABLED`: nothing is made, and nothing can be scraped.
    pub(crate) disabled: bool,
    pub(crate) traces: Option<Target>,
    pub(crate) metrics: Option<Target>,
    pub(crate) logs: Option<Target>,
    /// Decides by the trace's id.
    pub(crate) sampler: Sampler,
    pub(crate) batch: Batch,
    pub(crate) log_batch: Batch,
    pub(crate) push_every: Duration,
    /// What is passed over, a line each.
    pub(crate) warnings: Vec<String>,
}

/// Where a signal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) protocol: Protocol,
    /// With the signal's path where the protocol has one.
    pub(crate) endpoint: String,
    /// For one request.
    pub(crate) patience: Duration,
    pub(crate) tls: Files,
}

/// The PEM files of a connection to a collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// How a signal is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) queue: usize,
    pub(crate) batch: usize,
    pub(crate) delay: Duration,
    pub(crate) patience: Duration,
}

/// A value that ends the start.
#[derive(Debug, thiserror::Error)]
#[error("{name}={value:?}: {why}")]
pub struct SettingsError {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) why: String,
}

// === impl Settings ===

impl Settings {
    pub(crate) fn from_environment() -> Result<Settings, SettingsError> {
        Settings::read(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn read(get: impl Fn(&str) -> Option<String>) -> Result<Settings, SettingsError> {
        // Empty is as good as unset, says the specification.
        let get =
            |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let mut reading = Reading { get: &get, warnings: Vec::new() };
        let disabled = reading.switch("OTEL_SDK_DISABLED");
        let batch = reading.batch("OTEL_BSP_", 5000);
        let log_batch = reading.batch("OTEL_BLRP_", 1000);
        let push_every = reading.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000);
        let sampler = reading.sampler();
        let mut target = |signal, unasked| match disabled {
            true => Ok(None),
            false => reading.target(signal, unasked),
        };
        let (traces, metrics) = (target("TRACES", true)?, target("METRICS", true)?);
        let logs = target("LOGS", false)?;
        let warnings = reading.warnings;
        Ok(Settings { disabled, traces, metrics, logs, sampler, batch, log_batch, push_every, warnings })
    }

    /// Whether anything goes to a collector.
    pub(crate) fn sends(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }
}

struct Reading<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

// === impl Reading ===

impl Reading<'_> {
    /// Where a signal goes; nowhere without an endpoint, and logs only where they are asked for by name.
    fn target(&mut self, signal: &str, unasked: bool) -> Result<Option<Target>, SettingsError> {
        if !self.is_exported(signal, unasked) {
            return Ok(None);
        }
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let found = [own.as_str(), "OTEL_EXPORTER_OTLP_ENDPOINT"]
            .into_iter()
            .find_map(|name| Some((name, (self.get)(name)?)));
        let Some((name, value)) = found else { return Ok(None) };
        let refuse =
            |why: &str| SettingsError { name: name.to_owned(), value: value.clone(), why: why.to_owned() };
        let uri: Uri = value.parse().map_err(|_| refuse(NO_URL))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(refuse(NO_URL));
        }
        let protocol = self.protocol(signal);
        self.warn_of_pairs(&[
            format!("OTEL_EXPORTER_OTLP_{signal}_HEADERS"),
            "OTEL_EXPORTER_OTLP_HEADERS".to_owned(),
        ]);
        self.warn_of_pairs(&["OTEL_RESOURCE_ATTRIBUTES".to_owned()]);
        if let Some((name, value)) =
            self.of_signal(signal, "COMPRESSION").filter(|(_, value)| value != "none")
        {
            self.pass_over(&name, &value, "allowed is none: what is sent is not packed");
        }
        let endpoint = match (protocol, name == own) {
            (Protocol::HttpProtobuf, false) => {
                format!("{}/v1/{}", value.trim_end_matches('/'), signal.to_lowercase())
            }
            _ => value.clone(),
        };
        let patience = match self.of_signal(signal, "TIMEOUT") {
            Some((name, value)) => self.number(&name, &value, 10_000),
            None => 10_000,
        };
        let tls = self.files(signal)?;
        Ok(Some(Target { protocol, endpoint, patience: Duration::from_millis(patience), tls }))
    }

    /// A list of pairs is read by who uses it, and what is no pair passed over. Its values may be secrets.
    fn warn_of_pairs(&mut self, names: &[String]) {
        for name in names {
            let list = (self.get)(name).unwrap_or_default();
            let is_pair = |pair: &str| pair.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty());
            if !list.split_terminator(',').all(is_pair) {
                self.warn(format!(
                    "{name}: what is no KEY=VALUE in it is passed over (commas stand between pairs)"
                ));
            }
        }
    }

    fn is_exported(&mut self, signal: &str, unasked: bool) -> bool {
        let name = format!("OTEL_{signal}_EXPORTER");
        let Some(value) = (self.get)(&name) else { return unasked };
        let mut exported = false;
        for one in value.split(',').map(str::trim) {
            match one {
                "otlp" => exported = true,
                "none" => {}
                // They can be scraped without being asked for.
                "prometheus" if signal == "METRICS" => {}
                _ => self.pass_over(&name, &value, "allowed are otlp and none"),
            }
        }
        exported
    }

    fn protocol(&mut self, signal: &str) -> Protocol {
        match self.of_signal(signal, "PROTOCOL") {
            None => Protocol::HttpProtobuf,
            Some((_, value)) if value == "grpc" => Protocol::Grpc,
            Some((_, value)) if value == "http/protobuf" => Protocol::HttpProtobuf,
            Some((name, value)) => {
                self.pass_over(&name, &value, "allowed are grpc and http/protobuf, which is taken now");
                Protocol::HttpProtobuf
            }
        }
    }

    fn files(&mut self, signal: &str) -> Result<Files, SettingsError> {
        let file = |what: &str| {
            let Some((name, value)) = self.of_signal(signal, what) else { return Ok(None) };
            let path = PathBuf::from(&value);
            match std::fs::File::open(&path) {
                Ok(_) => Ok(Some(path)),
                Err(error) => Err(SettingsError {
                    name,
                    value,
                    why: format!("{error} (name a PEM file that can be read, or leave it out)"),
                }),
            }
        };
        let authorities = file("CERTIFICATE")?;
        let (certificate, key) = (file("CLIENT_CERTIFICATE")?, file("CLIENT_KEY")?);
        if certificate.is_some() != key.is_some() {
            let given = if key.is_some() { "CLIENT_KEY" } else { "CLIENT_CERTIFICATE" };
            let (name, value) = self.of_signal(signal, given).unwrap_or_default();
            let why = "CLIENT_CERTIFICATE and CLIENT_KEY go together (name both, or neither)".to_owned();
            return Err(SettingsError { name, value, why });
        }
        Ok(Files { authorities, certificate, key })
    }

    /// A variable of one signal, or else that of all.
    fn of_signal(&self, signal: &str, what: &str) -> Option<(String, String)> {
        [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
            .into_iter()
            .find_map(|name| (self.get)(&name).map(|value| (name, value)))
    }

    fn sampler(&mut self) -> Sampler {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        let Some(value) = (self.get)(NAME) else { return Sampler::AlwaysOn };
        match value.strip_prefix("parentbased_").unwrap_or(&value) {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(self.ratio()),
            _ => {
                let allowed = "allowed are always_on, always_off and traceidratio, also with parentbased_ \
                               before them; everything is sampled now";
                self.pass_over(NAME, &value, allowed);
                Sampler::AlwaysOn
            }
        }
    }

    fn ratio(&mut self) -> f64 {
        const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(value) = (self.get)(NAME) else { return 1.0 };
        match value.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => {
                self.pass_over(NAME, &value, "allowed is a number from 0 to 1; 1 is taken now");
                1.0
            }
        }
    }

    fn batch(&mut self, prefix: &str, delay: u64) -> Batch {
        let mut number = |what: &str, default| {
            let name = format!("{prefix}{what}");
            match (self.get)(&name) {
                Some(value) => self.number(&name, &value, default),
                None => default,
            }
        };
        let delay = Duration::from_millis(number("SCHEDULE_DELAY", delay));
        let patience = Duration::from_millis(number("EXPORT_TIMEOUT", 30_000));
        let queue = usize::try_from(number("MAX_QUEUE_SIZE", 2048)).unwrap_or(MOST_QUEUED).min(MOST_QUEUED);
        let batch = usize::try_from(number("MAX_EXPORT_BATCH_SIZE", 512)).unwrap_or(queue).min(queue);
        Batch { queue, batch, delay, patience }
    }

    fn milliseconds(&mut self, name: &str, default: u64) -> Duration {
        let value = (self.get)(name);
        Duration::from_millis(value.map_or(default, |value| self.number(name, &value, default)))
    }

    fn number(&mut self, name: &str, value: &str, default: u64) -> u64 {
        match value.parse() {
            Ok(number) if number >= 1 => number,
            _ => {
                self.pass_over(
                    name,
                    value,
                    &format!("allowed are whole numbers from 1 on; {default} is taken now"),
                );
                default
            }
        }
    }

    fn switch(&mut self, name: &str) -> bool {
        match (self.get)(name) {
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            Some(value) if !value.eq_ignore_ascii_case("false") => {
                self.pass_over(name, &value, "allowed are true and false, which is taken now");
                false
            }
            _ => false,
        }
    }

    fn pass_over(&mut self, name: &str, value: &str, why: &str) {
        self.warn(format!("{name}={value:?} is passed over: {why}"));
    }

    fn warn(&mut self, line: String) {
        if !self.warnings.contains(&line) {
            self.warnings.push(line);
        }
    }
}

const NO_URL: &str = "is no URL of a collector (write http://HOST:PORT or https://HOST:PORT)";

/// A span takes some hundred bytes: what waits stays below a few hundred MB, whatever is asked for.
const MOST_QUEUED: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn without_an_endpoint_nothing_is_sent() {
        for variables in
            [&[][..], &[("OTEL_TRACES_EXPORTER", "otlp")], &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]]
        {
            let settings = read(variables).unwrap();
            assert!(!settings.sends() && settings.warnings.is_empty(), "{settings:?}");
        }
    }

    #[test]
    fn an_endpoint_is_for_traces_and_metrics_and_logs_are_asked_for() {
        let settings = read(&[ENDPOINT]).unwrap();
        assert_eq!(settings.traces.unwrap().endpoint, "http://collector:4318/v1/traces");
        assert_eq!(settings.metrics.unwrap().endpoint, "http://collector:4318/v1/metrics");
        assert_eq!(settings.logs, None);
        let settings = read(&[
            ENDPOINT,
            ("OTEL_METRICS_EXPORTER", "prometheus,none"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs/in"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
        ])
        .unwrap();
        assert_eq!(settings.metrics, None);
        assert_eq!(settings.logs.unwrap().endpoint, "https://logs/in");
        let traces = settings.traces.unwrap();
        assert_eq!((traces.protocol, traces.endpoint.as_str()), (Protocol::Grpc, "http://collector:4318/"));
        assert_eq!(traces.patience, Duration::from_millis(250));
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn disabled_is_disabled() {
        let settings = read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap();
        assert!(settings.disabled && !settings.sends());
    }

    #[test]
    fn a_wrong_value_is_said_and_passed_over() {
        for (name, value, said) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "allowed are grpc and http/protobuf"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "tcp", "allowed are grpc and http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "allowed is none"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "whole numbers from 1 on; 10000 is taken"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "allowed are otlp and none"),
            ("OTEL_METRICS_EXPORTER", "console", "allowed are otlp and none"),
            ("OTEL_LOGS_EXPORTER", "file", "allowed are otlp and none"),
            ("OTEL_TRACES_SAMPLER", "xray", "allowed are always_on, always_off and traceidratio"),
            ("OTEL_SDK_DISABLED", "yes", "allowed are true and false"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "whole numbers from 1 on; 2048 is taken"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1", "512 is taken"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1s", "5000 is taken"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "x", "30000 is taken"),
            ("OTEL_BLRP_MAX_QUEUE_SIZE", "x", "2048 is taken"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "x", "60000 is taken"),
        ] {
            let settings = read(&[ENDPOINT, (name, value)]).unwrap();
            let [line] = &settings.warnings[..] else { panic!("{name}: {:?}", settings.warnings) };
            assert!(line.starts_with(&format!("{name}={value:?} is passed over: ")), "{line}");
            assert!(line.contains(said), "{line}");
        }
        let ratio = [ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "10%")];
        assert!(read(&ratio).unwrap().warnings[0].contains("a number from 0 to 1"));
    }

    #[test]
    fn a_list_that_holds_no_pairs_is_said_without_its_values() {
        for name in
            ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_RESOURCE_ATTRIBUTES"]
        {
            let settings = read(&[ENDPOINT, (name, "key=value,secret")]).unwrap();
            let [line] = &settings.warnings[..] else { panic!("{name}: {:?}", settings.warnings) };
            assert!(
                line.starts_with(&format!("{name}: what is no KEY=VALUE")) && !line.contains("secret"),
                "{line}"
            );
            assert!(read(&[ENDPOINT, (name, "a=b,c=d")]).unwrap().warnings.is_empty());
        }
    }

    #[test]
    fn an_endpoint_or_a_file_of_no_use_ends_the_start() {
        for value in ["collector:4317", "ftp://collector", "http://", "a b", "/path"] {
            let error = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]).unwrap_err().to_string();
            let wanted = format!("OTEL_EXPORTER_OTLP_ENDPOINT={value:?}: {NO_URL}");
            assert_eq!(error, wanted);
        }
        let missing = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem");
        let error = read(&[ENDPOINT, missing]).unwrap_err().to_string();
        assert!(
            error.starts_with("OTEL_EXPORTER_OTLP_CERTIFICATE=\"/nowhere/ca.pem\": No such file"),
            "{error}"
        );
        let alone = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/dev/null");
        let error = read(&[ENDPOINT, alone]).unwrap_err().to_string();
        assert!(
            error.starts_with("OTEL_EXPORTER_OTLP_CLIENT_KEY=\"/dev/null\": CLIENT_CERTIFICATE and"),
            "{error}"
        );
    }

    #[test]
    fn a_ratio_is_of_the_trace_id_whatever_the_parent() {
        for name in ["traceidratio", "parentbased_traceidratio"] {
            let variables = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", "0.1")];
            let sampler = read(&variables).unwrap().sampler;
            assert!(matches!(sampler, Sampler::TraceIdRatioBased(0.1)), "{sampler:?}");
        }
    }
}
