//! Where a text stops being JSON, said so that its author finds the place: the line, what is wrong there, and the
//! text around it with a `^` before the letter that is meant. Letters that cannot be seen are called by name.
//!
//! Everything is on one line, since events, conditions and logs have one. The line is that of the text given: who reads
//! a part of another text, such as a configuration in a YAML file, says where it stands ([`JsonSlip::at_line`]).

mod letters;

use std::fmt;

use serde::de::DeserializeOwned;

/// How many characters are shown before the place, and of a key at it.
const SHOWN: usize = 32;

/// How `serde_json` begins what it says of a line that ends within a text.
const CONTROL: &str = "control character";

/// Why a text is not JSON.
#[derive(Debug)]
pub struct JsonSlip {
    /// The line, in a text of several.
    line: Option<usize>,
    /// Whether it is the line of another text that holds this one.
    of_file: bool,
    /// In bytes from the beginning.
    offset: usize,
    problem: Problem,
    excerpt: String,
    source: serde_json::Error,
}

/// What is wrong at the place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Empty,
    Ends,
    Comment,
    Invisible(char, &'static str),
    Quotation(char),
    MissingComma,
    TrailingComma,
    Word(&'static str),
    NoJson,
    ControlCharacter,
    Other(String),
}

/// Reads JSON.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonSlip> {
    serde_json::from_slice(text).map_err(|error| JsonSlip::new(text, error))
}

/// The first slip of a text; none if it is JSON.
pub fn first(text: &str) -> Option<JsonSlip> {
    from_slice::<serde_json::Value>(text.as_bytes()).err()
}

impl JsonSlip {
    /// What `error` says of the text that was read.
    pub fn new(text: &[u8], error: serde_json::Error) -> Self {
        let text = text.trim_ascii_end();
        let (number, before, after) = place(text, &error);
        let offset =
            text.split(|byte| *byte == b'\n').take(number - 1).map(|line| line.len() + 1).sum::<usize>();
        let offset = offset + before.len();
        let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
        let problem = problem(text, &before, &after, &error);
        let excerpt = excerpt(&before, &after, &problem);
        let has_lines = text.trim_ascii_start().contains(&b'\n');
        Self { line: has_lines.then_some(number), of_file: false, offset, problem, excerpt, source: error }
    }

    /// Whether the text ends before its JSON does; it may still be written.
    pub fn is_eof(&self) -> bool {
        self.source.is_eof()
    }

    /// The line of the text in which it is, if the text has several.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Where it is, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The same slip, which stands in this line of the file that holds the text.
    #[must_use]
    pub fn at_line(self, line: usize) -> Self {
        Self { line: Some(line), of_file: true, ..self }
    }
}

impl std::error::Error for JsonSlip {}

impl fmt::Display for JsonSlip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}{}: ", if self.of_file { " of the file" } else { "" })?;
        }
        self.problem.fmt(f)?;
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, " (at the ^: {})", self.excerpt) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the text is empty"),
            Self::Ends => f.write_str("the text ends too early; a closing quotation mark, } or ] is missing"),
            Self::Comment => f.write_str("JSON has no comments; remove this one"),
            Self::Invisible(letter, name) => {
                write!(
                    f,
                    "U+{:04X} ({name}) cannot be seen and is not allowed here; delete it",
                    u32::from(*letter)
                )
            }
            Self::Quotation(letter) => {
                write!(f, "{letter} (U+{:04X}) is no quotation mark of JSON; write \"", u32::from(*letter))
            }
            Self::MissingComma => f.write_str("a comma is missing"),
            Self::TrailingComma => {
                f.write_str("there is a comma before it that nothing follows; remove the comma")
            }
            Self::Word(word) => write!(f, "JSON writes this value as {word}"),
            Self::NoJson => f.write_str("this is no JSON, which begins with { or ["),
            Self::ControlCharacter => f.write_str(
                "a text has to end on the line on which it begins; write \\n for a new line, \\t for a tab",
            ),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The number of the line, and what of it is before and after the place.
fn place<'a>(text: &'a [u8], error: &serde_json::Error) -> (usize, &'a [u8], &'a [u8]) {
    let lines = || text.split(|byte| *byte == b'\n');
    let (number, column) = match (error.line(), error.column()) {
        _ if error.is_eof() => (lines().count(), usize::MAX),
        // The end of a line may be told as the start of the next one.
        (number, 0) if number > 1 => (number - 1, usize::MAX),
        (number, column) => (number.max(1), column),
    };
    let line = lines().nth(number - 1).unwrap_or_default();
    let mut start = column.saturating_sub(1).min(line.len());
    // Of these the place is told with or without themselves.
    let is_control = line.get(start).is_some_and(u8::is_ascii_control);
    if error.to_string().starts_with(CONTROL) && !is_control {
        start = column.min(line.len());
    }
    // Columns count bytes; a letter is not cut.
    while start > 0 && line.get(start).is_some_and(|byte| byte & 0xc0 == 0x80) {
        start -= 1;
    }
    let (before, after) = line.split_at(start);
    (number, before, after)
}

fn problem(text: &[u8], before: &str, after: &str, error: &serde_json::Error) -> Problem {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or(&said);
    if text.trim_ascii().is_empty() {
        return Problem::Empty;
    }
    if error.is_eof() {
        return Problem::Ends;
    }
    if said.starts_with(CONTROL) {
        return Problem::ControlCharacter;
    }
    if let Some(letter) = after.chars().next() {
        if let Some(name) = letters::invisible(letter) {
            return Problem::Invisible(letter, name);
        }
        if letters::is_quotation_mark(letter) {
            return Problem::Quotation(letter);
        }
        if letter == '#' || after.starts_with("//") || after.starts_with("/*") {
            return Problem::Comment;
        }
        if said.starts_with("expected `,`") && begins_a_value(letter) {
            return Problem::MissingComma;
        }
    }
    if said == "trailing comma" || (after.starts_with(['}', ']']) && before.trim_end().ends_with(',')) {
        return Problem::TrailingComma;
    }
    if let Some(word) = word_in_upper_case(before, after) {
        return Problem::Word(word);
    }
    let begins_with_word = text.trim_ascii_start().first().is_some_and(u8::is_ascii_alphabetic);
    if begins_with_word { Problem::NoJson } else { Problem::Other(said.to_owned()) }
}

/// Values as other languages write them.
fn word_in_upper_case(before: &str, after: &str) -> Option<&'static str> {
    let word: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
    let known = [("true", "true"), ("false", "false"), ("null", "null"), ("none", "null"), ("nil", "null")];
    let (_, meant) = known.into_iter().find(|(written, _)| word.eq_ignore_ascii_case(written))?;
    before.trim_end().ends_with([':', ',', '[']).then_some(meant)
}

fn begins_a_value(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '"' | '{' | '[' | '-')
}

/// The text around the place, with a `^` before it. Keys lead the author there; values may be secrets, and the message
/// goes to logs and events, so they are left out.
fn excerpt(before: &str, after: &str, problem: &Problem) -> String {
    if *problem == Problem::Empty {
        return String::new();
    }
    let before = letters::shown(&without_values(before.trim_start()));
    let skipped = before.chars().count().saturating_sub(SHOWN);
    let (cut, start) =
        if skipped > 0 { ("…", before.chars().skip(skipped).collect()) } else { ("", before) };
    format!("{cut}{start}^{}", meant(after.trim_end()))
}

/// JSON up to the place, with `…` for what stands in texts that are no keys. One that is open there is no key.
fn without_values(json: &str) -> String {
    let mut shown = String::new();
    let mut rest = json;
    while let Some((outside, text)) = rest.split_once('"') {
        shown.push_str(outside);
        shown.push('"');
        let Some(end) = end_of_text(text) else {
            shown.push('…');
            return shown;
        };
        let (inside, behind) = text.split_at(end);
        rest = behind.strip_prefix('"').unwrap_or(behind);
        shown.push_str(if rest.trim_start().starts_with(':') { inside } else { "…" });
        shown.push('"');
    }
    shown.push_str(rest);
    shown
}

/// Where the quotation mark is that ends a text.
fn end_of_text(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// The letter that is meant, or the key that begins there. What is behind it is no JSON, and may be anything.
fn meant(after: &str) -> String {
    let key = after.strip_prefix('"').and_then(|text| {
        let (key, behind) = text.split_at(end_of_text(text)?);
        let is_key = behind.get(1..)?.trim_start().starts_with(':') && key.chars().count() <= SHOWN;
        is_key.then(|| after.len() - behind.len() + 1)
    });
    let end = key.or_else(|| after.chars().next().map(char::len_utf8)).unwrap_or_default();
    let (meant, behind) = after.split_at(end);
    format!("{}{}", letters::shown(meant), if behind.is_empty() { "" } else { "…" })
}

#[cfg(test)]
mod tests;
