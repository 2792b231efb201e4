//! Any name makes a key that is its own, in a hash slot of its own, and cannot forge a line of a log.
#![no_main]

use cluster_lock_core::LockName;
use cluster_lock_core::settings::read;
use libfuzzer_sys::fuzz_target;

/// What a cluster takes the slot from.
fn hash_tag(key: &str) -> &str {
    let Some((_, rest)) = key.split_once('{') else { return key };
    match rest.split_once('}') {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    }
}

fuzz_target!(|input: (&[u8], &[u8], &str)| {
    let (name, other, prefix) = input;
    if let Ok(name) = LockName::new(name) {
        let encoded = name.encoded();
        assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]^\\".contains(&b)), "{encoded}");
        assert_eq!(LockName::decode(encoded.as_bytes()), Some(name.clone()));
        if let Ok(prefix) = read::prefix(prefix) {
            for end in ["", ":q", ":w", ":r", ":i", ":o", ":d", ":m:0"] {
                assert_eq!(hash_tag(&format!("{prefix}{{{encoded}}}{end}")), encoded);
            }
        }
        if let Ok(other) = LockName::new(other) {
            assert_eq!(name == other, encoded == other.encoded());
        }
        let shown = format!("{name} {name:?}");
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
    // What others put into the database.
    if let Some(decoded) = LockName::decode(name) {
        assert!((1..=1024).contains(&decoded.as_bytes().len()));
    }
});
