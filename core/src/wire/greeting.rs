//! The first words on a connection: who we are, which database is meant, and what the server says of itself.
//!
//! `HELLO` does all of it. A server that does not have it (older than Redis 6, or with another name for it), or does not
//! permit it, is told the same by `AUTH`, `SELECT`, `CLIENT SETNAME` and `ROLE`, from then on at once; in one round trip,
//! too. What it refuses of the last two it need not do.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Value;

use super::connection::Connection;
use super::fault::Fault;
use crate::clock::Instant;
use crate::dsn::Secret;
use crate::text;

/// What the server said of itself when the connection was made, if it did.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// Its version.
    pub version: Option<String>,
    /// `master` or `replica`; `active-replica` (`KeyDB`), which takes writes, and those of others besides.
    pub role: Option<String>,
}

impl Greeting {
    /// Whether the server says that it takes writes.
    pub fn is_primary(&self) -> bool {
        matches!(self.role.as_deref(), Some("master" | "active-replica"))
    }
}

/// What the server is told.
pub(super) struct Login<'a> {
    /// The ACL user; `None` is the default user.
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
    pub(super) database: u32,
    /// For `CLIENT LIST`.
    pub(super) name: &'a str,
}

/// Greets the server, until `deadline`; one round trip, or two where it turns out to have no `HELLO`, which `plain`
/// keeps.
///
/// # Errors
/// What failed or was refused, without the password.
pub(super) fn greet(
    connection: &mut Connection,
    login: &Login<'_>,
    plain: &AtomicBool,
    deadline: Instant,
) -> Result<Greeting, Fault> {
    if !plain.load(Ordering::Relaxed) {
        match login.hello(connection, deadline) {
            Err(fault) if login.lacks_hello(&fault) => {}
            told => return told.map_err(|fault| login.hide(fault)),
        }
    }
    let greeting = login.in_single_words(connection, deadline).map_err(|fault| login.hide(fault))?;
    plain.store(true, Ordering::Relaxed);
    Ok(greeting)
}

impl Login<'_> {
    /// Some servers tell nobody who is not logged in that they do not know a command; a `HELLO` with a password in it would
    /// have been a log-in.
    fn lacks_hello(&self, fault: &Fault) -> bool {
        fault.lacks_command()
            || fault.lacks_right()
            || fault.is("NOPROTO")
            || fault.is("NOAUTH") && self.password.is_some()
    }

    fn hello(&self, connection: &mut Connection, deadline: Instant) -> Result<Greeting, Fault> {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"2"];
        if let Some(password) = self.password {
            let user = self.user.unwrap_or("default");
            hello.extend([b"AUTH".as_slice(), user.as_bytes(), password.reveal().as_bytes()]);
        }
        hello.extend([b"SETNAME".as_slice(), self.name.as_bytes()]);
        let database = self.database.to_string();
        let select: [&[u8]; 2] = [b"SELECT", database.as_bytes()];
        let mut commands: Vec<&[&[u8]]> = vec![&hello];
        if self.database != 0 {
            commands.push(&select);
        }
        let mut greeting = Greeting::default();
        for (i, reply) in connection.converse(&commands, deadline)?.into_iter().enumerate() {
            let reply = reply?;
            if i == 0 {
                greeting = read(&reply);
            }
        }
        Ok(greeting)
    }

    fn in_single_words(&self, connection: &mut Connection, deadline: Instant) -> Result<Greeting, Fault> {
        let mut auth: Vec<&[u8]> = vec![b"AUTH"];
        // A server without users knows the other form alone.
        auth.extend(self.user.map(str::as_bytes));
        auth.extend(self.password.map(|password| password.reveal().as_bytes()));
        let database = self.database.to_string();
        let select: [&[u8]; 2] = [b"SELECT", database.as_bytes()];
        let name: [&[u8]; 3] = [b"CLIENT", b"SETNAME", self.name.as_bytes()];
        let role: [&[u8]; 1] = [b"ROLE"];
        let mut commands: Vec<&[&[u8]]> = Vec::new();
        if self.password.is_some() {
            commands.push(&auth);
        }
        if self.database != 0 {
            commands.push(&select);
        }
        let needed = commands.len();
        commands.extend([name.as_slice(), role.as_slice()]);
        let mut replies = connection.converse(&commands, deadline)?.into_iter();
        for reply in replies.by_ref().take(needed) {
            reply?;
        }
        let role = match replies.next_back() {
            Some(Ok(Value::Array(parts))) => match parts.first() {
                Some(Value::BulkString(role)) if role == b"slave" => Some("replica".into()),
                Some(Value::BulkString(role)) => said(role),
                _ => None,
            },
            _ => None,
        };
        Ok(Greeting { version: None, role })
    }

    /// A fault in which the password may be repeated.
    fn hide(&self, fault: Fault) -> Fault {
        let password = self.password.map(Secret::reveal).filter(|password| !password.is_empty());
        match (fault, password) {
            (Fault::Refused(code, details), Some(password)) => {
                Fault::Refused(code.replace(password, "***"), details.replace(password, "***"))
            }
            (fault, _) => fault,
        }
    }
}

/// The answer to `HELLO`: names and values.
fn read(hello: &Value) -> Greeting {
    let mut greeting = Greeting::default();
    if let Value::Array(items) = hello {
        for pair in items.chunks_exact(2) {
            if let [Value::BulkString(name), Value::BulkString(value)] = pair {
                match name.as_slice() {
                    b"version" => greeting.version = said(value),
                    b"role" => greeting.role = said(value),
                    _ => {}
                }
            }
        }
    }
    greeting
}

fn said(value: &[u8]) -> Option<String> {
    Some(text::said(&String::from_utf8_lossy(value))).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::socket::{Io, Raw, Socket};
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    /// A server that answers with these replies, and tells what it was asked.
    fn scripted(replies: &'static [&'static str]) -> (Connection, JoinHandle<Vec<String>>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
            let mut line = || lines.next().unwrap().unwrap();
            let mut asked = Vec::new();
            for reply in replies {
                let words: usize = line().trim_start_matches('*').parse().unwrap();
                let command: Vec<String> = (0..words)
                    .map(|_| {
                        line();
                        line()
                    })
                    .collect();
                asked.push(command.join(" "));
                theirs.write_all(reply.as_bytes()).unwrap();
            }
            asked
        });
        let raw = Raw::Unix(ours);
        raw.set_timeouts(LONG).unwrap();
        let socket = Socket { raw, deadline: Instant::now() + LONG, check: true, patient: true };
        (Connection::over(Io::Plain(socket), None, LONG), thread)
    }

    const UNKNOWN: &str =
        "-ERR unknown command `HELLO`, with args beginning with: `2`, `AUTH`, `u`, `hunter2`, \r\n";
    const OK: &str = "+OK\r\n";
    const REFUSED: &str = "-NOPERM this user has no permissions to run the 'client|setname' command\r\n";

    fn role(name: &str) -> &'static str {
        let reply = format!("*3\r\n${}\r\n{name}\r\n:0\r\n*0\r\n", name.len());
        Box::leak(reply.into_boxed_str())
    }

    struct Told {
        greeting: Result<Greeting, Fault>,
        plain: bool,
        asked: Vec<String>,
    }

    fn told(database: u32, user: Option<&str>, plain: bool, replies: &[&'static str]) -> Told {
        let replies: &'static [&'static str] = Box::leak(replies.to_vec().into_boxed_slice());
        let (mut connection, server) = scripted(replies);
        let password = Secret::new("hunter2".into());
        let login = Login { user, password: Some(&password), database, name: "me" };
        let plain = AtomicBool::new(plain);
        let greeting = greet(&mut connection, &login, &plain, Instant::now() + LONG);
        drop(connection);
        Told { greeting, plain: plain.into_inner(), asked: server.join().unwrap() }
    }

    #[test]
    fn hello_says_it_all() {
        let hello = "*4\r\n$7\r\nversion\r\n$5\r\n8.0.6\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
        let it = told(0, None, false, &[hello]);
        let greeting = it.greeting.unwrap();
        assert_eq!(greeting.version.as_deref(), Some("8.0.6"));
        assert!(greeting.is_primary() && !it.plain);
        assert_eq!(it.asked, ["HELLO 2 AUTH default hunter2 SETNAME me"]);
        let it = told(3, Some("u"), false, &[hello, OK]);
        assert!(it.greeting.is_ok());
        assert_eq!(it.asked, ["HELLO 2 AUTH u hunter2 SETNAME me", "SELECT 3"]);
    }

    #[test]
    fn a_server_without_hello_is_told_in_single_words_and_asked_for_its_role() {
        for refusal in [
            UNKNOWN,
            "-NOPERM this user has no permissions to run the 'hello' command\r\n",
            "-NOPERM User default has no permissions to run the 'hello' command\r\n",
            "-NOPROTO unsupported protocol version\r\n",
            "-NOAUTH Authentication required.\r\n",
        ] {
            let it = told(0, None, false, &[refusal, OK, REFUSED, role("master")]);
            assert_eq!(it.greeting.unwrap().role.as_deref(), Some("master"));
            assert!(it.plain);
            assert_eq!(it.asked[1..], ["AUTH hunter2", "CLIENT SETNAME me", "ROLE"]);
        }
        // It is known from then on.
        let it = told(3, Some("u"), true, &[OK, OK, OK, role("slave")]);
        let greeting = it.greeting.unwrap();
        assert_eq!(greeting.role.as_deref(), Some("replica"));
        assert!(!greeting.is_primary());
        assert_eq!(it.asked, ["AUTH u hunter2", "SELECT 3", "CLIENT SETNAME me", "ROLE"]);
        // What SELECT says behind a HELLO that was refused is nobody's answer.
        let denied = "-NOAUTH Authentication required.\r\n";
        let it = told(3, Some("u"), false, &[UNKNOWN, denied, OK, OK, OK, role("active-replica")]);
        let greeting = it.greeting.unwrap();
        assert!(greeting.is_primary(), "{greeting:?}");
        // Who may not ask for the role gets none.
        let it = told(0, None, true, &[OK, OK, REFUSED]);
        assert_eq!(it.greeting.unwrap().role, None);
    }

    #[test]
    fn what_is_refused_for_another_reason_is_told_without_the_password() {
        let wrong = "-WRONGPASS invalid username-password pair hunter2\r\n";
        let denied = "-NOAUTH Authentication required.\r\n";
        for (plain, database, replies) in [
            (false, 0, vec![wrong]),
            (false, 1, vec![wrong, denied]),
            (false, 0, vec![UNKNOWN, wrong, denied, denied]),
            (true, 1, vec![wrong, denied, denied, denied]),
        ] {
            let it = told(database, Some("u"), plain, &replies);
            let fault = it.greeting.unwrap_err();
            assert!(fault.is("WRONGPASS"), "{fault:?}");
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
            assert_eq!(it.plain, plain);
        }
        let it = told(99, None, true, &[OK, "-ERR DB index is out of range\r\n", OK, OK]);
        assert!(it.greeting.unwrap_err().is("ERR"));
    }
}
