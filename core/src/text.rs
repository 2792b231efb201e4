//! Text of others (paths, server replies, what other nodes report), made fit for a message.
//!
//! A message ends up in a log, a terminal or a page. Nothing in it may begin a line of its own, drive a
//! terminal, turn the direction of what follows, or fill a disk.

use std::fmt::Write;
use std::path::Path;

/// The most characters shown of what somebody else has said.
const MAX_SAID: usize = 300;
/// The most characters shown of a path; the kernel takes no longer one.
const MAX_PATH: usize = 4096;

/// Whether a character is shown by its code instead.
pub(crate) fn is_unprintable(c: char) -> bool {
    // Beside the control characters: line and paragraph separators, and what is invisible or changes
    // the direction of writing.
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn printable(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    let mut characters = text.chars();
    for c in characters.by_ref().take(most) {
        if is_unprintable(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    let left = characters.count();
    if left > 0 {
        let _ = write!(out, "… ({left} more characters)");
    }
    out
}

/// What a server or another node has said: escaped, and cut.
pub fn said(text: &str) -> String {
    printable(text, MAX_SAID)
}

/// As [`said`], of a path that somebody else has told: of a long one the end, which tells most.
pub fn end_of(path: &str) -> String {
    let Some((start, _)) = path.char_indices().rev().nth(MAX_SAID) else { return printable(path, MAX_SAID) };
    let end = path.get(start..).unwrap_or_default();
    format!(
        "…{}",
        printable(end.get(end.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default(), MAX_SAID)
    )
}

/// A path for a message.
pub fn path(path: &Path) -> String {
    printable(&path.to_string_lossy(), MAX_PATH)
}

/// An operating system's error in words, without its number: "Connection refused (os error 111)" reads better so.
pub(crate) fn os_error(error: &std::io::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_begins_a_line_or_drives_a_terminal() {
        let text = said("a\r\n[error] \x1b[2J\0 b\u{85}c\u{2028}d\u{202e}e");
        assert_eq!(text, "a\\r\\n[error] \\u{1b}[2J\\u{0} b\\u{85}c\\u{2028}d\\u{202e}e");
        assert_eq!(path(Path::new("/srv/é\n/x")), "/srv/é\\n/x");
    }

    #[test]
    fn what_is_long_is_cut() {
        let text = said(&"é".repeat(10_000));
        assert!(text.starts_with(&"é".repeat(MAX_SAID)), "{text}");
        assert!(text.ends_with("(9700 more characters)") && text.len() < 700, "{text}");
        assert!(path(Path::new(&"x".repeat(1 << 20))).len() < 5000);
        assert_eq!(end_of(&"é".repeat(MAX_SAID)), "é".repeat(MAX_SAID));
        assert_eq!(
            end_of(&("ab".to_owned() + &"é".repeat(MAX_SAID))),
            "…".to_owned() + &"é".repeat(MAX_SAID)
        );
    }
}
