//! `cluster-lock doctor`: looks for what is wrong with an installation, and says what to do.
//!
//! # Layout
//! * [`mountinfo`], [`network`], [`places`]: what is mounted, what of it is on another machine, and what PHP's
//!   settings do with the locks on its files.
//! * [`php`]: PHP's programs, and what they say of themselves.
//! * [`mounts`], [`dsn`], [`rights`], [`installation`], [`limits`], [`nodes`]: the checks; each makes
//!   [`crate::finding`]s of facts that were gathered before, so that tests can make up the facts; so does
//!   [`crate::servers`].
//! * [`measure`]: `flock()` beside the cluster lock.
//! * [`ini`]: the lines for php.ini. [`report`]: what is printed.

mod dsn;
mod ini;
mod installation;
mod limits;
mod measure;
mod mountinfo;
mod mounts;
mod network;
mod nodes;
mod php;
mod places;
mod report;
mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cluster_lock_core::{Config, Engine, LockName, nfs, text};

use crate::finding::{Area, Finding, Severity, worst};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::servers;
use crate::target::{Source, Target};
use measure::Refusal;
use mountinfo::Mounts;
use nodes::{Mounted, Node};
use php::Php;
use places::{Place, View};
use report::{Measured, Report};

/// A file server that has not answered by then is taken for one that does not.
const ANSWERS: Duration = Duration::from_secs(5);

/// With many mounts: all of them together are not measured for longer.
const MEASURING: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[allow(clippy::doc_markdown)] // printed as it is
#[command(after_help = "Exit status: 0 when nothing is to be mended, 1 after a warning or a problem.\n\n\
    For example: cluster-lock doctor /var/www/html/wp-content\n         \
    cluster-lock doctor --ini > /etc/php/8.2/mods-available/cluster_lock.ini\n         \
    ssh web2 cluster-lock doctor --json > web2.json; cluster-lock doctor --compare web2.json")]
pub(crate) struct Args {
    /// Directories with PHP's content, or files in them; without: every network file system that is mounted
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Do not measure flock() and the cluster lock, and make no temporary file for it
    #[arg(long)]
    no_measure: bool,

    /// Print only the lines for php.ini; nothing when none are needed
    #[arg(long, conflicts_with = "json")]
    ini: bool,

    /// PHP's programs, such as /usr/sbin/php-fpm8.2; without: php in the PATH, and every php-fpm
    #[arg(long, value_name = "PROGRAM")]
    php: Vec<PathBuf>,

    /// Also compare with another node: a file with what cluster-lock doctor --json says there
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// Looks at everything, and prints it.
pub(crate) fn run(args: &Args, target: Result<Target>, out: &Output) -> Result<Outcome> {
    let other = args.compare.as_deref().map(read_node).transpose()?;
    let mounts = Mounts::read().map_err(Failure::system("/proc/self/mountinfo"))?;
    let wanted = args.paths.iter().map(|path| real(path)).collect::<Result<Vec<_>>>()?;
    let mut findings = Vec::new();
    let mut places = places::find(&mounts, &directories(&wanted));
    for place in &mut places {
        let path = place.path.clone();
        place.answers = within(ANSWERS, move || touch(&path)).is_some();
    }
    let follow = places.iter().all(|place| place.answers);
    let (programs, unasked) = ask_php(&args.php);
    let mut views = View::all(&programs, follow);
    if let Ok(target) = &target
        && views.is_empty()
        && target.php.is_ours()
    {
        views.push(View::of_ini(&target.php, follow));
    }

    findings.extend(look_at_places(&places, &wanted, &mounts, &views));
    let (target, unusable) = match target {
        Ok(target) => (Some(target), None),
        Err(failure) => (None, Some(unusable(&failure))),
    };
    findings.extend(unusable);
    let config = target.as_ref().map(|target| &target.config);
    let engine = config.map(Engine::new).transpose()?;
    let reports = engine.as_ref().map(Engine::examine).unwrap_or_default();
    if let Some(target) = &target {
        findings.push(source(target, !places.is_empty()));
        findings.extend(dsn::look(&target.config, !places.is_empty()));
        findings.extend(servers::judge(&target.config, &reports));
        findings.extend(rights::look(&target.config, &reports));
    }
    findings.extend(unasked);
    findings.extend(installation::look(&programs, &views, config));
    findings.extend(limits::look(&programs, &views, config.and_then(|config| config.dsn.grace())));
    let usable =
        engine.as_ref().filter(|_| reports.iter().any(|report| report.error.is_none()) || reports.is_empty());
    let measured =
        if args.no_measure { Vec::new() } else { measure_all(&places, usable, config, &mut findings) };
    let this = node(&places, &views, config);
    if let Some(other) = other {
        findings.extend(nodes::compare(&this, &other));
    }

    let said = target.as_ref().filter(|target| target.source != Source::Default).map(|target| &target.config);
    let lines = ini::propose(&places, &views, said, &findings);
    if let Some(engine) = engine {
        engine.shutdown();
    }
    let report = Report {
        green: worst(&findings) < Severity::Warning,
        this,
        findings,
        measured,
        servers: reports.iter().map(Into::into).collect(),
        php: programs,
        names: names(&wanted, &views),
        ini: ini::text(&lines),
    };
    if args.ini {
        out.bytes(report.ini.as_bytes())?;
    } else if out.json {
        out.object(&report)?;
    } else {
        report.print(out)?;
    }
    Ok(if report.green { Outcome::Yes } else { Outcome::No })
}

fn read_node(file: &Path) -> Result<Node> {
    let json = std::fs::read_to_string(file).map_err(Failure::system(text::path(file)))?;
    nodes::read(&json).map_err(|why| {
        Failure::Usage(format!(
            "{} is not what cluster-lock doctor --json prints: {}",
            text::path(file),
            text::said(&why)
        ))
    })
}

/// What is done in time; `None` when it takes longer. The thread is left to its fate, which is the process's.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    receive.recv_timeout(limit).ok()
}

/// Asks the file server, whatever of its answer this node remembers.
fn touch(path: &Path) {
    nfs::refresh_path(path);
    let _ = std::fs::File::open(path);
}

/// A path without symbolic links.
fn real(path: &Path) -> Result<PathBuf> {
    let asked = path.to_owned();
    let found = within(ANSWERS, move || std::fs::canonicalize(asked))
        .unwrap_or_else(|| Err(std::io::Error::other("the file server does not answer")));
    found.map_err(Failure::system(text::path(path)))
}

/// The directories of files, and what are directories themselves.
fn directories(paths: &[PathBuf]) -> Vec<PathBuf> {
    let directory = |path: &PathBuf| match path.parent() {
        Some(parent) if !path.is_dir() => parent.to_owned(),
        _ => path.clone(),
    };
    paths.iter().map(directory).collect::<BTreeSet<_>>().into_iter().collect()
}

/// PHP's programs, and what is to be said of those that do not answer.
fn ask_php(given: &[PathBuf]) -> (Vec<Php>, Vec<Finding>) {
    let binaries = if given.is_empty() { php::find() } else { given.to_vec() };
    let (mut programs, mut findings) = (Vec::new(), Vec::new());
    for binary in binaries {
        match php::ask(&binary) {
            Ok(php) => {
                let apache = if given.is_empty() { php::apache(&php, Path::new("/")) } else { None };
                programs.push(php);
                programs.extend(apache.and_then(std::result::Result::ok));
            }
            Err(why) => {
                let says = format!("it was not asked: {}", text::said(&why));
                findings.push(Finding::new(
                    Area::Php,
                    "php.unasked",
                    Severity::Warning,
                    text::path(&binary),
                    says,
                ));
            }
        }
    }
    (programs, findings)
}

fn look_at_places(places: &[Place], wanted: &[PathBuf], mounts: &Mounts, views: &[View]) -> Vec<Finding> {
    let mut found: Vec<Finding> = places.iter().flat_map(|place| mounts::look(place, views)).collect();
    let note =
        |id, severity, subject: String, says: String| Finding::new(Area::Mount, id, severity, subject, says);
    for path in wanted {
        let Some(mount) = mounts.of(path).filter(|mount| network::Kind::of(&mount.fstype).is_none()) else {
            continue;
        };
        let says = format!(
            "it is on a local file system ({}): flock() is fast there, and no other node has these files",
            text::said(&mount.fstype)
        );
        found.push(note("mount.local", Severity::Ok, text::path(path), says));
    }
    if !wanted.is_empty() {
        return found;
    }
    let system = ["/proc", "/sys", "/dev"];
    for mount in mounts.visible().filter(|mount| mount.fstype == "autofs") {
        if !system.iter().any(|system| mount.point.starts_with(system)) {
            let says = "it is mounted when somebody looks into it: name a path in it to have it looked at";
            found.push(note("mount.automount", Severity::Note, text::path(&mount.point), says.into()));
        }
    }
    if places.is_empty() {
        let says = "no network file system is mounted: flock() is fast here, and no other node shares files with this one";
        found.push(note("mount.none", Severity::Ok, "this node".into(), says.into()));
    }
    found
}

/// The settings cannot even be read.
fn unusable(failure: &Failure) -> Finding {
    Finding::new(Area::Server, "server.settings", Severity::Problem, "settings", failure.to_string())
        .advise("mend that, or name the server with --dsn")
}

/// Who has said where the server is.
fn source(target: &Target, network: bool) -> Finding {
    let dsn = target.config.dsn.redacted();
    if target.source == Source::Default && network {
        let says =
            "nothing says where the locks live, so it is this node's own port 6379: of no use to other nodes";
        return Finding::new(Area::Server, "server.source", Severity::Warning, dsn, says)
            .advise("name the server: --dsn or CLUSTER_LOCK_DSN for this command, cluster_lock.dsn for PHP");
    }
    let says = format!("looked at because of {}", target.source);
    Finding::new(Area::Server, "server.source", Severity::Ok, dsn, says)
}

fn measure_all(
    places: &[Place],
    engine: Option<&Engine>,
    config: Option<&Config>,
    findings: &mut Vec<Finding>,
) -> Vec<Measured> {
    let began = Instant::now();
    let mut measured: Vec<Measured> = Vec::new();
    let mut devices = BTreeSet::new();
    let mut cluster = None;
    for place in places.iter().filter(|place| place.answers && !place.mount.is_read_only()) {
        if !devices.insert(&place.mount.device) {
            continue;
        }
        let subject = text::path(&place.path);
        let mut say = |id, severity, says: String| {
            findings.push(Finding::new(Area::Mount, id, severity, subject.clone(), says));
        };
        if began.elapsed() > MEASURING {
            say("mount.measured", Severity::Note, "not measured: it took long enough".into());
            continue;
        }
        match measure::by_kernel(&place.path) {
            Ok(flock) => {
                if let (None, Some(engine), Some(config)) = (&cluster, engine, config) {
                    cluster = Some(measure::by_cluster(engine, &config.node));
                }
                let ours = match &cluster {
                    Some(Ok(times)) => Some(*times),
                    Some(Err(why)) => {
                        say(
                            "server.measured",
                            Severity::Problem,
                            format!("the cluster lock could not be measured: {why}"),
                        );
                        None
                    }
                    None => None,
                };
                say("mount.measured", Severity::Ok, measure::compare(flock, ours));
                measured.push(Measured { path: text::path(&place.path), flock, cluster_lock: ours });
            }
            Err(Refusal::NoFile(why)) => {
                say(
                    "mount.measured",
                    Severity::Note,
                    format!("not measured: no file can be made there ({why})"),
                );
            }
            Err(Refusal::NoLock(why)) => {
                say("mount.flock_fails", Severity::Problem, format!("flock() fails there: {why}"));
            }
        }
    }
    measured
}

/// What has to be the same on all nodes.
fn node(places: &[Place], views: &[View], config: Option<&Config>) -> Node {
    let volumes = std::fs::read_to_string("/proc/fs/nfsfs/volumes").unwrap_or_default();
    let loaded = views.iter().find(|view| view.loaded);
    let map = loaded.map(View::path_map).unwrap_or_default();
    let setting = |name| loaded.map_or("", |view| view.setting(name)).to_owned();
    let mounted = |place: &Place| Mounted {
        path: place.path.clone(),
        point: place.mount.point.clone(),
        fstype: place.mount.fstype.clone(),
        source: place.mount.source.clone(),
        root: place.mount.root.clone(),
        described: mounts::describe(&place.mount, place.kind),
        fsid: nodes::fsid(&place.mount, &volumes),
        shared: place.shared.clone(),
        named: map.apply(&place.mount.point),
    };
    Node {
        name: config.map_or_else(cluster_lock_core::settings::hostname, |config| config.node.clone()),
        loaded: loaded.is_some(),
        dsn: loaded.map(ini::shown_dsn).unwrap_or_default(),
        // What PHP shows of a DSN with a password says nothing of it.
        grace: config.and_then(|config| config.dsn.grace()).map(|grace| grace.as_secs()),
        prefix: setting("prefix"),
        flock_mode: setting("flock_mode"),
        mounts: places.iter().map(mounted).collect(),
    }
}

/// What the locks on files are called here, by the settings of the first PHP that has the extension.
fn names(paths: &[PathBuf], views: &[View]) -> BTreeMap<String, String> {
    let map = views.iter().find(|view| view.loaded).map(View::path_map).unwrap_or_default();
    paths.iter().map(|path| (text::path(path), LockName::for_path(path, &map).to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        assert_eq!(within(ANSWERS, || 7), Some(7));
        let (never, silent) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(10), move || silent.recv().is_ok()), None);
        drop(never);
    }

    #[test]
    fn a_file_is_looked_at_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.css");
        std::fs::write(&file, "").unwrap();
        assert_eq!(directories(&[file, dir.path().to_owned()]), [dir.path()]);
        assert!(real(Path::new("/no/such/file")).is_err());
    }
}
