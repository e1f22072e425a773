//! Keys of JSON objects, compared as Go's `encoding/json` compares them: in any case, and with the two letters that
//! Unicode folds to `s` and `k`. Plugins are written in Go.

use serde_json::{Map, Value};

/// A key in the form in which it is compared.
pub fn folded(key: &str) -> String {
    key.chars().map(fold).collect()
}

fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// Whether Go takes `key` for `wanted`.
pub fn same(key: &str, wanted: &str) -> bool {
    key.chars().map(fold).eq(wanted.chars().map(fold))
}

/// The value of a key in any case, the exact one first; `null` is none, since Go sets nothing for it.
pub fn get<'a>(object: &'a Map<String, Value>, wanted: &str) -> Option<&'a Value> {
    let in_any_case = || object.iter().find(|(key, _)| same(key, wanted)).map(|(_, value)| value);
    object.get(wanted).or_else(in_any_case).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_taken_in_any_case_and_null_is_none() {
        let object = json!({"Subnet": "a", "subnet": "b", "MTU": 5, "x": null, "ma\u{17f}ter": "eth1"});
        let object = object.as_object().unwrap();
        assert_eq!(get(object, "subnet"), Some(&json!("b")));
        assert_eq!(get(object, "SUBNET"), Some(&json!("a")));
        assert_eq!(get(object, "mtu"), Some(&json!(5)));
        assert_eq!(get(object, "x"), None);
        assert_eq!(get(object, "Master"), Some(&json!("eth1")));
        assert_eq!(folded("Ma\u{17f}terLin\u{212a}"), "masterlink");
    }
}
