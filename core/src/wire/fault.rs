//! What goes wrong on a connection.

use std::io;

use crate::text;

/// Why an exchange failed. After anything but [`Fault::Refused`] the connection is unusable.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The socket failed, the peer closed it, time ran out, or the reply made no sense.
    Broken(String),
    /// The server answered with an error: its code (`NOSCRIPT`, `WRONGPASS`, …) and text.
    Refused(String, String),
}

impl Fault {
    /// Whether the server answered with this error code.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(other, _) if other == code)
    }

    /// Something else has written to the keys of a lock.
    pub fn is_foreign_key(&self) -> bool {
        matches!(self, Self::Refused(code, text)
            if code == "NOTALOCK" || code == "WRONGTYPE" || text.contains("WRONGTYPE"))
    }

    /// What a server's error says, fit for a message. A server that does not know a command repeats what it
    /// was sent: passwords and tokens.
    pub(super) fn refused(code: &str, details: &str) -> Self {
        let details = details.split(", with args").next().unwrap_or_default();
        let (code, details) = within_script(details).filter(|_| code == "ERR").unwrap_or((code, details));
        Self::Refused(text::said(code), text::said(details))
    }

    /// What the operating system says of a socket.
    pub(super) fn of(error: &io::Error) -> Self {
        Self::Broken(text::said(&text::os_error(error)))
    }
}

/// The error of a command that a script called. Redis before 7 wraps it:
/// `ERR Error running script (call to f_…): @user_script: 284: -READONLY You can't write against a read only replica.`
fn within_script(details: &str) -> Option<(&str, &str)> {
    let (_, inner) = details.strip_prefix("Error running script")?.split_once("@user_script: ")?;
    let (_line, inner) = inner.split_once(": ")?;
    let (code, text) = inner.strip_prefix('-').unwrap_or(inner).split_once(' ')?;
    (code.len() > 1 && code.bytes().all(|b| b.is_ascii_uppercase())).then_some((code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_within_a_script_is_known_by_its_own_code() {
        let inner = |code: &str, details: &str| match Fault::refused(code, details) {
            Fault::Refused(code, text) => (code, text),
            Fault::Broken(why) => panic!("{why}"),
        };
        let of = |code: &str, text: &str| (code.to_owned(), text.to_owned());
        let wrapped = "Error running script (call to f_5b3): @user_script: 284: -OOM command not allowed";
        assert_eq!(inner("ERR", wrapped), of("OOM", "command not allowed"));
        let wrapped = "Error running script (call to f_5b3): @user_script: 7: WRONGTYPE Operation against";
        assert_eq!(inner("ERR", wrapped), of("WRONGTYPE", "Operation against"));
        // Lua's own, and those of other commands.
        for own in
            ["Error running script (call to f_5b3): @user_script: 7: attempt to index nil", "unknown command"]
        {
            assert_eq!(inner("ERR", own), of("ERR", own));
        }
        assert_eq!(inner("READONLY", "You can't write"), of("READONLY", "You can't write"));
    }
}
