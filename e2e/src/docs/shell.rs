//! Which programs a piece of shell calls: enough of the language for the documentation's commands, no more.

use std::collections::BTreeSet;

/// Words after which another command begins.
const BEFORE_A_COMMAND: [&str; 10] = ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "exec"];
/// Words that begin or end something and call nothing.
const NO_COMMAND: [&str; 5] = ["fi", "done", "}", "esac", "in"];

/// The first word of every command, those within `$(…)` too, without functions that the text defines.
pub fn programs(text: &str) -> BTreeSet<String> {
    let text = without_documents(text).replace("\\\n", " ");
    let mut found = BTreeSet::new();
    let mut defined = BTreeSet::new();
    for command in commands(&text) {
        for word in command.split_whitespace() {
            if BEFORE_A_COMMAND.contains(&word) || is_assignment(word) {
                continue;
            }
            if let Some(name) = word.strip_suffix("()") {
                defined.insert(name.to_owned());
                continue;
            }
            // `for name in words` calls nothing; redirections come behind a command.
            if word != "for" && !NO_COMMAND.contains(&word) && !word.starts_with(['#', '>', '<']) {
                found.insert(word.to_owned());
            }
            break;
        }
    }
    found.difference(&defined).cloned().collect()
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Without comments and what `<<END` hands to a program.
fn without_documents(text: &str) -> String {
    let mut kept = String::new();
    let mut until: Option<String> = None;
    for line in text.lines() {
        if let Some(end) = &until {
            if line.trim() == end {
                until = None;
            }
            continue;
        }
        if line.trim_start().starts_with('#') {
            continue;
        }
        until = line.split_once("<<").map(|(_, end)| {
            let word = end.split_whitespace().next().unwrap_or_default();
            word.trim_matches(['-', '\'', '"']).to_owned()
        });
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// The text cut where a command ends or another begins. What is quoted stays together, but `$(` within double
/// quotes begins a command.
fn commands(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    // The quotes around the place where we are; `)` stands for a `$(` that is open.
    let mut open: Vec<char> = Vec::new();
    let mut letters = text.chars().peekable();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        let quote = open.last().copied();
        let redirects = letter == '&' && before == '>';
        before = letter;
        match (letter, quote) {
            ('\'', Some('\'')) | ('"', Some('"')) => drop(open.pop()),
            (_, Some('\'')) => {}
            ('\\', _) => drop(letters.next()),
            ('$', _) if letters.peek() == Some(&'(') => {
                letters.next();
                open.push(')');
                all.push(String::new());
            }
            (_, Some('"')) => {}
            ('\'' | '"', _) => open.push(letter),
            (')', Some(')')) => {
                open.pop();
                // What follows belongs to the command around, whose first word is known.
                all.push("for ".to_owned());
            }
            ('|' | '&' | ';' | '\n', _) if !redirects => all.push(String::new()),
            _ => all.last_mut().into_iter().for_each(|command| command.push(letter)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_each_command_is_found() {
        let cases: [(&str, &[&str]); 10] = [
            ("kubectl get pods\nhelm list", &["helm", "kubectl"]),
            ("kubectl get pods -o json | jq '.items | length; first'", &["jq", "kubectl"]),
            ("a=$(kubectl get nodes) && echo \"$a; no\"", &["echo", "kubectl"]),
            ("echo \"$(helm list)\" more", &["echo", "helm"]),
            ("if ! test -f x; then cat x; else ls; fi", &["cat", "ls", "test"]),
            ("for n in a b; do echo $n; done", &["echo"]),
            ("kubectl apply -f - <<'END'\nfoo: bar\nEND\ntrue", &["kubectl", "true"]),
            ("A=b kubectl \\\n  get pods # helm\n# jq", &["kubectl"]),
            ("helm list >&2 | cat", &["cat", "helm"]),
            ("run() { ip link; }\nrun up", &["ip"]),
        ];
        for (text, expected) in cases {
            let expected: BTreeSet<String> = expected.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(programs(text), expected, "{text}");
        }
    }
}
