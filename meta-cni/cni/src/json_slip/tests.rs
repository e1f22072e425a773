use proptest::prelude::*;

use super::*;

fn told(text: &str) -> String {
    first(text).unwrap_or_else(|| panic!("{text:?} is JSON")).to_string()
}

#[test]
fn the_place_is_shown_and_what_is_wrong_there() {
    for (text, expected) in [
        ("", "the text is empty"),
        (" \n ", "the text is empty"),
        ("{", "the text ends too early; a closing quotation mark, } or ] is missing (at the ^: {^)"),
        (
            "{\n \"a\": 1\n",
            "line 2: the text ends too early; a closing quotation mark, } or ] is missing (at the ^: \"a\": 1^)",
        ),
        (
            "{\n  \"type\": \"macvlan\",      # the kind of link\n  \"master\": \"eth1\"\n}",
            "line 2: JSON has no comments; remove this one (at the ^: \"type\": \"…\", ^#…)",
        ),
        ("{\n\"a\": 1 // one\n}", "line 2: JSON has no comments; remove this one (at the ^: \"a\": 1 ^/…)"),
        ("/* a */ {}", "JSON has no comments; remove this one (at the ^: ^/…)"),
        (
            "{ \"name\": \"net01\" \"type\": \"host-device\" }",
            "a comma is missing (at the ^: { \"name\": \"…\" ^\"type\"…)",
        ),
        ("[1 2]", "a comma is missing (at the ^: [1 ^2…)"),
        (
            "{\"a\": 1,}",
            "there is a comma before it that nothing follows; remove the comma (at the ^: {\"a\": 1,^})",
        ),
        (
            "\u{feff}{}",
            "U+FEFF (byte order mark) cannot be seen and is not allowed here; delete it (at the ^: ^<U+FEFF>…)",
        ),
        (
            "{\u{a0} \"a\": 1}",
            "U+00A0 (no-break space) cannot be seen and is not allowed here; delete it (at the ^: {^<U+00A0>…)",
        ),
        (
            "{\"a\":\u{200b}1}",
            "U+200B (zero-width space) cannot be seen and is not allowed here; delete it (at the ^: {\"a\":^<U+200B>…)",
        ),
        (
            "{\u{201c}a\u{201d}: 1}",
            "\u{201c} (U+201C) is no quotation mark of JSON; write \" (at the ^: {^\u{201c}…)",
        ),
        ("{'a': 1}", "' (U+0027) is no quotation mark of JSON; write \" (at the ^: {^'…)"),
        ("{\"a\": True}", "JSON writes this value as true (at the ^: {\"a\": ^T…)"),
        ("[None]", "JSON writes this value as null (at the ^: [^N…)"),
        ("type: bridge", "this is no JSON, which begins with { or [ (at the ^: t^y…)"),
        (
            "{\n\"a\": \"b\n\"}",
            "line 2: a text has to end on the line on which it begins; write \\n for a new line, \\t for a tab \
             (at the ^: \"a\": \"…^)",
        ),
        (
            "{\"a\": \"b\tc\"}",
            "a text has to end on the line on which it begins; write \\n for a new line, \\t for a tab (at the ^: {\"a\": \"…^ …)",
        ),
        ("{} x", "trailing characters (at the ^: {} ^x)"),
    ] {
        assert_eq!(told(text), expected, "{text:?}");
    }
}

#[test]
fn values_are_never_shown_since_they_may_be_secrets() {
    for text in [
        r#"{"password": "s3cr3t" "a": 1}"#,
        r#"{"a": 1 "password": "s3cr3t"}"#,
        r#"{"password": "s3cr3t"#,
        r#"{"password": "x"s3cr3t"}"#,
        r#"{"password": "\"s3cr3t" x}"#,
        r#"{"a": "\\", "b": "s3cr3t" x}"#,
        "{\"password\": \"s3cr3t\n\"}",
        "{password: s3cr3t}",
        "{# s3cr3t\n}",
        "{\u{201c}password\u{201d}: \u{201c}s3cr3t\u{201d}}",
        r#"["s3cr3t" "s3cr3t"]"#,
    ] {
        assert!(!told(text).contains("cr3"), "{}", told(text));
    }
}

#[test]
fn a_long_line_is_cut_and_an_error_is_short() {
    let text = format!("{{\"{}\": \"x\" \"{}\": 1}}", "ä".repeat(100_000), "ö".repeat(100_000));
    let expected = format!("a comma is missing (at the ^: …{}\": \"…\" ^\"…)", "ä".repeat(25));
    assert_eq!(told(&text), expected);
    assert!(told(&"[".repeat(100_000)).len() < 200);
}

#[test]
fn the_line_of_another_text_may_be_given() {
    let slip = first("{ # x\n}").unwrap();
    assert_eq!((slip.line(), slip.offset()), (Some(1), 2));
    assert!(slip.at_line(12).to_string().starts_with("line 12 of the file: JSON has no comments"));
    assert_eq!(first("{ # x").unwrap().line(), None, "there is only one");
}

#[test]
fn only_a_text_that_ends_too_early_may_still_be_written() {
    for (text, expected) in [("", true), ("{\"a\"", true), ("{\"a\" 1", false), ("}", false)] {
        assert_eq!(first(text).unwrap().is_eof(), expected, "{text}");
    }
    assert!(first("{}").is_none());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[\\[{}\\]\":,a\u{feff}\u{a0}ä\n\\\\]{0,40}") {
        if let Some(slip) = first(&text) {
            prop_assert!(slip.to_string().len() < 1000);
            prop_assert!(!slip.to_string().contains('\n'));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Err(slip) = from_slice::<serde_json::Value>(&bytes) {
            let _ = slip.to_string();
        }
    }
}
