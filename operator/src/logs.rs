//! The log: JSON lines on stderr, down to a level that can be changed while the process runs.

use std::io;
use std::panic;

use tracing::{Level, Subscriber, error};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, fmt, reload};

/// The levels, for people.
pub const LEVELS: &str = "off, error, warn, info, debug, trace";

/// Sends what is told from now on, down to `level`, to stderr; panics too. A second call sends nothing anywhere.
pub fn start(level: LevelFilter) -> Handle {
    let (lines, handle) = lines(level, io::stderr);
    // Fails only if somebody listens already.
    if tracing::subscriber::set_global_default(lines).is_ok() {
        panic::set_hook(Box::new(|panic| error!(panic = %panic, "a panic: this is a bug of braid")));
    }
    handle
}

/// JSON lines to `writer`, and what changes their level.
pub(crate) fn lines<W>(level: LevelFilter, writer: W) -> (impl Subscriber + Send + Sync, Handle)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(EnvFilter::default().add_directive(level.into()));
    // Spans are kube's: a line names what it is about itself.
    let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    let lines = lines.with_target(false).with_writer(writer);
    // kube tells each request that fails as an error of its own; whoever has asked tells it, once.
    let ours =
        filter_fn(|about| *about.level() != Level::ERROR || !about.target().starts_with("kube_client"));
    (tracing_subscriber::registry().with(filter).with(ours).with(lines), Handle(handle))
}

/// Changes the level of the log.
#[derive(Debug, Clone)]
pub struct Handle(reload::Handle<EnvFilter, Registry>);

/// Why the level stays what it was.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// One word, and not one that we know. A word alone would be taken for a module's name.
    #[error(
        "\"{0}\" is no level: {LEVELS}; or levels of single modules with a level for the rest: \
         \"info,operator=debug\""
    )]
    Unknown(String),
    /// Something longer that cannot be read.
    #[error(
        "\"{text}\" cannot be read: {LEVELS}; or levels of single modules with a level for the rest: \
         \"info,operator=debug\""
    )]
    Directive {
        /// What was given.
        text: String,
        /// Why.
        source: Box<ParseError>,
    },
    /// This log is not the one that is written.
    #[error("change the level of the log")]
    Lost(#[source] reload::Error),
}

impl Handle {
    /// The present level, as it would be set.
    pub fn level(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_else(|_| "off".to_owned())
    }

    /// Changes the level to what `text` says (`debug`, `info,operator=debug`); returns the one that holds now.
    pub fn set(&self, text: &str) -> Result<String, LevelError> {
        let filter = filter(text)?;
        let level = filter.to_string();
        self.0.reload(filter).map_err(LevelError::Lost)?;
        Ok(level)
    }
}

/// Reads a level, or levels of modules.
fn filter(text: &str) -> Result<EnvFilter, LevelError> {
    let text = text.trim();
    for part in text.split(',').map(str::trim) {
        let is_level = !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        if !is_level && !part.contains('=') {
            return Err(LevelError::Unknown(part.to_owned()));
        }
    }
    let directives = EnvFilter::builder().with_regex(false).parse(text);
    directives.map_err(|error| LevelError::Directive { text: text.to_owned(), source: Box::new(error) })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info};

    use super::*;

    /// Collects lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_failed_request_is_not_an_error_of_its_own() {
        let written = Lines::default();
        let (lines, _handle) = lines(LevelFilter::INFO, {
            let written = written.clone();
            move || written.clone()
        });
        tracing::subscriber::with_default(lines, || {
            tracing::error!(target: "kube_client::client::builder", "failed with error");
            tracing::error!("ours");
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
        assert!(written.contains("ours"));
    }

    #[test]
    fn the_level_changes_what_is_written_and_lines_are_json() {
        let written = Lines::default();
        let (lines, handle) = lines(LevelFilter::INFO, {
            let written = written.clone();
            move || written.clone()
        });
        tracing::subscriber::with_default(lines, || {
            debug!("first");
            assert_eq!(handle.set(" debug\n").unwrap(), "debug");
            debug!(networks = 3, "second");
            handle.set("off").unwrap();
            info!("third");
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["networks"]),
            (&"DEBUG".into(), &"second".into(), &3.into())
        );
    }

    #[test]
    fn levels_are_read_and_words_that_are_none_are_refused() {
        for (text, expected) in [
            ("warn", Some("warn")),
            ("OFF", Some("off")),
            ("info,operator=debug", Some("operator=debug,info")),
            ("loud", None),
            ("info,loud", None),
            ("", None),
            (",", None),
            ("operator=loud", None),
            ("info,[", None),
        ] {
            let read = filter(text).map(|filter| filter.to_string());
            assert_eq!(read.as_deref().ok(), expected, "{text:?}: {read:?}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_allowed() {
        for text in ["loud", "operator=loud"] {
            let error = filter(text).unwrap_err().to_string();
            assert!(error.contains(LEVELS) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_log_that_nobody_writes_cannot_be_changed() {
        let (lines, handle) = lines(LevelFilter::INFO, io::sink);
        drop(lines);
        assert!(matches!(handle.set("debug"), Err(LevelError::Lost(_))));
    }
}
