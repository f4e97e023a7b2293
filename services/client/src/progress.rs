//! How far a transfer is, for who waits at a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far one file is. Nothing is drawn before a second has passed, and the
/// line is cleared at the end.
#[derive(Debug)]
pub(crate) struct Progress {
    /// None where nobody looks.
    line: Option<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    size: u64,
    done: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of a file of `size` bytes; drawn only if `shown`.
    pub(crate) fn new(name: &impl ToString, size: u64, shown: bool) -> Self {
        let line = || Line { name: name.to_string(), size, done: 0, started: Instant::now(), bar: None };
        Self { line: shown.then(line) }
    }

    /// So many more bytes are through.
    pub(crate) fn advance(&mut self, bytes: usize) {
        if let Some(line) = &mut self.line {
            line.advance(bytes as u64);
        }
    }
}

impl Line {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if self.bar.is_none() && self.started.elapsed() >= PATIENCE {
            self.bar = Some(self.draw());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    fn draw(&self) -> ProgressBar {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template below is well-formed");
        let target = ProgressDrawTarget::stderr_with_hz(FRAMES_A_SECOND);
        ProgressBar::with_draw_target(Some(self.size), target)
            .with_style(style)
            .with_message(self.name.clone())
            .with_elapsed(self.started.elapsed())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How long a transfer takes that needs no word.
const PATIENCE: Duration = Duration::from_secs(1);

const FRAMES_A_SECOND: u8 = 5;

const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
