//! Letters that look like others, or like nothing.

/// The name of a letter that cannot be seen, or not told from a blank.
pub(super) fn invisible(letter: char) -> Option<&'static str> {
    Some(match letter {
        '\u{feff}' => "byte order mark",
        '\u{a0}' => "no-break space",
        '\u{ad}' => "soft hyphen",
        '\u{200b}' => "zero-width space",
        '\u{200c}' => "zero-width non-joiner",
        '\u{200d}' => "zero-width joiner",
        '\u{2060}' => "word joiner",
        '\u{202f}' => "narrow no-break space",
        '\u{2028}' => "line separator",
        '\u{2029}' => "paragraph separator",
        '\u{3000}' => "ideographic space",
        '\u{2000}'..='\u{200a}' => "a space of a typographer",
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "a mark of writing direction"
        }
        '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
            "a control character"
        }
        _ => return None,
    })
}

/// Whether people, or their word processors, take a letter for the quotation mark of JSON.
pub(super) fn is_quotation_mark(letter: char) -> bool {
    matches!(
        letter,
        '\'' | '`' | '\u{b4}' | '\u{ab}' | '\u{bb}' | '\u{2018}'..='\u{201f}' | '\u{2032}'..='\u{2037}' | '\u{ff02}'
    )
}

/// A text as people can see it: letters without a shape as their numbers, blanks as one each.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        match letter {
            letter if invisible(letter).is_some() => {
                shown.extend(["<", &name(letter), ">"]);
            }
            letter if letter.is_whitespace() => {
                if !shown.ends_with(' ') {
                    shown.push(' ');
                }
            }
            letter => shown.push(letter),
        }
    }
    shown
}

/// A letter's number as Unicode writes it.
pub(super) fn name(letter: char) -> String {
    format!("U+{:04X}", u32::from(letter))
}
