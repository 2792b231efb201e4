//! Lock names, and the server keys made from them.
//!
//! A name is 1 to 1024 arbitrary bytes. In a key it stands between braces (the hash tag of Redis
//! Cluster, so that all keys of one lock share a slot) with every byte outside a safe set
//! percent-encoded. No name can therefore contain a brace, a glob or a control character in its
//! encoded form, and none can reach another lock's keys. Safe names stay readable in `redis-cli`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use crate::error::{Error, Result};
use crate::text;

/// The longest lock name, in bytes.
pub const MAX_NAME: usize = 1024;

/// A validated lock name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(Box<[u8]>);

impl LockName {
    /// Checks a name given by a caller.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is empty or longer than [`MAX_NAME`] bytes.
    pub fn new(name: &[u8]) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::Invalid("must not be empty".into()));
        }
        if name.len() > MAX_NAME {
            return Err(Error::Invalid(format!(
                "must be at most {MAX_NAME} bytes long, {} given",
                name.len()
            )));
        }
        Ok(Self(name.into()))
    }

    /// The name of the lock on a file that all nodes know by this path. One too long for a name is
    /// replaced by its SHA-1, which keeps it unique and stable.
    pub(crate) fn of_shared_path(path: &Path) -> Self {
        let path = path.as_os_str().as_bytes();
        let mut name = b"file:".to_vec();
        if path.len() + name.len() > MAX_NAME {
            name.extend_from_slice(b"sha1:");
            name.extend_from_slice(sha1_smol::Sha1::from(path).digest().to_string().as_bytes());
        } else {
            name.extend_from_slice(path);
        }
        Self(name.into())
    }

    /// The bytes as the caller gave them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The percent-encoded form that stands in keys: ASCII without braces, globs, blanks.
    pub fn encoded(&self) -> String {
        let mut encoded = String::with_capacity(self.0.len() + 8);
        encode_into(&mut encoded, &self.0);
        encoded
    }

    /// The inverse of [`LockName::encoded`]; `None` for what no name encodes to.
    pub fn decode(encoded: &[u8]) -> Option<Self> {
        let name = Self(percent_decode(encoded).collect());
        let is_name = (1..=MAX_NAME).contains(&name.0.len()) && name.encoded().as_bytes() == encoded;
        is_name.then_some(name)
    }
}

impl fmt::Display for LockName {
    /// Printable in logs and terminals whatever the bytes: control characters and invalid UTF-8
    /// are escaped, so that a name cannot forge a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if text::is_unprintable(c) || c == '"' || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for b in chunk.invalid() {
                write!(f, "\\x{b:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockName(\"{self}\")")
    }
}

/// What does not stand in a key as it is: all but letters, digits and these.
const ENCODED: &AsciiSet = &{
    let mut set = NON_ALPHANUMERIC.remove(b'-');
    let mut safe: &[u8] = b"_.~:/@+=,;!$&'()#|<>";
    while let [byte, rest @ ..] = safe {
        set = set.remove(*byte);
        safe = rest;
    }
    set
};

/// Percent-encodes a name, or a prefix of one, behind what is in `key`.
pub(crate) fn encode_into(key: &mut String, bytes: &[u8]) {
    key.extend(percent_encode(bytes, ENCODED));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_have_one_to_1024_bytes() {
        assert!(LockName::new(b"").is_err());
        assert!(LockName::new(&[0; 1024]).is_ok());
        assert!(LockName::new(&[0; 1025]).is_err());
    }

    #[test]
    fn readable_names_stay_readable() {
        assert_eq!(LockName::new(b"file:/srv/www/a.css").unwrap().encoded(), "file:/srv/www/a.css");
        assert_eq!(LockName::new(b"a{b}*\0%").unwrap().encoded(), "a%7Bb%7D%2A%00%25");
    }

    #[test]
    fn only_what_a_name_encodes_to_is_decoded() {
        assert_eq!(LockName::decode(b"a%7B"), Some(LockName::new(b"a{").unwrap()));
        for other in [b"".as_slice(), b"a%", b"a%7", b"a%7g", b"a%7b", b"%61", b"a{", b"\xff"] {
            assert_eq!(LockName::decode(other), None, "{other:?}");
        }
        assert_eq!(LockName::decode(&[b'a'; 1025]), None);
    }

    #[test]
    fn display_cannot_forge_a_log_line() {
        let shown = LockName::new(b"a\n[error] \xff\"").unwrap().to_string();
        assert_eq!(shown, "a\\n[error] \\xff\\\"");
    }

    proptest! {
        #[test]
        fn encoding_is_reversible_and_safe(name in prop::collection::vec(any::<u8>(), 1..100)) {
            let name = LockName::new(&name).unwrap();
            let encoded = name.encoded();
            let safe = encoded.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]^".contains(&b));
            prop_assert!(safe, "unsafe key");
            prop_assert_eq!(LockName::decode(encoded.as_bytes()), Some(name));
        }
    }
}
