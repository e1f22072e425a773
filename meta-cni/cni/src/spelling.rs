//! Which known word is meant by one that is not known: "did you mean".

/// More slips than these are another word.
const MOST_SLIPS: usize = 2;

/// The known word that `word` most likely stands for: the same letters in another case, else the one with the fewest
/// slips, if they are two at most and less than a third of the longer word. The first one wins among equals. A slip is
/// a letter too many, one missing, a wrong one, or two neighbours in the wrong order.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = folded(word);
    let near =
        known.into_iter().filter_map(|candidate| Some((slips(&letters, &folded(candidate))?, candidate)));
    near.min_by_key(|(slips, _)| *slips).map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> Vec<char> {
    word.chars().map(|letter| letter.to_ascii_lowercase()).collect()
}

/// The slips between two words, or `None` if they are too many to be one word.
fn slips(one: &[char], other: &[char]) -> Option<usize> {
    // Before the comparison itself, so that a very long word costs little.
    if one.len().abs_diff(other.len()) > MOST_SLIPS {
        return None;
    }
    let slips = distance(one, other);
    (slips == 0 || (slips <= MOST_SLIPS && slips * 3 < one.len().max(other.len()))).then_some(slips)
}

/// The optimal string alignment distance: Levenshtein's, with neighbours that are swapped as one slip.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other_letter) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other_letter);
            let mut least = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && one[row - 1] == *other_letter && *letter == other[column - 1] {
                least = least.min(before_last[column - 1] + 1);
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_few_slips_is_the_known_word() {
        let known = ["namespaceIsolation", "master", "mode", "mtu", "NetworkAttachmentDefinition"];
        for (word, expected) in [
            ("NamespaceIsolation", Some("namespaceIsolation")),
            ("MTU", Some("mtu")),
            ("NetworkAttachementDefinition", Some("NetworkAttachmentDefinition")),
            ("NetworkAttachmentDefinitions", Some("NetworkAttachmentDefinition")),
            ("namepsaceIsolatoin", Some("namespaceIsolation")),
            ("mastre", Some("master")),
            ("mod", Some("mode")),
            ("mdoe", Some("mode")),
            ("mut", None),
            ("monde", Some("mode")),
            ("node", Some("mode")),
            ("mster1", None),
            ("bridge", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn the_nearest_of_several_wins() {
        assert_eq!(nearest("rangeEnt", ["rangeStart", "range_end", "rangeEnd"]), Some("rangeEnd"));
        assert_eq!(nearest("IPMASQ", ["ipMasqs", "ipMasq"]), Some("ipMasq"));
    }

    #[test]
    fn a_word_of_any_length_is_compared() {
        assert_eq!(nearest(&"a".repeat(1_000_000), ["master"]), None);
        assert_eq!(nearest("gröβe", ["größe"]), Some("größe"));
    }
}
