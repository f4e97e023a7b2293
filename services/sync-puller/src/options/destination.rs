//! Where files go, as each layer says it.

use std::{collections::HashSet, path::PathBuf};

use runtime::options::{SecretSource, secret_from};
use transport::Address;

use super::{Destination, Given, OptionsError, tls};
use crate::config::Settings;

/// What makes an error of a reason.
type Wrong<'a> = &'a dyn Fn(String) -> OptionsError;

impl Given {
    /// Where the files of a source go that says `own` of itself; none where
    /// nobody says it.
    pub(super) fn destination(
        &self,
        own: &Settings,
        wrong: Wrong<'_>,
    ) -> Result<Option<Destination>, OptionsError> {
        match (&own.forward_to, &own.incoming_dir) {
            (Some(_), Some(_)) => {
                Err(wrong("forward_to: give either this or incoming_dir, not both".to_owned()))
            }
            (Some(servers), None) => {
                let servers = addresses(servers).map_err(|why| wrong(format!("forward_to: {why}")))?;
                self.servers(servers, own, wrong).map(Some)
            }
            (None, Some(path)) => self.folder(path.clone(), own, wrong).map(Some),
            (None, None) => self.general(own, wrong),
        }
    }

    /// Where the files of a source go that says nothing of it.
    pub(super) fn general_destination(&self) -> Result<Option<Destination>, OptionsError> {
        if let Some(key) = self.file.defaults.destination_key() {
            let why = format!("defaults: {key}: belongs at the top of the file, or to a source");
            return Err(self.wrong(&why));
        }
        self.general(&Settings::default(), &|why| self.wrong(&why))
    }

    /// A source without anywhere to go.
    pub(super) fn nowhere(&self) -> OptionsError {
        let none = "nowhere for the files to go (name the incoming folder, or --forward-to HOST[:PORT])";
        self.layers.refuse("incoming-dir", none).into()
    }

    fn general(&self, own: &Settings, wrong: Wrong<'_>) -> Result<Option<Destination>, OptionsError> {
        let forward = self.layers.get::<Vec<Address>>("forward-to").cloned();
        let written = self.file.forward_to.as_deref().map(addresses).transpose();
        let written = written.map_err(|why| self.wrong(&format!("forward_to: {why}")))?;
        let forward = match self.above("forward-to") {
            true => forward,
            // What stands above the file says where to, one way or the other.
            false if self.above("incoming-dir") => None,
            false => written.or(forward),
        };
        let incoming = self.layers.get::<PathBuf>("incoming-dir").cloned();
        let path = match self.above("incoming-dir") {
            true => incoming,
            false => self.file.incoming_dir.clone().or(incoming),
        };
        match (forward, path) {
            // pandora_server.conf always has an incomingdir: it is no choice.
            (Some(servers), _) => self.servers(servers, own, wrong).map(Some),
            (None, Some(path)) => self.folder(path, own, wrong).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn folder(&self, path: PathBuf, own: &Settings, wrong: Wrong<'_>) -> Result<Destination, OptionsError> {
        let of_servers = [
            ("forward_password", own.forward_password.is_some()),
            ("forward_password_file", own.forward_password_file.is_some()),
            ("forward_tls", own.forward_tls.is_some()),
        ];
        if let Some((key, _)) = of_servers.into_iter().find(|(_, given)| *given) {
            let folder = path.display();
            return Err(wrong(format!("{key}: only goes with forward_to, and its files go to {folder}")));
        }
        let general = self.layers.switch("overwrite") || self.file.overwrite == Some(true);
        Ok(Destination::Folder { path, overwrite: own.overwrite.unwrap_or(general) })
    }

    /// What the source does not say of the servers, the general settings say.
    fn servers(
        &self,
        addresses: Vec<Address>,
        own: &Settings,
        wrong: Wrong<'_>,
    ) -> Result<Destination, OptionsError> {
        if own.overwrite.is_some() {
            let why = "overwrite: only goes with incoming_dir, and its files go to a server";
            return Err(wrong(why.to_owned()));
        }
        let tls = self.tls(tls::FORWARD, own.forward_tls.as_ref(), self.file.forward_tls.as_ref());
        let tls = tls.map_err(|why| match own.forward_tls {
            Some(_) => wrong(format!("forward_tls: {why}")),
            None => self.wrong(&format!("forward_tls: {why}")),
        })?;
        Ok(Destination::Servers { addresses, password: self.forward_password(own)?, tls: tls.map(Box::new) })
    }

    fn forward_password(&self, own: &Settings) -> Result<Option<SecretSource>, OptionsError> {
        let key = "forward_password";
        if let Some(own) = self.written(key, &own.forward_password, &own.forward_password_file)? {
            return Ok(Some(own));
        }
        match secret_from(&self.layers, "forward-password", "forward-password-file")? {
            None => self.written(key, &self.file.forward_password, &self.file.forward_password_file),
            secret => Ok(secret),
        }
    }
}

/// Servers, with commas between.
pub(super) fn addresses(text: &str) -> Result<Vec<Address>, String> {
    let parse = |one: &str| {
        let one = one.trim();
        one.parse::<Address>().map_err(|why| match text.contains(',') {
            true => format!("{one:?}: {why}"),
            false => why.to_string(),
        })
    };
    let addresses = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    match addresses.iter().find(|address| !seen.insert(*address)) {
        Some(twice) => Err(format!("{twice} is named twice (each server once)")),
        None => Ok(addresses),
    }
}
