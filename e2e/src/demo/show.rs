//! Plain text for people: tables, JSON with one element a line, times and sizes.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// What every line begins with.
const INDENT: &str = "   ";

/// Columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all() {
        let mut line = INDENT.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// JSON with each element of the outer array, or of the arrays of the outer object, on a line of its own.
pub(super) fn lines(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(_) => items(&mut text, "", value, ""),
        Value::Object(object) => {
            let last = object.len().saturating_sub(1);
            let _ = writeln!(text, "{INDENT}{{");
            for (index, (key, value)) in object.iter().enumerate() {
                let comma = if index < last { "," } else { "" };
                items(&mut text, &format!("  \"{key}\": "), value, comma);
            }
            let _ = writeln!(text, "{INDENT}}}");
        }
        other => {
            let _ = writeln!(text, "{INDENT}{other}");
        }
    }
    text
}

fn items(text: &mut String, before: &str, value: &Value, after: &str) {
    let Some(array) = value.as_array().filter(|array| !array.is_empty()) else {
        let _ = writeln!(text, "{INDENT}{before}{value}{after}");
        return;
    };
    let _ = writeln!(text, "{INDENT}{before}[");
    let inner = " ".repeat(before.len() - before.trim_start().len() + 2);
    for (index, item) in array.iter().enumerate() {
        let comma = if index + 1 < array.len() { "," } else { "" };
        let _ = writeln!(text, "{INDENT}{inner}{item}{comma}");
    }
    let _ = writeln!(text, "{INDENT}{}]{after}", &inner[2..]);
}

/// `0.05 ms`, `12 ms`.
pub(super) fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.2} ms") } else { format!("{milliseconds:.0} ms") }
}

/// The size of a file in MiB.
pub(super) fn size(path: &Path) -> Result<String> {
    let bytes = std::fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?.len();
    let tenths = bytes * 10 / (1 << 20);
    Ok(format!("{}.{} MiB", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_at_their_last_word() {
        let rows =
            [vec!["web".to_owned(), "10.0.0.2/24".to_owned()], vec!["database".to_owned(), String::new()]];
        assert_eq!(
            table(&["pod", "address"], &rows),
            "   pod       address\n   web       10.0.0.2/24\n   database\n"
        );
    }

    #[test]
    fn json_has_one_element_a_line_and_stays_json() {
        let value = json!({"a": [{"b": 1}, {"b": 2}], "c": [], "d": "x"});
        let text = lines(&value);
        assert_eq!(
            text,
            "   {\n     \"a\": [\n       {\"b\":1},\n       {\"b\":2}\n     ],\n     \"c\": [],\n     \"d\": \"x\"\n   }\n"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(lines(&json!([1, 2])), "   [\n     1,\n     2\n   ]\n");
    }

    #[test]
    fn short_times_have_digits_behind_the_point() {
        assert_eq!(milliseconds(Duration::from_micros(51)), "0.05 ms");
        assert_eq!(milliseconds(Duration::from_millis(123)), "123 ms");
    }
}
