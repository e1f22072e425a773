//! File names for names of others: injective, without separators, never hidden.

/// A file name for a name of at most 253 bytes.
///
/// Lower-case letters, digits, `-` and inner `.` stay as they are, which is every name that Kubernetes
/// allows; anything else becomes `%` and two hexadecimal digits per byte. Different names therefore never
/// meet in one file, and none begins with the `.` of temporary files.
pub fn file_name(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => encoded.push(char::from(byte)),
            b'.' if index > 0 => encoded.push('.'),
            _ => {
                const DIGITS: [char; 16] =
                    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
                encoded.push('%');
                encoded.extend(DIGITS.get(usize::from(byte >> 4)));
                encoded.extend(DIGITS.get(usize::from(byte & 15)));
            }
        }
    }
    encoded
}

/// The name that [`file_name`] was made from; `None` for a file that it did not make.
pub fn name_of(file: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(file.len());
    let mut rest = file.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (file_name(&name) == file).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_kubernetes_stay_readable() {
        for name in ["default", "a-b.c-9", "0"] {
            assert_eq!(file_name(name), name);
        }
        assert_eq!(file_name(".hidden"), "%2ehidden");
        assert_eq!(file_name("../up"), "%2e.%2fup");
        assert_eq!(file_name("a%b"), "a%25b");
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_no_file_name_is_a_path(name in ".{0,40}") {
            let file = file_name(&name);
            prop_assert!(!file.contains('/') && !file.starts_with('.') && !file.contains('\0'));
            prop_assert_eq!(name_of(&file), Some(name));
        }

        #[test]
        fn any_file_name_is_either_ours_or_none(file in ".{0,20}") {
            if let Some(name) = name_of(&file) {
                prop_assert_eq!(file_name(&name), file);
            }
        }
    }
}
