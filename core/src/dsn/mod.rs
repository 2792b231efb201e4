//! `cluster_lock.dsn`: which backend, and where.

mod parse;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::text;

pub use parse::redact;

/// A parsed DSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dsn {
    /// One Redis or Valkey server.
    Redis(Server),
    /// The primary that sentinels name.
    Sentinel(Sentinel),
    /// Redis Cluster: each lock on the server that owns its slot.
    Cluster(Cluster),
    /// Independent primaries, of which a majority decides.
    Quorum(Vec<Server>),
    /// This host's kernel, in a directory; `None` is the default directory.
    Local(Option<PathBuf>),
}

/// Sentinels, and what they watch over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinel {
    /// Where they listen; with their own credentials, if they have any.
    pub sentinels: Vec<Server>,
    /// The name under which they know the primary.
    pub master: String,
    /// How to speak to the primary. Its address is the sentinels' to tell.
    pub primary: Server,
    /// Replicas that must have acknowledged an acquire.
    pub wait: u32,
}

/// A Redis Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Servers of it to ask for the others.
    pub seeds: Vec<Server>,
    /// Replicas that must have acknowledged an acquire.
    pub wait: u32,
}

/// How to reach one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// ACL user; `None` is the default user.
    pub user: Option<String>,
    /// Password, or where it stands.
    pub password: Option<Password>,
    /// Database number.
    pub database: u32,
    /// For how long it lets nobody in when it finds itself without its memory; the same for all servers and on all nodes.
    pub grace: Option<Duration>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Unix domain socket.
    Unix(PathBuf),
}

/// TLS: PEM files, and a name. Without `ca` the system's certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities to trust.
    pub ca: Option<PathBuf>,
    /// Client certificate chain.
    pub cert: Option<PathBuf>,
    /// The client certificate's private key.
    pub key: Option<PathBuf>,
    /// The name that the server is asked for and must prove, where that is not the host's.
    pub name: Option<String>,
}

/// A password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// It is in the DSN.
    Given(Secret),
    /// A file has it, which is read for each connection: it may change.
    File(PathBuf),
}

/// A value that no formatting shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A value to hide.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Shown in the place of a password.
const HIDDEN: &str = "***";

impl Dsn {
    /// The DSN without credentials, for messages and reports.
    pub fn redacted(&self) -> String {
        match self {
            Self::Redis(server) => server.to_string(),
            Self::Sentinel(Sentinel { sentinels, master, primary, .. }) => {
                let start = start(primary, "+sentinel");
                format!("{start}{}/{}{}", hosts(sentinels), text::said(master), database(primary.database))
            }
            Self::Cluster(Cluster { seeds, .. }) => several(seeds, "+cluster"),
            Self::Quorum(servers) => several(servers, "+quorum"),
            Self::Local(None) => "local:".into(),
            Self::Local(Some(dir)) => format!("local://{}", text::path(dir)),
        }
    }

    /// The kind of backend, as reports name it.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Sentinel(_) => "sentinel",
            Self::Cluster(_) => "cluster",
            Self::Quorum(_) => "quorum",
            Self::Local(_) => "local",
        }
    }

    /// For how long a server lets nobody in when it finds itself without its memory; no lease may be longer.
    pub fn grace(&self) -> Option<Duration> {
        match self {
            Self::Redis(server) => server.grace,
            Self::Sentinel(sentinel) => sentinel.primary.grace,
            Self::Quorum(servers) => servers.first()?.grace,
            Self::Cluster(_) | Self::Local(_) => None,
        }
    }

    /// Whether a password is in it.
    pub fn is_secret(&self) -> bool {
        let has = |server: &Server| matches!(server.password, Some(Password::Given(_)));
        let any = |servers: &[Server]| servers.iter().any(has);
        match self {
            Self::Redis(server) => has(server),
            Self::Sentinel(Sentinel { sentinels, primary, .. }) => has(primary) || any(sentinels),
            Self::Cluster(Cluster { seeds: servers, .. }) | Self::Quorum(servers) => any(servers),
            Self::Local(_) => false,
        }
    }
}

impl Server {
    /// A server at another address, with the credentials, TLS and database of this one.
    #[must_use]
    pub fn at(&self, address: Address) -> Self {
        Self { address, ..self.clone() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Sentinels and clusters tell hosts, too.
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{}]:{port}", text::said(host)),
            Self::Tcp(host, port) => write!(f, "{}:{port}", text::said(host)),
            Self::Unix(path) => f.write_str(&text::path(path)),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(..) => {
                write!(f, "{}{}{}", start(self, ""), self.address, database(self.database))
            }
            Address::Unix(_) => {
                write!(f, "{}{}", start(self, "+unix"), self.address)?;
                if self.database != 0 {
                    write!(f, "?db={}", self.database)?;
                }
                Ok(())
            }
        }
    }
}

/// `scheme://user:***@`
fn start(server: &Server, kind: &str) -> String {
    let user = match (&server.user, &server.password) {
        (None, None | Some(Password::File(_))) => String::new(),
        (user, None | Some(Password::File(_))) => format!("{}@", user.as_deref().unwrap_or("")),
        (user, Some(Password::Given(_))) => format!("{}:{HIDDEN}@", user.as_deref().unwrap_or("")),
    };
    let s = if server.tls.is_some() { "s" } else { "" };
    format!("redis{s}{kind}://{user}")
}

fn hosts(servers: &[Server]) -> String {
    servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(",")
}

fn database(number: u32) -> String {
    if number == 0 { String::new() } else { format!("/{number}") }
}

fn several(servers: &[Server], kind: &str) -> String {
    servers.first().map_or_else(String::new, |first| {
        format!("{}{}{}", start(first, kind), hosts(servers), database(first.database))
    })
}
