//! Messages that the documentation quotes are in the source code, word for word.
//!
//! A quotation has `…` where the program puts a value. Each piece between has to be a part of one text of the
//! program, or of texts that are joined as an error and its cause.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use crate::{assert_none, name, pages};

/// Where Braid's messages come from.
const SOURCES: [&str; 4] = ["meta-cni/src", "meta-cni/cni/src", "meta-cni/store/src", "operator/src"];
/// How many letters of a message have to be fixed for it to be told from others.
const FEWEST: usize = 12;

#[test]
fn every_quoted_message_is_one_of_braid() {
    let texts = texts_of_braid();
    let mut problems = Vec::new();
    let mut quoted = 0;
    for (file, page) in pages() {
        for block in page.blocks.iter().filter(|block| block.is("text message")) {
            for message in block.text.lines().filter(|line| !line.trim().is_empty()) {
                quoted += 1;
                if let Err(problem) = find(message, &texts) {
                    problems.push(format!("{}:{}: {message}\n    {problem}", name(&file), block.line));
                }
            }
        }
    }
    assert_none(&problems);
    assert!(quoted > 0, "docs/troubleshooting.md is to quote messages");
}

/// Looks for each fixed piece of a message.
fn find(message: &str, texts: &[String]) -> Result<(), String> {
    let pieces: Vec<&str> =
        message.split('…').map(|piece| piece.trim_matches([' ', ':', ';', ',', '"'])).collect();
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() < FEWEST {
        return Err("too little of it is fixed".to_owned());
    }
    let lost = pieces.iter().find(|piece| !is_made_of(piece, texts));
    lost.map_or(Ok(()), |piece| Err(format!("no text of Braid holds {piece:?}")))
}

/// Whether a piece is a part of one text, or of several that the program joins as an error and its cause.
fn is_made_of(piece: &str, texts: &[String]) -> bool {
    texts.iter().any(|text| text.contains(piece))
        || [": ", "; "].iter().any(|joint| {
            piece.match_indices(joint).any(|(at, _)| {
                let (before, after) = (&piece[..at], &piece[at + joint.len()..]);
                texts.iter().any(|text| text.contains(before)) && is_made_of(after, texts)
            })
        })
}

/// Every text of the programs, with `…` for the values in it.
fn texts_of_braid() -> Vec<String> {
    let mut texts = Vec::new();
    for dir in SOURCES {
        for file in sources(&e2e::source(dir)) {
            let code = fs::read_to_string(&file).unwrap();
            // Tests quote messages too.
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let tokens: TokenStream =
                code.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            collect(tokens, &mut texts);
        }
    }
    texts
}

/// The files of a directory and below that are not tests.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn collect(tokens: TokenStream, texts: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(group.stream(), texts),
            TokenTree::Literal(literal) => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                texts.extend(text.map(|text| with_gaps(&text.value())));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// A format string with `…` for each value.
fn with_gaps(format: &str) -> String {
    let mut text = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' if letters.peek() != Some(&'{') => {
                letters.by_ref().find(|letter| *letter == '}');
                text.push('…');
            }
            '{' | '}' => {
                letters.next_if_eq(&letter);
                text.push(letter);
            }
            _ => text.push(letter),
        }
    }
    text
}

#[test]
fn a_message_with_a_wrong_word_is_found() {
    let texts = texts_of_braid();
    let right = "network … is not on this node: … does not exist…";
    assert_eq!(find(right, &texts), Ok(()));
    assert!(find("network … is not on that node: … does not exist…", &texts).is_err());
    assert!(find("… is …", &texts).is_err());
    assert_eq!(find("spec.config: the configuration is not JSON", &texts), Ok(()));
    assert!(find("spec.config: the configuration is no JSON", &texts).is_err());
}

#[test]
fn values_of_a_format_string_are_gaps() {
    assert_eq!(with_gaps("a {b:?} c{}: {{\"x\": 1}}"), "a … c…: {\"x\": 1}");
}
