//! The Tentacle wire, without I/O of its own: commands, replies, names,
//! filters, passwords and archives as types; framing over any stream; and a
//! client with one method a verb.
//!
//! The facts behind it are in `docs/protocol.md`.

pub mod archive;
mod client;
mod command;
mod connection;
mod filters;
mod name;
mod password;
mod reply;

pub use crate::{
    client::{Client, ClientError, piece_size},
    command::{Command, Form, Verb},
    connection::{Connection, ConnectionError, Deadline},
    filters::{FilterError, Filters},
    name::{FileName, MAX_NAME, NameError, NameRules},
    password::PasswordDigest,
    reply::{Features, Refusal, Reply},
};
