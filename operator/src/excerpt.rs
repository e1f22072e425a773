//! The beginning of a text that may be too long for where it goes: conditions, events, answers, logs.

/// At most `most` bytes of a text, cut between characters; `end` says that it was cut, and counts.
pub(crate) fn cut(text: &str, most: usize, end: &str) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut length = most.saturating_sub(end.len());
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}{end}", &text[..length])
}

/// At most `most` characters of a text, and a sign that it was cut.
pub(crate) fn cut_to_characters(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        for (text, most, end, expected) in [
            ("", 0, "…", ""),
            ("abc", 3, "…", "abc"),
            ("abcd", 3, "…", "…"),
            ("abcde", 4, "…", "a…"),
            ("ääää", 7, " …", "ä …"),
            ("ääää", 3, "", "ä"),
        ] {
            assert_eq!(cut(text, most, end), expected, "{text} {most}");
        }
        assert_eq!(cut_to_characters("ääää".to_owned(), 4), "ääää");
        assert_eq!(cut_to_characters("ääää".to_owned(), 3), "äää…");
    }
}
