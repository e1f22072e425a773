//! What a plugin printed on stdout that is not one JSON value: its log before the result, or two results. Pure.
//!
//! JSON itself says no more of such an output than a position.

use serde::de::IgnoredAny;

use super::excerpt;
use crate::error::{CniError, Code};

/// How often JSON is looked for in one text. Each time may read the rest of it.
const ATTEMPTS: usize = 32;

/// An output in parts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts<'a> {
    /// The text before the first JSON object.
    before: &'a [u8],
    /// The JSON objects, in order.
    objects: Vec<&'a [u8]>,
    /// The text behind the first JSON object that is not part of another.
    after: &'a [u8],
}

/// The CNI error in the output of a plugin that failed: the whole output, or one of the objects in it. The last one
/// counts: who prints a result and then an error has changed his mind.
pub(super) fn error_in(output: &[u8]) -> Option<CniError> {
    // A line of a log may look like an error without a code.
    let within = |object: &&[u8]| CniError::parse(object).filter(|error| error.code != Code::INTERNAL);
    CniError::parse(output).or_else(|| parts(output).objects.iter().rev().find_map(within))
}

/// What is printed besides one JSON value, and the beginnings of the parts; `None` where that cannot be told.
pub(crate) fn surplus(output: &[u8]) -> Option<(&'static str, String)> {
    let Parts { before, objects, after } = parts(output);
    let (what, first, second) = match objects[..] {
        [first, second] => ("two JSON values", first, second),
        [first, .., last] => ("more than two JSON values", first, last),
        [object] if !before.is_empty() => ("text before its JSON", before, object),
        [object] if !after.is_empty() => ("text after its JSON", object, after),
        _ => return None,
    };
    Some((what, format!("{:?}, {:?}", excerpt(first), excerpt(second))))
}

fn parts(output: &[u8]) -> Parts<'_> {
    let mut parts = Parts::default();
    let mut rest = output.trim_ascii();
    // What begins like JSON and is none is a broken result, and no text before one.
    let Some((before, object, behind)) = first_object(rest) else { return parts };
    parts.before = before.trim_ascii();
    parts.objects.push(object);
    rest = behind.trim_ascii();
    parts.after = rest;
    while parts.objects.len() < ATTEMPTS
        && let Some((between, object, behind)) = first_object(rest)
    {
        if parts.objects.len() == 1 {
            parts.after = between.trim_ascii();
        }
        parts.objects.push(object);
        rest = behind.trim_ascii();
    }
    parts
}

/// The first JSON object of a text: what is before it, the object, what is behind it.
fn first_object(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut begin = 0;
    for _ in 0..ATTEMPTS {
        begin += text.get(begin..)?.iter().position(|&byte| byte == b'{')?;
        let (before, candidate) = text.split_at_checked(begin)?;
        let mut values = serde_json::Deserializer::from_slice(candidate).into_iter::<IgnoredAny>();
        match values.next()? {
            Ok(_) => {
                let (object, behind) = candidate.split_at_checked(values.byte_offset())?;
                return Some((before, object, behind));
            }
            // What is cut off, or broken from its beginning, has objects within that are no results.
            Err(error) if error.is_eof() || begin == 0 => return None,
            Err(_) => begin += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_one_json_value_is_named_and_shown() {
        let result = r#"{"cniVersion":"1.0.0","ips":[]}"#;
        for (output, expected) in [
            (format!("{result}{result}"), Some("two JSON values")),
            (format!("{{\"level\":\"info\"}}\n{result}\n"), Some("two JSON values")),
            (format!("{result}\nbye\n{result}"), Some("two JSON values")),
            (format!("{{}}\n{{}}\n{result}"), Some("more than two JSON values")),
            (format!("[INFO] got {{x}} and [y]\n{result}"), Some("text before its JSON")),
            (format!("2026/11/30 10:00:00 starting{result}"), Some("text before its JSON")),
            (format!("{result} done"), Some("text after its JSON")),
            (format!("{result}}}"), Some("text after its JSON")),
            (format!("{result}{{\"code\":"), Some("text after its JSON")),
            (result.to_owned(), None),
            (String::new(), None),
            ("Segmentation fault".to_owned(), None),
            ("{\"ips\":[{\"address\":\"10.0.0.2/24\"}".to_owned(), None),
            ("{\"ips\":[{\"address\":\"10.0.0.2/24\"},]}".to_owned(), None),
            ("starting\n{\"ips\":[{\"address\":\"10.0.0.2/24\"}".to_owned(), None),
            ("{".repeat(1000), None),
            ("x{".repeat(1000), None),
        ] {
            let found = surplus(output.as_bytes());
            assert_eq!(found.as_ref().map(|(what, _)| *what), expected, "{output}");
        }
        let (_, shown) = surplus(format!("{}{result}", "log ".repeat(1000)).as_bytes()).unwrap();
        assert!(shown.starts_with("\"log log") && shown.len() < 400, "{shown}");
        assert!(shown.ends_with(r#"…", "{\"cniVersion\":\"1.0.0\",\"ips\":[]}""#), "{shown}");
    }

    #[test]
    fn an_error_is_found_whatever_is_printed_beside_it() {
        let error = r#"{"code":11,"msg":"not yet"}"#;
        for output in [
            error.to_owned(),
            format!("{{\"cniVersion\":\"1.0.0\",\"ips\":[]}}\n{error}\n"),
            format!("starting\n{error}"),
            format!("{{\"level\":\"info\",\"msg\":\"starting\"}}\n{error}"),
            format!("{error}\n{{\"level\":\"info\",\"msg\":\"ending\"}}"),
            format!("{error}\nbye"),
        ] {
            let found = error_in(output.as_bytes());
            assert_eq!(found, Some(CniError::new(Code::TRY_AGAIN_LATER, "not yet")), "{output}");
        }
        for output in
            ["", "oops", "{}", "{\"ips\":[]}{\"ips\":[]}", "{\"code\":", "{\"msg\":\"starting\"}\npanic"]
        {
            assert_eq!(error_in(output.as_bytes()), None, "{output}");
        }
    }

    #[test]
    fn an_output_of_any_length_is_looked_through_in_bounded_time() {
        // Each brace but the last few begins a value that goes on to the end.
        let output = "x{\"a\":".repeat(200_000);
        assert_eq!(surplus(output.as_bytes()), None);
        assert_eq!(error_in("{}".repeat(1 << 20).as_bytes()), None);
    }
}
