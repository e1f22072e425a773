//! Kubernetes objects in YAML and JSON files.
//!
//! YAML is read as kubectl reads it: `y`, `no`, `on` and their like are booleans, a key that is there twice
//! is an error.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cni::config::kind_of;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// More than any manifest: a file that was put in the directory by mistake must not fill the memory.
const MOST_BYTES: u64 = 32 << 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// YAML, documents between `---`.
    Yaml,
    /// JSON values, one after another.
    Json,
}

impl Form {
    /// The form of a file, by its extension.
    pub fn of(file: &Path) -> Self {
        if file.extension().is_some_and(|extension| extension == "json") { Self::Json } else { Self::Yaml }
    }
}

/// An object and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Where in the file, for people.
    pub place: String,
    /// The line in which its document begins.
    pub line: usize,
    /// Its fields; `kind` is a string.
    pub fields: Map<String, Value>,
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.fields.get("kind").and_then(Value::as_str).unwrap_or_default()
    }
}

/// A part of a file that is no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where in the file, for people.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether objects may be hidden in it that nobody can see.
    pub hides: bool,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("cannot be read")]
    Read(#[from] std::io::Error),
    /// A pipe, a device or a directory.
    #[error("is not a regular file")]
    NotRegular,
    /// Not a manifest by any measure.
    #[error("is larger than {} MiB", MOST_BYTES >> 20)]
    TooLarge,
    /// Not a text.
    #[error("is not UTF-8 text")]
    NotText(#[source] std::str::Utf8Error),
}

/// Reads a file.
pub fn read(path: &Path) -> Result<String, FileError> {
    // Opening a pipe must not wait for its writer.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(FileError::NotRegular);
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(FileError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| FileError::NotText(error.utf8_error()))
}

/// The objects of a text in their order, those of lists included. Empty documents are none.
pub fn objects(text: &str, form: Form) -> Vec<Result<Object, Flaw>> {
    let mut found = Vec::new();
    let documents = match form {
        Form::Yaml => yaml(text),
        Form::Json => json(text),
    };
    for document in documents {
        match document {
            Ok((line, value)) => {
                add(&mut found, format!("document at line {line}"), line, value, None);
            }
            Err(flaw) => found.push(Err(flaw)),
        }
    }
    found
}

/// Each with the line in which it begins.
type Documents = Vec<Result<(usize, Value), Flaw>>;

/// After a document that makes no sense the next one is read, after one that is not even YAML none.
fn yaml(text: &str) -> Documents {
    let mut reader = text.as_bytes();
    let options = serde_saphyr::options! { with_snippet: false, emit_comments: false };
    let documents = serde_saphyr::read_with_options::<_, Spanned<Value>>(&mut reader, options);
    let document = |document: Result<Spanned<Value>, serde_saphyr::Error>| match document {
        Ok(document) => Ok((usize::try_from(document.defined.line()).unwrap_or(1), document.value)),
        Err(error) => Err(Flaw {
            place: String::new(),
            // Some messages have several lines.
            reason: format!("is not YAML: {error}").split_whitespace().collect::<Vec<_>>().join(" "),
            hides: true,
        }),
    };
    documents.map(document).collect()
}

fn json(text: &str) -> Documents {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut found = Vec::new();
    loop {
        let rest = text.get(documents.byte_offset()..).unwrap_or_default();
        let start = text.len() - rest.trim_start().len();
        let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        match documents.next() {
            None => return found,
            Some(Ok(value)) => found.push(Ok((line, value))),
            Some(Err(error)) => {
                let reason = format!("is not JSON: {error}");
                found.push(Err(Flaw { place: String::new(), reason, hides: true }));
                return found;
            }
        }
    }
}

/// Adds an object, or those of a list; `list` is what an item of a typed list need not say of itself.
fn add(
    found: &mut Vec<Result<Object, Flaw>>,
    place: String,
    line: usize,
    value: Value,
    list: Option<(&str, &Value)>,
) {
    let flaw = |place, reason: &str| Err(Flaw { place, reason: reason.to_owned(), hides: false });
    let mut fields = match value {
        Value::Object(fields) => fields,
        other => {
            let reason = format!("is {}, not a Kubernetes object", kind_of(&other));
            return found.push(flaw(place, &reason));
        }
    };
    if let Some((kind, api_version)) = list.filter(|(kind, _)| !kind.is_empty()) {
        fields.entry("kind").or_insert_with(|| kind.into());
        fields.entry("apiVersion").or_insert_with(|| api_version.clone());
    }
    let kind = match fields.get("kind") {
        Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
        _ => return found.push(flaw(place, "is no Kubernetes object: it has no \"kind\"")),
    };
    let Some(of) = kind.strip_suffix("List") else { return found.push(Ok(Object { place, line, fields })) };
    let api_version = fields.get("apiVersion").cloned().unwrap_or_default();
    match fields.remove("items") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                add(found, format!("{place}, items[{index}]"), line, item, Some((of, &api_version)));
            }
        }
        Some(other) => {
            found.push(flaw(place, &format!("items is {}, not an array", kind_of(&other))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text holds: `kind@place` of objects, `!place: reason` of flaws.
    fn told(text: &str, form: Form) -> Vec<String> {
        let tell = |item: Result<Object, Flaw>| match item {
            Ok(object) => format!("{}@{}", object.kind(), object.place),
            Err(flaw) => format!("!{}: {}", flaw.place, flaw.reason),
        };
        objects(text, form).into_iter().map(tell).collect()
    }

    #[test]
    fn yaml_documents_and_lists_are_taken_apart() {
        for (text, expected) in [
            ("", &[][..]),
            ("# only a comment\n---\n---\n", &[]),
            ("kind: A\n---\nkind: B\n", &["A@document at line 1", "B@document at line 3"]),
            (
                "# x\n---\n# y\n---\nkind: A\n...\n---\nkind: B\n",
                &["A@document at line 5", "B@document at line 8"],
            ),
            ("\u{feff}kind: A\n", &["A@document at line 1"]),
            ("{\"kind\": \"A\"}", &["A@document at line 1"]),
            (
                "kind: List\nitems:\n- kind: A\n- kind: B\n",
                &["A@document at line 1, items[0]", "B@document at line 1, items[1]"],
            ),
            (
                "kind: PodList\napiVersion: v1\nitems:\n- metadata: {}\n",
                &["Pod@document at line 1, items[0]"],
            ),
            ("kind: List\n", &[]),
            ("kind: List\nitems: {}\n", &["!document at line 1: items is an object, not an array"]),
            (
                "kind: List\nitems: [5, {}]\n",
                &[
                    "!document at line 1, items[0]: is a number, not a Kubernetes object",
                    "!document at line 1, items[1]: is no Kubernetes object: it has no \"kind\"",
                ],
            ),
            ("words\n", &["!document at line 1: is a string, not a Kubernetes object"]),
            ("a: 1\n", &["!document at line 1: is no Kubernetes object: it has no \"kind\""]),
            ("kind: 5\n", &["!document at line 1: is no Kubernetes object: it has no \"kind\""]),
        ] {
            assert_eq!(told(text, Form::Yaml), expected, "{text}");
        }
    }

    #[test]
    fn json_values_follow_one_another() {
        for (text, expected) in [
            (
                "{\"kind\":\"A\"}\n\n {\"kind\":\"B\"}\n",
                &["A@document at line 1", "B@document at line 3"][..],
            ),
            ("", &[]),
            (
                "{\"kind\":\"A\"} {",
                &["A@document at line 1", "!: is not JSON: EOF while parsing an object at line 1 column 14"],
            ),
        ] {
            assert_eq!(told(text, Form::Json), expected, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_hides_as_little_as_possible() {
        for (text, good, flaws) in [
            ("kind: A\n---\nkind: [\n---\nkind: C\n", 1, 1),
            ("kind: A\n---\nkind: B\nkind: B\n---\nkind: C\n", 2, 1),
            ("kind: A\n---\nx: *nowhere\n---\nkind: C\n", 1, 1),
        ] {
            let items = objects(text, Form::Yaml);
            assert_eq!(items.iter().filter(|item| item.is_ok()).count(), good, "{text}");
            let found: Vec<_> = items.into_iter().filter_map(Result::err).collect();
            assert_eq!(found.len(), flaws, "{text}: {found:?}");
            assert!(found.iter().all(|flaw| flaw.hides && flaw.reason.contains("line")), "{found:?}");
        }
    }

    #[test]
    fn hostile_texts_end_in_an_error() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (of, name) in
            ["a", "b", "c", "d", "e", "f", "g", "h"].iter().zip(["b", "c", "d", "e", "f", "g", "h", "i"])
        {
            bomb.extend([name, ": &", name, " [", &format!("*{of}, ").repeat(9), "*", of, "]\n"]);
        }
        for text in [bomb, "[".repeat(100_000), "a: ".repeat(10_000), "\0".to_owned(), "\t- :".to_owned()] {
            let items = objects(&text, Form::Yaml);
            assert!(items.iter().any(Result::is_err), "{:?}", text.get(..40));
        }
        assert!(objects(&"[".repeat(100_000), Form::Json).iter().any(Result::is_err));
    }

    #[test]
    fn ten_thousand_levels_end_in_an_error_and_not_in_a_stack_that_overflows() {
        let around = |open: &str, close: &str| open.repeat(10_000) + "x: 1" + &close.repeat(10_000);
        let mut block = String::new();
        for level in 0..10_000 {
            block.extend([" ".repeat(level).as_str(), "a:\n"]);
        }
        let texts = [around("[", "]"), around("{a: ", "}"), around("- ", ""), around("? ", ""), block];
        for text in texts {
            let items = objects(&format!("{text}\n---\nkind: A\n"), Form::Yaml);
            assert!(items.iter().any(Result::is_err), "{:?}", text.get(..40));
        }
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = open.repeat(10_000) + "1" + &close.repeat(10_000);
            assert!(objects(&text, Form::Json).iter().any(Result::is_err));
        }
    }

    #[test]
    fn a_large_text_behind_many_aliases_does_not_fill_the_memory() {
        let large = format!("a: &a {}\nkind: A\nb: [{}*a]\n", "x".repeat(1 << 20), "*a, ".repeat(10_000));
        let items = objects(&large, Form::Yaml);
        assert!(items.iter().all(Result::is_err), "ten gigabytes of ten megabytes");
    }

    #[test]
    fn only_regular_texts_of_a_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("text"), "kind: ä").unwrap();
        std::fs::write(path("bytes"), b"a\xffb").unwrap();
        std::fs::File::create(path("large")).unwrap().set_len(MOST_BYTES + 1).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(read(&path("text")).unwrap(), "kind: ä");
        assert!(matches!(read(&path("bytes")), Err(FileError::NotText(_))));
        assert!(matches!(read(&path("large")), Err(FileError::TooLarge)));
        assert!(matches!(read(&path("pipe")), Err(FileError::NotRegular)));
        assert!(matches!(read(dir.path()), Err(FileError::NotRegular)));
        assert!(matches!(read(&path("absent")), Err(FileError::Read(_))));
    }
}
