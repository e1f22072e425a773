//! JSON documents with a schema version: how every file of the node directory is read and written.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{StoreError, atomic};

/// A kind of file: its schema version.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// Raised when an older reader would misunderstand a file.
    const SCHEMA: u64;
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u64,
    #[serde(flatten)]
    document: &'a T,
}

#[derive(Deserialize)]
struct Head {
    schema: u64,
}

/// Reads a document; `None` if there is no file.
pub(crate) fn read<T: Document>(path: &Path) -> Result<Option<T>, StoreError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::read(path)(error)),
    };
    let damaged = |source| StoreError::Damaged { path: path.to_owned(), source };
    // The version first: the rest of a file of another version need not make sense.
    let head: Head = serde_json::from_slice(&text).map_err(damaged)?;
    if head.schema != T::SCHEMA {
        return Err(StoreError::Schema { path: path.to_owned(), found: head.schema, known: T::SCHEMA });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// The text of a document, as [`write()`] puts it into its file.
pub(crate) fn text<T: Document>(path: &Path, document: &T) -> Result<Vec<u8>, StoreError> {
    let mut text = serde_json::to_vec(&Versioned { schema: T::SCHEMA, document })
        .map_err(|error| StoreError::write(path)(error.into()))?;
    text.push(b'\n');
    Ok(text)
}

/// Writes a document atomically.
pub(crate) fn write<T: Document>(path: &Path, document: &T) -> Result<(), StoreError> {
    atomic::write(path, &text(path, document)?)
}

/// Writes a document atomically, unless its file already says the same; whether it was written.
pub(crate) fn write_if_changed<T: Document>(path: &Path, document: &T) -> Result<bool, StoreError> {
    let text = text(path, document)?;
    if std::fs::read(path).is_ok_and(|present| present == text) {
        return Ok(false);
    }
    atomic::write(path, &text).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    impl Document for Note {
        const SCHEMA: u64 = 3;
    }

    #[test]
    fn documents_round_trip_with_their_schema_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        assert_eq!(read::<Note>(&path).unwrap(), None);
        write(&path, &Note { text: "x".to_owned() }).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"schema\":3,\"text\":\"x\"}\n");
        assert_eq!(read::<Note>(&path).unwrap().unwrap().text, "x");
    }

    #[test]
    fn another_schema_version_is_an_error_whatever_else_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        std::fs::write(&path, "{\"schema\":4,\"words\":[]}").unwrap();
        let error = read::<Note>(&path).unwrap_err();
        assert!(matches!(error, StoreError::Schema { found: 4, known: 3, .. }), "{error}");
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_damaged_and_never_read_as_less() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        let whole = text(&path, &Note { text: "word".to_owned() }).unwrap();
        for length in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(read::<Note>(&path), Err(StoreError::Damaged { .. })), "{length} bytes");
        }
    }
}
