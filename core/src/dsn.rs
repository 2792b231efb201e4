//! `cluster_lock.dsn`: which backend, and where.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::error::{Error, Result};

/// A parsed DSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dsn {
    /// One Redis or Valkey server.
    Redis(Server),
    /// This host's kernel, in a directory; `None` is the default directory.
    Local(Option<PathBuf>),
}

/// How to reach one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// TLS, if it is spoken.
    pub tls: Option<TlsFiles>,
    /// ACL user; `None` is the default user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Database number.
    pub database: u32,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Unix domain socket.
    Unix(PathBuf),
}

/// PEM files for TLS. Without `ca` the system's certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate authorities to trust.
    pub ca: Option<PathBuf>,
    /// Client certificate chain.
    pub cert: Option<PathBuf>,
    /// The client certificate's private key.
    pub key: Option<PathBuf>,
}

/// A value that no formatting shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

const ALLOWED: &str = "redis://[user[:password]@]host[:port][/db], rediss://…, redis+unix:///path.sock?db=, \
                       valkey://…, valkeys://…, local: or local:///dir";

impl Dsn {
    /// Parses a DSN.
    ///
    /// # Errors
    /// [`Error::Config`] that says what is wrong and what is allowed, without repeating the text,
    /// in which a password may stand.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "redis" | "valkey" => Ok(Self::Redis(tcp(text, None)?)),
            "rediss" | "valkeys" => Ok(Self::Redis(tcp(text, Some(TlsFiles::default()))?)),
            "redis+unix" | "valkey+unix" => Ok(Self::Redis(unix(text)?)),
            "local" => local(text),
            "redis+sentinel" | "redis+cluster" | "redis+quorum" => {
                Err(bad(&format!("{scheme}:// is not available in this version")))
            }
            "" => Err(bad("it has no scheme")),
            _ => Err(bad("its scheme is not known")),
        }
    }

    /// The DSN without credentials, for messages and reports.
    pub fn redacted(&self) -> String {
        match self {
            Self::Redis(server) => server.to_string(),
            Self::Local(None) => "local:".into(),
            Self::Local(Some(dir)) => format!("local://{}", dir.display()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = match (&self.user, &self.password) {
            (None, None) => String::new(),
            (user, None) => format!("{}@", user.as_deref().unwrap_or("")),
            (user, Some(_)) => format!("{}:***@", user.as_deref().unwrap_or("")),
        };
        match &self.address {
            Address::Tcp(host, port) => {
                let s = if self.tls.is_some() { "s" } else { "" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                write!(f, "redis{s}://{user}{host}:{port}")?;
                if self.database != 0 {
                    write!(f, "/{}", self.database)?;
                }
            }
            Address::Unix(path) => {
                write!(f, "redis+unix://{user}{}", path.display())?;
                if self.database != 0 {
                    write!(f, "?db={}", self.database)?;
                }
            }
        }
        Ok(())
    }
}

/// What may be shown of a DSN. Of one that does not parse, in which anything may be a credential,
/// only the scheme.
pub fn redact(text: &str) -> String {
    match Dsn::parse(text) {
        Ok(dsn) => dsn.redacted(),
        Err(_) => match text.split_once("://") {
            Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'+') => {
                format!("{scheme}://***")
            }
            _ => "***".into(),
        },
    }
}

fn bad(what: &str) -> Error {
    Error::Config(format!("cluster_lock.dsn is not usable: {what}. Allowed: {ALLOWED}"))
}

fn tcp(text: &str, tls: Option<TlsFiles>) -> Result<Server> {
    let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| bad("it names no host"))?;
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        db => db.parse().map_err(|_| bad("the database is not a number"))?,
    };
    let mut server = Server {
        address: Address::Tcp(
            host.trim_matches(|c| c == '[' || c == ']').to_owned(),
            url.port().unwrap_or(6379),
        ),
        tls,
        user: non_empty(decode(url.username())?),
        password: url.password().map(decode).transpose()?.and_then(non_empty).map(Secret),
        database,
    };
    options(&mut server, &url)?;
    Ok(server)
}

/// `redis+unix://[user[:password]@]/path.sock[?db=N]`. The crate's URL parser refuses credentials
/// without a host, so they are moved behind a host of its own.
fn unix(text: &str) -> Result<Server> {
    let rest = text.split_once("://").map(|(_, rest)| rest).ok_or_else(|| bad("it names no path"))?;
    let slash = rest.find('/').ok_or_else(|| bad("it names no path"))?;
    let (authority, path) = rest.split_at(slash);
    let url = Url::parse(&format!("redis://{authority}localhost{path}"))
        .ok()
        .filter(|_| authority.is_empty() || authority.ends_with('@'))
        .ok_or_else(|| bad("the path of the socket must be absolute"))?;
    let mut server = Server {
        address: Address::Unix(PathBuf::from(decode(url.path())?)),
        tls: None,
        user: non_empty(decode(url.username())?),
        password: url.password().map(decode).transpose()?.and_then(non_empty).map(Secret),
        database: 0,
    };
    options(&mut server, &url)?;
    Ok(server)
}

fn options(server: &mut Server, url: &Url) -> Result<()> {
    for (name, value) in url.query_pairs() {
        let path = || Some(PathBuf::from(value.as_ref()));
        match (name.as_ref(), &mut server.tls) {
            ("db", _) => {
                server.database = value.parse().map_err(|_| bad("the database is not a number"))?;
            }
            ("ca", Some(tls)) => tls.ca = path(),
            ("cert", Some(tls)) => tls.cert = path(),
            ("key", Some(tls)) => tls.key = path(),
            ("ca" | "cert" | "key", None) => {
                return Err(bad(&format!("?{name}= goes with rediss:// or valkeys:// only")));
            }
            _ => return Err(bad("it has an unknown option; known are db, ca, cert, key")),
        }
    }
    match &server.tls {
        Some(TlsFiles { cert, key, .. }) if cert.is_some() != key.is_some() => {
            Err(bad("?cert= and ?key= go together"))
        }
        _ => Ok(()),
    }
}

fn local(text: &str) -> Result<Dsn> {
    match text.strip_prefix("local:").unwrap_or_default() {
        "" | "//" => Ok(Dsn::Local(None)),
        rest => match rest.strip_prefix("//") {
            Some(dir) if dir.starts_with('/') => Ok(Dsn::Local(Some(PathBuf::from(dir)))),
            _ => Err(bad("local:// takes an absolute directory")),
        },
    }
}

fn decode(text: &str) -> Result<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16));
        let (Some(hi), Some(lo)) = (digit(), digit()) else {
            return Err(bad("it contains a % that is not followed by two hexadecimal digits"));
        };
        out.push(u8::try_from(hi * 16 + lo).unwrap_or_default());
    }
    String::from_utf8(out).map_err(|_| bad("it is not UTF-8"))
}

fn non_empty(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        match Dsn::parse(text).unwrap() {
            Dsn::Redis(s) => s,
            Dsn::Local(_) => panic!("not a server"),
        }
    }

    #[test]
    fn plain_forms() {
        let s = server("redis://127.0.0.1");
        assert_eq!(s.address, Address::Tcp("127.0.0.1".into(), 6379));
        assert_eq!((s.user, s.password, s.database, s.tls), (None, None, 0, None));
        let s = server("valkey://u:p%40ss@db.example:7000/3");
        assert_eq!(s.address, Address::Tcp("db.example".into(), 7000));
        assert_eq!(s.password.unwrap().reveal(), "p@ss");
        assert_eq!((s.user.as_deref(), s.database), (Some("u"), 3));
        assert_eq!(server("redis://[::1]:7").address, Address::Tcp("::1".into(), 7));
        assert_eq!(server("redis://[::1]:7").to_string(), "redis://[::1]:7");
    }

    #[test]
    fn tls_and_its_files() {
        let s = server("rediss://h?ca=/a.pem&cert=/c.pem&key=/k.pem");
        assert_eq!(s.tls.unwrap().ca, Some("/a.pem".into()));
        assert!(Dsn::parse("redis://h?ca=/a.pem").is_err());
        assert!(Dsn::parse("rediss://h?cert=/a.pem").is_err());
    }

    #[test]
    fn unix_sockets() {
        let s = server("redis+unix:///run/r.sock?db=2");
        assert_eq!((s.address, s.database), (Address::Unix("/run/r.sock".into()), 2));
        let s = server("redis+unix://u:secret@/run/r.sock");
        assert_eq!(s.to_string(), "redis+unix://u:***@/run/r.sock");
    }

    #[test]
    fn local_forms() {
        assert_eq!(Dsn::parse("local:").unwrap(), Dsn::Local(None));
        assert_eq!(Dsn::parse("local:///x").unwrap(), Dsn::Local(Some("/x".into())));
        assert!(Dsn::parse("local://x").is_err());
    }

    #[test]
    fn no_message_shows_a_password() {
        for text in [
            "redis://u:hunter2@:bad",
            "nope://u:hunter2@h",
            "redis://u:hunter2@h/x?a=b",
            "u:hunter2@h",
            "redis://:hunter2",
            "hunter2",
        ] {
            let error = Dsn::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(!redact(text).contains("hunter2"), "{}", redact(text));
        }
        let dsn = Dsn::parse("redis://u:hunter2@h").unwrap();
        assert!(!format!("{dsn:?}{}", dsn.redacted()).contains("hunter2"));
    }
}
