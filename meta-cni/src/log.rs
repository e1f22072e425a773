//! The log: one JSON object per line, to stderr or to a file of bounded size. Never a whole configuration,
//! which may hold credentials, and never stdout, which belongs to the protocol.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use store::settings::{LogLevel, LogSettings};

/// Where lines go, and what each line says of the call that it belongs to.
#[derive(Debug)]
pub(crate) struct Log {
    settings: LogSettings,
    about: Map<String, Value>,
}

impl Log {
    pub(crate) fn new(settings: LogSettings) -> Self {
        Self { settings, about: Map::new() }
    }

    /// The same log, whose lines say one thing more.
    pub(crate) fn about(mut self, key: &str, value: &dyn ToString) -> Self {
        self.about.insert(key.to_owned(), value.to_string().into());
        self
    }

    pub(crate) fn error(&self, message: &str, fields: &[(&str, &dyn ToString)]) {
        self.line(LogLevel::Error, "error", message, fields);
    }

    pub(crate) fn warn(&self, message: &str, fields: &[(&str, &dyn ToString)]) {
        self.line(LogLevel::Warn, "warn", message, fields);
    }

    pub(crate) fn info(&self, message: &str, fields: &[(&str, &dyn ToString)]) {
        self.line(LogLevel::Info, "info", message, fields);
    }

    pub(crate) fn debug(&self, message: &str, fields: &[(&str, &dyn ToString)]) {
        self.line(LogLevel::Debug, "debug", message, fields);
    }

    fn line(&self, level: LogLevel, name: &str, message: &str, fields: &[(&str, &dyn ToString)]) {
        if level > self.settings.level {
            return;
        }
        let mut line = self.about.clone();
        line.insert("time".to_owned(), timestamp(SystemTime::now()).into());
        line.insert("level".to_owned(), name.into());
        line.insert("message".to_owned(), message.into());
        for (key, value) in fields {
            line.insert((*key).to_owned(), value.to_string().into());
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // A log that cannot be written must not fail a pod.
        if self.settings.to_stderr {
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        if let Some(path) = &self.settings.file {
            let _ = append(path, text.as_bytes(), &self.settings);
        }
    }
}

/// Appends one line; puts the file aside first when it has grown to its bound. Lines of several processes do
/// not mix, since each is one write in append mode.
fn append(path: &Path, line: &[u8], settings: &LogSettings) -> std::io::Result<()> {
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let mut file = open()?;
    if file.metadata()?.len() + u64::try_from(line.len()).unwrap_or(u64::MAX) > settings.max_bytes {
        put_aside(path, &file, settings)?;
        file = open()?;
    }
    file.write_all(line)
}

/// `log` becomes `log.1`, that becomes `log.2` and so on. Whoever holds the lock does it; others write on into
/// the file that they have opened, which is either one.
fn put_aside(path: &Path, file: &File, settings: &LogSettings) -> std::io::Result<()> {
    if file.try_lock().is_err() || std::fs::metadata(path)?.len() < file.metadata()?.len() {
        return Ok(());
    }
    let numbered = |n: u32| -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        name.into()
    };
    for n in (1..settings.max_backups).rev() {
        let _ = std::fs::rename(numbered(n), numbered(n + 1));
    }
    if settings.max_backups == 0 { file.set_len(0) } else { std::fs::rename(path, numbered(1)) }
}

/// RFC 3339 in UTC, to the millisecond.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Howard Hinnant's civil_from_days: eras of 400 years that begin on the first of March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!(
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        year + era * 400,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(path: &Path, level: LogLevel, max_bytes: u64) -> LogSettings {
        LogSettings { level, to_stderr: false, file: Some(path.to_owned()), max_bytes, max_backups: 2 }
    }

    #[test]
    fn timestamps_are_dates_that_people_know() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_478_399, "2026-11-23T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn lines_are_json_with_what_the_call_is_about() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::new(settings(&path, LogLevel::Info, 1 << 20)).about("container", &"c1");
        log.info("attached", &[("network", &"a\nb")]);
        log.debug("too quiet", &[]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["container"], "c1");
        assert_eq!(lines[0]["network"], "a\nb");
        assert_eq!(lines[0]["level"], "info");
    }

    #[test]
    fn a_log_file_stays_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::new(settings(&path, LogLevel::Error, 1000));
        for _ in 0..200 {
            log.error("again", &[]);
        }
        let sizes: Vec<u64> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 3, "the file and two put aside");
        assert!(sizes.iter().all(|&size| size <= 1000), "{sizes:?}");
    }
}
