//! What several commands understand: how answers are printed, and a lock's name. Which server is meant is
//! [`crate::target`]'s.
#![allow(clippy::doc_markdown)] // what stands here is printed as it is

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::ValueEnum;
use cluster_lock_core::LockName;

use crate::outcome::{Failure, Result};

/// How answers are printed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// One JSON object on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Colours: on a terminal, and only where NO_COLOR is not set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = false)]
    pub(crate) color: When,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A lock, as the user names it.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArg {
    /// The lock
    #[arg(value_name = "NAME")]
    name: OsString,

    /// NAME is written as list shows it: \n, \x1b, \xff and so on stand for what cannot be typed
    #[arg(long)]
    escaped: bool,
}

impl NameArg {
    pub(crate) fn name(&self) -> Result<LockName> {
        let given = self.name.as_bytes();
        let bytes = if self.escaped {
            unescape(given).ok_or_else(|| {
                Failure::Usage("NAME: a \\ is not followed by n, r, t, \\, \", ', xHH or u{…}".into())
            })?
        } else {
            given.to_vec()
        };
        LockName::new(&bytes).map_err(|e| Failure::Usage(format!("NAME {e}")))
    }
}

/// The inverse of how a [`LockName`] is displayed.
fn unescape(shown: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let (&kind, tail) = rest.split_first()?;
        rest = tail;
        match kind {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'\\' | b'"' | b'\'' => out.push(kind),
            b'x' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                out.push(u8::try_from(hex(digits)?).ok()?);
                rest = tail;
            }
            b'u' => {
                let end = rest.iter().position(|&b| b == b'}')?;
                let digits = rest.get(..end)?.strip_prefix(b"{")?;
                out.extend(char::from_u32(hex(digits)?)?.encode_utf8(&mut [0; 4]).bytes());
                rest = rest.get(end + 1..)?;
            }
            _ => return None,
        }
    }
    Some(out)
}

fn hex(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_given_back() {
        let names: [&[u8]; 4] =
            [b"plain", b"a\n\r\t\"\\'\x1b[2J\x7f", "é\u{202e}\u{9b}𝄞".as_bytes(), b"\xff\x00\xc3\x28 %7B{}"];
        for bytes in names {
            let name = LockName::new(bytes).unwrap();
            assert_eq!(unescape(name.to_string().as_bytes()).unwrap(), bytes, "{name}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["\\", "\\q", "\\x1", "\\xgg", "\\u1b", "\\u{}", "\\u{110000}", "\\u{1b", "\\u{+1}"] {
            assert_eq!(unescape(bad.as_bytes()), None, "{bad}");
        }
    }
}
