//! The text of a DSN, read.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Address, Cluster, Dsn, HIDDEN, Password, Secret, Sentinel, Server, Tls};
use crate::error::{Error, Result};

const ALLOWED: &str = "redis://[user[:password]@]host[:port][/db], redis+unix:///path.sock?db=, \
                       redis+sentinel://host[:port],…/master-name[/db], redis+cluster://host[:port],…, \
                       redis+quorum://host[:port],…[/db], each also with rediss (TLS), valkey or valkeys in place \
                       of redis; local: or local:///dir";

/// How long a grace period may be, in seconds: longer than a hand-over's lease, and not longer than a site can be without.
const GRACE: RangeInclusive<u64> = 5..=3600;

/// What `?…` may say.
#[derive(Default)]
struct Query {
    database: Option<u32>,
    tls: Option<Tls>,
    password_file: Option<PathBuf>,
    wait: Option<u32>,
    grace: Option<Duration>,
    sentinel_user: Option<String>,
    sentinel_password: Option<Secret>,
    sentinel_password_file: Option<PathBuf>,
}

impl Dsn {
    /// Parses a DSN.
    ///
    /// # Errors
    /// [`Error::Config`] that says what is wrong and what is allowed, without repeating the text,
    /// in which a password may stand.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match family {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "local" if kind.is_empty() => return local(text),
            "" => return Err(bad("it has no scheme")),
            _ => return Err(bad("its scheme is not known")),
        };
        if has_stray_at(text) {
            return Err(bad(
                "an @ stands behind the host; in a user, a password or a path / ? # @ are written \
                            %2F %3F %23 %40",
            ));
        }
        match kind {
            "" => one(text, tls),
            "unix" if !tls => Ok(Self::Redis(unix(text)?)),
            "sentinel" => sentinel(text, tls),
            "cluster" => cluster(text, tls),
            "quorum" => quorum(text, tls),
            _ => Err(bad("its scheme is not known")),
        }
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

/// Whether there is an `@` behind the host, that is, very likely, a password with a slash in it, of which
/// the rest would pass for a path, and be shown.
fn has_stray_at(text: &str) -> bool {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let tail = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())).1;
    tail.split(['?', '&', '#']).any(|part| part.contains('@') && !part.starts_with("sentinel_password="))
}

/// `scheme://[user[:password]@]host[:port],host[:port]…[/path][?options]`, taken apart.
struct Parts {
    /// One for every host; options and credentials are the same for all, the database is 0.
    servers: Vec<Server>,
    /// Between the slashes, decoded; none empty.
    path: Vec<String>,
    options: Query,
}

/// `kind` tells which options go with it; `port` is the default.
fn parts(text: &str, tls: bool, port: u16, kind: &str) -> Result<Parts> {
    let rest = text.split_once("://").map(|(_, rest)| rest).ok_or_else(|| bad("it names no host"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
    };
    let mut servers = Vec::new();
    let mut found = None;
    for host in hosts.split(',') {
        // The same text with one host: a URL as the crate knows it.
        let url =
            Url::parse(&format!("redis://{login}{}{tail}", host.trim())).map_err(|e| bad(&e.to_string()))?;
        let name = url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| bad("it names no host"))?;
        let options = options(&url, tls, kind)?;
        let (user, password) = credentials(&url, options.password_file.as_ref())?;
        servers.push(Server {
            address: Address::Tcp(
                name.trim_matches(|c| c == '[' || c == ']').to_owned(),
                url.port().unwrap_or(port),
            ),
            tls: options.tls.clone(),
            user,
            password,
            database: 0,
            grace: options.grace,
        });
        found = Some((url, options));
    }
    let (url, options) = found.ok_or_else(|| bad("it names no host"))?;
    let path = url.path().split('/').filter(|part| !part.is_empty()).map(decode).collect::<Result<_>>()?;
    Ok(Parts { servers, path, options })
}

fn database_number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| bad("the database is not a number"))
}

impl Parts {
    /// Takes what is left of the path, or `?db=`, for the database.
    fn with_database(mut self, path: &[String]) -> Result<Self> {
        let database = match (path, self.options.database) {
            ([], database) => database.unwrap_or(0),
            ([text], None) => database_number(text)?,
            _ => return Err(bad("its path is too long, or names a second database")),
        };
        for server in &mut self.servers {
            server.database = database;
        }
        Ok(self)
    }
}

fn one(text: &str, tls: bool) -> Result<Dsn> {
    let mut parts = parts(text, tls, 6379, "")?;
    let path = std::mem::take(&mut parts.path);
    let mut servers = parts.with_database(&path)?.servers;
    match (servers.pop(), servers.is_empty()) {
        (Some(server), true) => Ok(Dsn::Redis(server)),
        _ => Err(bad("it names several hosts; that goes with redis+sentinel, redis+cluster or redis+quorum")),
    }
}

fn quorum(text: &str, tls: bool) -> Result<Dsn> {
    let mut parts = parts(text, tls, 6379, "quorum")?;
    let path = std::mem::take(&mut parts.path);
    let servers = parts.with_database(&path)?.servers;
    for (i, server) in servers.iter().enumerate() {
        if servers.iter().take(i).any(|other| other.address == server.address) {
            return Err(bad("a quorum counts each server once, and it names one of them twice"));
        }
    }
    if servers.len() < 3 {
        return Err(bad("a quorum needs three servers or more (with fewer, none may fail)"));
    }
    Ok(Dsn::Quorum(servers))
}

fn cluster(text: &str, tls: bool) -> Result<Dsn> {
    let Parts { servers: seeds, path, options } = parts(text, tls, 6379, "cluster")?;
    if !path.is_empty() || options.database.is_some_and(|database| database != 0) {
        return Err(bad("a Redis Cluster has no database but 0"));
    }
    Ok(Dsn::Cluster(Cluster { seeds, wait: options.wait.unwrap_or(0) }))
}

fn sentinel(text: &str, tls: bool) -> Result<Dsn> {
    let mut parts = parts(text, tls, 26379, "sentinel")?;
    let path = std::mem::take(&mut parts.path);
    let Some((master, path)) = path.split_first() else {
        return Err(bad("it does not say under which name the sentinels know the primary (…/master-name)"));
    };
    let Parts { servers, options, .. } = parts.with_database(path)?;
    let primary = servers.first().cloned().ok_or_else(|| bad("it names no host"))?;
    let password = password(options.sentinel_password, options.sentinel_password_file.as_ref())?;
    if options.sentinel_user.is_some() && password.is_none() {
        return Err(bad("?sentinel_user= goes with ?sentinel_password= or ?sentinel_password_file="));
    }
    let own = |server: Server| Server {
        user: options.sentinel_user.clone(),
        password: password.clone(),
        database: 0,
        grace: None,
        ..server
    };
    Ok(Dsn::Sentinel(Sentinel {
        sentinels: servers.into_iter().map(own).collect(),
        master: master.clone(),
        primary,
        wait: options.wait.unwrap_or(0),
    }))
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
    let options = options(&url, false, "")?;
    let (user, password) = credentials(&url, options.password_file.as_ref())?;
    Ok(Server {
        address: Address::Unix(PathBuf::from(decode(url.path())?)),
        tls: None,
        user,
        password,
        database: options.database.unwrap_or(0),
        grace: options.grace,
    })
}

fn credentials(url: &Url, file: Option<&PathBuf>) -> Result<(Option<String>, Option<Password>)> {
    let user = non_empty(decode(url.username())?);
    let given = secret(url.password().map(decode).transpose()?.unwrap_or_default())?;
    let password = password(given, file)?;
    if user.is_some() && password.is_none() {
        // The server would be spoken to as the default user.
        return Err(bad("it names a user and gives no password (user:password@host, or ?password_file=)"));
    }
    Ok((user, password))
}

fn password(given: Option<Secret>, file: Option<&PathBuf>) -> Result<Option<Password>> {
    match (given, file) {
        (Some(_), Some(_)) => Err(bad("it gives a password, and a file that has it: one of them, please")),
        (given, file) => Ok(given.map(Password::Given).or_else(|| file.cloned().map(Password::File))),
    }
}

/// Where a password stands. Absolute, because nobody knows in which directory PHP works.
fn password_file(name: &str, value: &str) -> Result<Option<PathBuf>> {
    if !value.starts_with('/') {
        return Err(bad(&format!("?{name}= takes an absolute path")));
    }
    Ok(Some(PathBuf::from(value)))
}

fn secret(text: String) -> Result<Option<Secret>> {
    if text == HIDDEN {
        return Err(bad("its password is hidden (***), as reports show it: write the password itself"));
    }
    Ok(non_empty(text).map(Secret))
}

fn options(url: &Url, tls: bool, kind: &str) -> Result<Query> {
    let mut options = Query { tls: tls.then(Tls::default), ..Query::default() };
    for (name, value) in url.query_pairs() {
        let path = || Some(PathBuf::from(value.as_ref()));
        match (name.as_ref(), &mut options.tls) {
            ("db", _) => options.database = Some(database_number(&value)?),
            ("ca", Some(tls)) => tls.ca = path(),
            ("cert", Some(tls)) => tls.cert = path(),
            ("key", Some(tls)) => tls.key = path(),
            ("tls_name", Some(tls)) => {
                let host = url::Host::parse(&value).map_err(|_| bad("?tls_name= takes a host's name"))?;
                tls.name = Some(host.to_string().trim_matches(['[', ']']).to_owned());
            }
            ("ca" | "cert" | "key" | "tls_name", None) => {
                return Err(bad(&format!("?{name}= goes with rediss:// or valkeys:// only")));
            }
            ("password_file", _) => options.password_file = password_file(&name, &value)?,
            ("wait", _) if kind == "sentinel" || kind == "cluster" => {
                let wait = value.parse().ok().filter(|wait| *wait <= 100);
                options.wait = Some(wait.ok_or_else(|| bad("?wait= takes a number of replicas"))?);
            }
            ("wait", _) => return Err(bad("?wait= goes with redis+sentinel:// and redis+cluster:// only")),
            ("grace", _) if kind == "cluster" => {
                return Err(bad("?grace= does not go with redis+cluster://"));
            }
            ("grace", _) => {
                let seconds = value.parse().ok().filter(|seconds| GRACE.contains(seconds));
                let seconds = seconds.ok_or_else(|| bad("?grace= takes 5 to 3600 seconds"))?;
                options.grace = Some(Duration::from_secs(seconds));
            }
            ("sentinel_user", _) if kind == "sentinel" => {
                options.sentinel_user = non_empty(value.into_owned());
            }
            ("sentinel_password", _) if kind == "sentinel" => {
                options.sentinel_password = secret(value.into_owned())?;
            }
            ("sentinel_password_file", _) if kind == "sentinel" => {
                options.sentinel_password_file = password_file(&name, &value)?;
            }
            _ => {
                return Err(bad(
                    "it has an unknown option; known are db, password_file, ca, cert, key, tls_name, wait, \
                     grace, sentinel_user, sentinel_password, sentinel_password_file",
                ));
            }
        }
    }
    match &options.tls {
        Some(Tls { cert, key, .. }) if cert.is_some() != key.is_some() => {
            Err(bad("?cert= and ?key= go together"))
        }
        _ => Ok(options),
    }
}

fn local(text: &str) -> Result<Dsn> {
    if text.contains("?grace=") {
        return Err(bad("?grace= does not go with local:, where no server can lose its memory"));
    }
    match text.strip_prefix("local:").unwrap_or_default() {
        "" | "//" => Ok(Dsn::Local(None)),
        rest => match rest.strip_prefix("//") {
            Some(dir) if dir.starts_with('/') => Ok(Dsn::Local(Some(PathBuf::from(dir)))),
            _ => Err(bad("local:// takes an absolute directory")),
        },
    }
}

fn decode(text: &str) -> Result<String> {
    let is_encoded = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_encoded) {
        return Err(bad("it contains a % that is not followed by two hexadecimal digits"));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| bad("it is not UTF-8"))?;
    Ok(decoded.into_owned())
}

fn non_empty(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revealed(password: Option<&Password>) -> &str {
        match password {
            Some(Password::Given(secret)) => secret.reveal(),
            other => panic!("{other:?}"),
        }
    }

    fn server(text: &str) -> Server {
        match Dsn::parse(text).unwrap() {
            Dsn::Redis(s) => s,
            other => panic!("not a server: {other:?}"),
        }
    }

    #[test]
    fn plain_forms() {
        let s = server("redis://127.0.0.1");
        assert_eq!(s.address, Address::Tcp("127.0.0.1".into(), 6379));
        assert_eq!((s.user, s.password, s.database, s.tls), (None, None, 0, None));
        let s = server("valkey://u:p%40ss@db.example:7000/3");
        assert_eq!(s.address, Address::Tcp("db.example".into(), 7000));
        assert_eq!(revealed(s.password.as_ref()), "p@ss");
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
        for (name, proven) in [("db.example", "db.example"), ("10.0.0.5", "10.0.0.5"), ("[::1]", "::1")] {
            let s = server(&format!("rediss://127.0.0.1:6380?tls_name={name}"));
            assert_eq!(s.tls.unwrap().name.as_deref(), Some(proven));
        }
        for bad in ["redis://h?tls_name=a", "rediss://h?tls_name=", "rediss://h?tls_name=a%20b"] {
            assert!(Dsn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_may_stand_in_a_file() {
        let file = |path: &str| Some(Password::File(path.into()));
        for (dsn, user) in [
            ("redis://u@h?password_file=/run/secrets/redis", Some("u")),
            ("redis://h/2?password_file=/run/secrets/redis", None),
            ("redis+unix://u@/run/r.sock?password_file=/run/secrets/redis", Some("u")),
        ] {
            let s = server(dsn);
            assert_eq!((s.user.as_deref(), s.password), (user, file("/run/secrets/redis")), "{dsn}");
        }
        let Dsn::Quorum(voters) = Dsn::parse("redis+quorum://u@a,b,c?password_file=/f").unwrap() else {
            panic!()
        };
        assert!(voters.iter().all(|voter| voter.password == file("/f")));
        let Dsn::Cluster(c) = Dsn::parse("redis+cluster://u@a,b?password_file=/f").unwrap() else { panic!() };
        assert!(c.seeds.iter().all(|seed| seed.password == file("/f")));
        // The servers', as in front of the @; the sentinels have one of their own.
        let dsn = "redis+sentinel://u@h/m?password_file=/f&sentinel_user=s&sentinel_password_file=/g";
        let Dsn::Sentinel(s) = Dsn::parse(dsn).unwrap() else { panic!() };
        assert_eq!((s.primary.user.as_deref(), &s.primary.password), (Some("u"), &file("/f")));
        assert_eq!((s.sentinels[0].user.as_deref(), &s.sentinels[0].password), (Some("s"), &file("/g")));
        let dsn = "redis+sentinel://h/m?password_file=/f";
        let Dsn::Sentinel(s) = Dsn::parse(dsn).unwrap() else { panic!() };
        assert_eq!(s.sentinels[0].password, None);
        for (bad, why) in [
            ("redis://u:hunter2@h?password_file=/f", "one of them"),
            ("redis+sentinel://h/m?sentinel_password=hunter2&sentinel_password_file=/f", "one of them"),
            ("redis://h?password_file=f", "absolute"),
            ("redis://h?password_file=", "absolute"),
            ("redis://h?sentinel_password_file=/f", "unknown option"),
        ] {
            let error = Dsn::parse(bad).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
        // There is nothing to hide in it.
        let dsn = Dsn::parse("redis://u@h?password_file=/f").unwrap();
        assert!(!dsn.is_secret());
        assert_eq!(dsn.redacted(), "redis://u@h:6379");
        assert_eq!(redact("redis+cluster://a,b?password_file=/f"), "redis+cluster://a:6379,b:6379");
    }

    #[test]
    fn a_grace_period_is_of_servers_that_can_have_one() {
        for (dsn, seconds) in [
            ("redis://h?grace=5", Some(5)),
            ("rediss://h/2?grace=3600&ca=/a.pem", Some(3600)),
            ("redis+unix:///run/r.sock?db=2&grace=30", Some(30)),
            ("redis+sentinel://h/m?wait=1&grace=30", Some(30)),
            ("redis+quorum://a,b,c?grace=30", Some(30)),
            ("redis+cluster://a", None),
            ("local:", None),
        ] {
            assert_eq!(Dsn::parse(dsn).unwrap().grace(), seconds.map(Duration::from_secs), "{dsn}");
        }
        for (bad, why) in [
            ("redis://h?grace=4", "5 to 3600"),
            ("redis://h?grace=3601", "5 to 3600"),
            ("redis://h?grace=7.5", "5 to 3600"),
            ("redis://h?grace=", "5 to 3600"),
            ("redis+cluster://h?grace=5", "redis+cluster"),
            ("local:?grace=5", "local:"),
            ("local:///dir?grace=5", "local:"),
        ] {
            let error = Dsn::parse(bad).unwrap_err().to_string();
            assert!(error.contains("?grace=") && error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn unix_sockets() {
        let s = server("redis+unix:///run/r.sock?db=2");
        assert_eq!((s.address, s.database), (Address::Unix("/run/r.sock".into()), 2));
        let s = server("redis+unix://u:secret@/run/r.sock");
        assert_eq!(s.to_string(), "redis+unix://u:***@/run/r.sock");
    }

    #[test]
    fn sentinels_name_a_primary() {
        let Dsn::Sentinel(s) = Dsn::parse(
            "rediss+sentinel://u:hunter2@s1:1,s2,[::1]:3/the-primary/4?wait=2&sentinel_password=hunter2&ca=/a.pem",
        )
        .unwrap() else {
            panic!("not sentinels")
        };
        let addresses: Vec<_> = s.sentinels.iter().map(|s| s.address.to_string()).collect();
        assert_eq!(addresses, ["s1:1", "s2:26379", "[::1]:3"]);
        assert_eq!((s.master.as_str(), s.primary.database, s.wait), ("the-primary", 4, 2));
        assert_eq!(s.primary.user.as_deref(), Some("u"));
        assert_eq!(s.sentinels[0].user, None);
        assert_eq!(revealed(s.sentinels[0].password.as_ref()), "hunter2");
        assert_eq!(s.sentinels[0].tls, s.primary.tls);
        let dsn = Dsn::Sentinel(s);
        assert_eq!(dsn.redacted(), "rediss+sentinel://u:***@s1:1,s2:26379,[::1]:3/the-primary/4");
        assert!(!format!("{dsn:?}").contains("hunter2"));
        for bad in ["redis+sentinel://h", "redis+sentinel://h/name/1/2", "redis+sentinel:///name"] {
            assert!(Dsn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn clusters_and_quorums_name_several_servers() {
        let Dsn::Cluster(c) = Dsn::parse("redis+cluster://:hunter2@a,b:7001?wait=1").unwrap() else {
            panic!("not a cluster")
        };
        assert_eq!((c.seeds.len(), c.wait), (2, 1));
        assert_eq!(Dsn::Cluster(c).redacted(), "redis+cluster://:***@a:6379,b:7001");
        assert!(Dsn::parse("redis+cluster://a/1").is_err());
        let Dsn::Quorum(q) = Dsn::parse("valkeys+quorum://a,b,c:1/2").unwrap() else {
            panic!("not a quorum")
        };
        assert!(q.iter().all(|s| s.database == 2 && s.tls.is_some()));
        assert_eq!(Dsn::Quorum(q).redacted(), "rediss+quorum://a:6379,b:6379,c:1/2");
        for bad in
            ["redis+quorum://a,b", "redis+quorum://a,a,b", "redis+quorum://a,b,c?wait=1", "redis://a,b"]
        {
            assert!(Dsn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_user_without_a_password_is_not_taken_for_the_default_user() {
        for text in ["redis://u@h", "rediss://u:@h", "redis+unix://u@/run/r.sock", "redis+quorum://u@a,b,c"] {
            let error = Dsn::parse(text).unwrap_err().to_string();
            assert!(error.contains("gives no password"), "{error}");
        }
        assert!(Dsn::parse("redis://:secret@h").is_ok());
    }

    #[test]
    fn an_address_that_a_server_tells_cannot_forge_a_log_line() {
        assert_eq!(Address::Tcp("a\nb".into(), 1).to_string(), "a\\nb:1");
    }

    #[test]
    fn a_hidden_password_is_none() {
        for text in
            ["redis://u:***@h", "redis+cluster://:***@h", "redis+sentinel://h/m?sentinel_password=***"]
        {
            let error = Dsn::parse(text).unwrap_err().to_string();
            assert!(error.contains("write the password itself"), "{error}");
        }
    }

    #[test]
    fn it_is_known_whether_there_is_anything_to_hide() {
        let is_secret = |text: &str| Dsn::parse(text).unwrap().is_secret();
        for text in [
            "redis://:p@h",
            "redis+unix://u:p@/run/r.sock",
            "redis+sentinel://h/m?sentinel_password=p",
            "redis+sentinel://:p@h/m",
            "redis+cluster://:p@h",
            "redis+quorum://u:p@a,b,c",
        ] {
            assert!(is_secret(text), "{text}");
        }
        for text in ["redis://h", "redis+sentinel://h/m", "redis+quorum://a,b,c", "local:"] {
            assert!(!is_secret(text), "{text}");
        }
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
            "redis+sentinel://u:hunter2@h,i:x/name",
            "redis+quorum://u:hunter2@h",
        ] {
            let error = Dsn::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(!redact(text).contains("hunter2"), "{}", redact(text));
        }
        let dsn = Dsn::parse("redis://u:hunter2@h").unwrap();
        assert!(!format!("{dsn:?}{}", dsn.redacted()).contains("hunter2"));
    }

    #[test]
    fn the_rest_of_a_password_is_no_path() {
        for dsn in [
            "redis+sentinel://user:sec/ret@h1,h2/master",
            "redis://h:1/ret@h",
            "redis+unix:///:ret@/path.sock",
            "rediss://user:6379?ca=ret@h",
            "redis://user:6379#ret@h",
        ] {
            let error = Dsn::parse(dsn).unwrap_err().to_string();
            assert!(error.contains("%2F") && !error.contains("ret@"), "{dsn}: {error}");
            assert!(!redact(dsn).contains("ret"), "{dsn}");
        }
        let Dsn::Sentinel(sentinel) = Dsn::parse("redis+sentinel://h/m?sentinel_password=a@b").unwrap()
        else {
            panic!()
        };
        assert_eq!(revealed(sentinel.sentinels[0].password.as_ref()), "a@b");
        assert!(Dsn::parse("redis+unix:///a%40b.sock").is_ok());
    }
}
