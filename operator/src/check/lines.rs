//! Where the author of a file sees a place of a configuration that is a text in it. Pure.
//!
//! YAML folds lines, and takes indentation away; a line number within the configuration would be one of a text that
//! nobody has seen. But for blanks the configuration stands in the file as it is, so that is how it is found. It is not
//! where letters of it are escaped.

use cni::json_slip::{self, JsonSlip};

/// The first slip of a configuration, with the line of the file where that is found. The search begins at line `from`.
pub(super) fn slip(file: &str, from: usize, config: &str) -> Option<JsonSlip> {
    let slip = json_slip::first(config)?;
    match line(file, from, config, slip.offset()) {
        Some(line) => Some(slip.at_line(line)),
        None => Some(slip),
    }
}

fn line(file: &str, from: usize, config: &str, offset: usize) -> Option<usize> {
    let wanted = without_blanks(config);
    let before = without_blanks(config.get(..offset)?).len();
    let skipped = from.saturating_sub(1);
    let (mut text, mut ends) = (String::new(), Vec::new());
    for line in file.lines().skip(skipped) {
        text.push_str(&without_blanks(line));
        ends.push(text.len());
    }
    // At the end of the configuration its last letter is meant.
    let place = text.find(&wanted)? + before.min(wanted.len().saturating_sub(1));
    Some(skipped + 1 + ends.partition_point(|end| *end <= place))
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(file: &str, from: usize, config: &str) -> String {
        slip(file, from, config).unwrap().to_string()
    }

    #[test]
    fn the_line_is_that_of_the_file_however_yaml_writes_the_text() {
        let literal = "spec:\n  config: |\n    {\n      \"a\": 1\n      \"b\": 2\n    }\n";
        let folded = "spec:\n  config: '{\n      \"a\": 1\n\n      \"b\": 2\n    }'\n";
        let at_the_end = "spec:\n  config: >\n    {\n      \"a\": [1\n\nx: y\n";
        for (file, config, expected) in [
            (literal, "{\n  \"a\": 1\n  \"b\": 2\n}\n", "line 5 of the file: a comma is missing"),
            (folded, "{ \"a\": 1\n\"b\": 2 }", "line 5 of the file: a comma is missing"),
            (at_the_end, "{\n  \"a\": [1\n", "line 4 of the file: the text ends too early"),
        ] {
            assert!(told(file, 1, config).starts_with(expected), "{}", told(file, 1, config));
        }
    }

    #[test]
    fn of_two_documents_each_has_its_own_line() {
        let file = "a: '{#}'\n---\nb: '{#}'\n";
        assert!(told(file, 1, "{#}").starts_with("line 1 of the file"), "{}", told(file, 1, "{#}"));
        assert!(told(file, 3, "{#}").starts_with("line 3 of the file"), "{}", told(file, 3, "{#}"));
    }

    #[test]
    fn what_is_escaped_has_the_line_of_the_configuration() {
        let file = r#"config: "{\n\"a\": 1\n\"b\": 2}""#;
        assert!(told(file, 1, "{\n\"a\": 1\n\"b\": 2}").starts_with("line 3: a comma"));
    }
}
