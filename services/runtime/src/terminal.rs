//! Questions to whoever sits at the terminal.

use std::fs::File;
use std::io::{self, Read};

use crate::daemon;
use crate::options::Secret;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody to ask.
    #[error("there is no terminal to ask on")]
    NoTerminal,

    /// The terminal failed, or was closed.
    #[error("the terminal cannot be read: {0}")]
    Read(#[source] io::Error),

    /// Nothing was typed.
    #[error("nothing was typed")]
    Empty,

    /// Asked twice, and two answers.
    #[error("the two answers differ")]
    Differ,
}

/// Asks for a secret on the terminal, which does not show it. With `again`, asks once more by that prompt, and takes
/// equal answers alone.
///
/// A daemon ([`crate::daemon::detach`]) asks nobody: it is told what the process that it came from was told.
///
/// # Errors
/// [`AskError`].
pub fn ask(prompt: &str, again: Option<&str>) -> Result<Secret, AskError> {
    if daemon::is_daemon() {
        return handed_over();
    }
    // Without a terminal there would be no prompt, and an answer would be seen.
    File::open("/dev/tty").map_err(|_| AskError::NoTerminal)?;
    let ask = |prompt| rpassword::prompt_password(prompt).map_err(AskError::Read);
    let answer = ask(prompt)?;
    if answer.is_empty() {
        return Err(AskError::Empty);
    }
    match again.map(ask).transpose()? {
        Some(second) if second != answer => Err(AskError::Differ),
        _ => Ok(Secret::from(answer.into_bytes())),
    }
}

fn handed_over() -> Result<Secret, AskError> {
    let mut answer = Vec::new();
    io::stdin().read_to_end(&mut answer).map_err(AskError::Read)?;
    if answer.is_empty() { Err(AskError::NoTerminal) } else { Ok(Secret::from(answer)) }
}
