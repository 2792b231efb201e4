//! What goes wrong on a connection.

use std::io;

use crate::text;

/// What a server says that is not the primary of its data, or not yet, or not any more: a replica (`READONLY`), one
/// without its primary (`MASTERDOWN`), one that becomes a replica while somebody sleeps on it (`UNBLOCKED`), one that
/// reads its data (`LOADING`), and a primary that has lost its replicas (`NOREPLICAS`), of which one may have been
/// promoted. In each of these cases the lock may live on another server by now.
const NOT_THE_PRIMARY: [&str; 5] = ["READONLY", "MASTERDOWN", "UNBLOCKED", "LOADING", "NOREPLICAS"];

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

    /// Whether the server is not the primary, or may not be it any more: `NOT_THE_PRIMARY`. Some servers put that into
    /// the text of another error, when a command in a script was refused.
    pub fn is_of_no_primary(&self) -> bool {
        let names = |word: &str| NOT_THE_PRIMARY.contains(&word);
        let Self::Refused(code, text) = self else { return false };
        names(code) || code == "ERR" && text.split(|c: char| !c.is_ascii_uppercase()).any(names)
    }

    /// The server does not know who we are, or not any more.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Refused(code, text)
            if code == "WRONGPASS" || code == "NOAUTH" || code == "ERR" && text.contains("invalid password"))
    }

    /// The server knows a command by no name, or by another one: `unknown command 'EVALSHA'`; `Unknown Redis command
    /// called from script`, and what else it is called there.
    pub fn lacks_command(&self) -> bool {
        let Self::Refused(_, text) = self else { return false };
        let text = text.to_ascii_lowercase();
        text.split("unknown ").skip(1).any(|rest| rest.split(' ').take(2).any(|word| word == "command"))
    }

    /// The ACL user may not do that. `The user executing the script can't run this command`, Redis 8: `ACL failure in
    /// script: User … has no permissions to run the 'zadd' command`. Some servers say so without `NOPERM`.
    pub fn lacks_right(&self) -> bool {
        let Self::Refused(code, text) = self else { return false };
        let text = text.to_ascii_lowercase();
        code == "NOPERM"
            || text.contains("user executing the script")
            || text.contains("acl failure in script")
    }

    /// The server runs no scripts at all: `Could not find scripting engine 'lua'`, as Valkey says.
    pub fn lacks_lua(&self) -> bool {
        matches!(self, Self::Refused(_, text) if text.contains("scripting engine"))
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

    #[test]
    fn a_server_that_is_no_primary_is_known_wherever_it_says_so() {
        for (code, text) in [
            ("READONLY", "You can't write against a read only replica."),
            ("MASTERDOWN", "Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
            (
                "UNBLOCKED",
                "force unblock from blocking operation, instance state changed (master -> replica?)",
            ),
            ("LOADING", "Redis is loading the dataset in memory"),
            ("NOREPLICAS", "Not enough good replicas to write."),
            // Redis 6, KeyDB; and others that wrap a script's error in words of their own.
            (
                "ERR",
                "Error running script (call to f_5b3): @user_script:1: @user_script: 1: -READONLY You can't write \
                 against a read only replica.",
            ),
            ("ERR", "Error running script (call to f_5b3): @user_script:7: -LOADING Dataset is loading"),
            ("ERR", "script failed: -MASTERDOWN Link with MASTER is down"),
        ] {
            assert!(Fault::refused(code, text).is_of_no_primary(), "{code} {text}");
        }
        for (code, text) in [
            ("NOPERM", "this user has no permissions to run the 'readonly' command"),
            ("ERR", "unknown command 'EVALSHA'"),
            ("NOAUTH", "READONLY"),
        ] {
            assert!(!Fault::refused(code, text).is_of_no_primary(), "{code} {text}");
        }
        assert!(!Fault::Broken("READONLY".into()).is_of_no_primary());
    }
}
