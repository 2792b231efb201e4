//! Whether PHP has the extension, everywhere with the same settings.

use std::collections::BTreeSet;

use cluster_lock_core::{Config, text};

use super::ini::shown_dsn;
use super::php::Php;
use super::places::View;
use crate::finding::{Area, Finding, Severity};

fn finding(id: &'static str, severity: Severity, subject: &str, says: impl Into<String>) -> Finding {
    Finding::new(Area::Php, id, severity, subject, says)
}

/// What is found. `config` is what the servers were asked by.
pub(crate) fn look(programs: &[Php], views: &[View], config: Option<&Config>) -> Vec<Finding> {
    let mut found = Vec::new();
    if programs.is_empty() {
        let says = match views {
            [] => "no php and no php-fpm was found, so nothing is known of its settings",
            _ => "no php and no php-fpm was found to ask, so its php.ini was read instead",
        };
        found.push(
            finding("php.missing", Severity::Note, "PHP", says).advise("name the programs: --php FILE"),
        );
    }
    for php in programs {
        found.push(extension(php));
        for complaint in &php.complaints {
            let says = format!("PHP complains at its start: {complaint}");
            found.push(
                finding("php.complaint", Severity::Problem, &php.name(), says).advise("mend that setting"),
            );
        }
    }
    for (php, pool) in programs.iter().flat_map(|php| php.pools.iter().map(move |pool| (php, pool))) {
        for message in &pool.refused {
            let subject = format!("{}, pool {}", php.name(), pool.name);
            let says = format!("{message}; the pool runs without it");
            found.push(
                finding("php.refused", Severity::Problem, &subject, says).advise("mend the pool's file"),
            );
        }
    }
    if let Some(config) = config {
        found.extend(views.iter().filter(|view| view.loaded).filter_map(|view| server(view, config)));
    }
    found.extend(differences(views));
    if views.iter().any(View::replaces) {
        let says =
            "flock_mode is replace: a node without the extension, or with another path_map, is not kept out";
        found.push(finding("php.replace", Severity::Note, "cluster_lock.flock_mode", says));
    }
    found
}

fn extension(php: &Php) -> Finding {
    let name = php.name();
    if php.loaded {
        return finding("php.loaded", Severity::Ok, &name, "the extension is loaded");
    }
    let place = php.extension_dir.as_ref().map(|dir| dir.join("cluster_lock.so"));
    let installed = place.as_ref().is_some_and(|file| file.is_file());
    let says = if installed {
        "the extension is installed, and not loaded".to_owned()
    } else {
        let place = place.as_deref().map_or_else(|| "its extension_dir".into(), text::path);
        format!("the extension is not installed: {place} is not there")
    };
    let advice = if installed { "load it" } else { "install it (README, \"Install\"), and load it" };
    finding("php.loaded", Severity::Warning, &name, says).advise(advice).set("extension", "cluster_lock")
}

/// PHP's server beside the one that was looked at.
fn server(view: &View, config: &Config) -> Option<Finding> {
    let its = shown_dsn(view);
    let ours = config.dsn.redacted();
    let its_prefix = view.setting("prefix");
    if its != ours {
        let says = format!("its cluster_lock.dsn is {}, what was looked at is {ours}", text::said(&its));
        let one = finding("php.dsn", Severity::Warning, &view.name, says);
        return Some(one.advise(
            "look at PHP's own server (leave out --dsn; where php.ini says ${…}, call this with the environment of PHP's \
             service), or change the setting",
        ));
    }
    (its_prefix != config.prefix).then(|| {
        let says = format!(
            "its cluster_lock.prefix is {}, what was looked at is {}",
            text::said(its_prefix),
            text::said(&config.prefix)
        );
        finding("php.dsn", Severity::Warning, &view.name, says)
            .advise("leave out --prefix, or change its setting")
    })
}

/// PHP's programs of one node share files with each other, too.
fn differences(views: &[View]) -> Vec<Finding> {
    let loaded: Vec<&View> = views.iter().filter(|view| view.loaded).collect();
    let Some((first, others)) = loaded.split_first() else { return Vec::new() };
    let names = ["dsn", "prefix", "path_map", "flock_mode", "intercept"];
    let differs =
        |name: &&str| others.iter().find(|other| !same(name, first.setting(name), other.setting(name)));
    names
        .into_iter()
        .filter_map(|name| differs(&name).map(|other| (name, other)))
        .map(|(name, other)| {
            // Names and servers make locks of their own; the rest only other ways to take them.
            let severity = if matches!(name, "dsn" | "prefix" | "path_map") {
                Severity::Problem
            } else {
                Severity::Warning
            };
            let shown = |view: &View| {
                let value = view.setting(name);
                if value.is_empty() { "empty".to_owned() } else { text::said(value) }
            };
            let means = if severity == Severity::Problem {
                "they do not exclude each other"
            } else {
                "give both the same"
            };
            let says =
                format!("{} in {}, {} in {}: {means}", shown(first), first.name, shown(other), other.name);
            finding("php.differs", severity, &format!("cluster_lock.{name}"), says)
                .advise("one file for all of PHP's programs (Debian: mods-available and phpenmod)")
        })
        .collect()
}

/// Lists may be in any order.
fn same(name: &str, a: &str, b: &str) -> bool {
    let entries = |text: &str| -> BTreeSet<String> {
        text.split(':').map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty()).collect()
    };
    match name {
        "path_map" | "intercept" => entries(a) == entries(b),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use cluster_lock_core::Dsn;

    use super::super::places::tests::view;
    use super::*;
    use crate::php_ini::pools::Pool;

    fn php(loaded: bool, settings: &[(&str, &str)]) -> Php {
        Php {
            version: "8.2.1".into(),
            sapi: "Command Line Interface".into(),
            loaded,
            settings: view(settings).settings,
            ..Php::default()
        }
    }

    fn found(programs: &[Php], dsn: Option<&str>) -> Vec<(&'static str, Severity)> {
        let config = dsn.map(|dsn| Config::new(Dsn::parse(dsn).unwrap()));
        let all = look(programs, &View::all(programs, true), config.as_ref());
        all.iter().filter(|f| f.severity != Severity::Ok).map(|f| (f.id, f.severity)).collect()
    }

    #[test]
    fn the_extension_must_be_loaded() {
        assert_eq!(found(&[], None), [("php.missing", Severity::Note)]);
        assert_eq!(found(&[php(true, &[])], None), []);
        assert_eq!(found(&[php(true, &[]), php(false, &[])], None), [("php.loaded", Severity::Warning)]);
        let all = look(&[php(false, &[])], &[], None);
        assert_eq!(all[0].ini, [("extension", "cluster_lock".to_owned())]);
    }

    #[test]
    fn complaints_are_problems() {
        let broken = Php { complaints: vec!["PHP Warning: cluster_lock.ttl".into()], ..php(true, &[]) };
        assert_eq!(found(&[broken], None), [("php.complaint", Severity::Problem)]);
    }

    #[test]
    fn what_a_pool_is_refused_is_a_problem() {
        let pool = Pool { name: "www".into(), refused: vec!["cluster_lock.ttl".into()], ..Pool::default() };
        let programs = [Php { pools: vec![pool], ..php(true, &[]) }];
        assert_eq!(found(&programs, None), [("php.refused", Severity::Problem)]);
    }

    #[test]
    fn php_must_use_the_server_that_was_looked_at() {
        for (shown, looked, expected) in [
            ("redis://h", "redis://h:6379", false),
            ("redis://u:***@h:6379#2", "redis://u:p@h", false),
            ("redis://h", "redis://i", true),
            ("redis://u:***@h:6379", "redis://v:p@h", true),
        ] {
            let programs = [php(true, &[("dsn", shown), ("prefix", "cluster_lock:")])];
            assert_eq!(!found(&programs, Some(looked)).is_empty(), expected, "{shown} {looked}");
        }
        let programs = [php(true, &[("dsn", "redis://h"), ("prefix", "other:")])];
        assert_eq!(found(&programs, Some("redis://h")), [("php.dsn", Severity::Warning)]);
    }

    #[test]
    fn all_programs_must_agree() {
        for (name, a, b, expected) in [
            ("prefix", "a:", "b:", Some(Severity::Problem)),
            ("path_map", "/a=/b:/c=/d", "/c=/d: /a=/b", None),
            ("path_map", "/a=/b", "", Some(Severity::Problem)),
            ("intercept", "@network", "/srv", Some(Severity::Warning)),
            ("timeout", "1", "2", None),
        ] {
            let found = found(&[php(true, &[(name, a)]), php(true, &[(name, b)])], None);
            assert_eq!(found.first().map(|(_, severity)| *severity), expected, "{name}");
            assert!(found.len() <= 1);
        }
        let other = [php(true, &[("prefix", "a:")]), php(false, &[])];
        assert_eq!(found(&other, None), [("php.loaded", Severity::Warning)]);
    }

    #[test]
    fn replace_is_worth_a_note() {
        assert_eq!(
            found(&[php(true, &[("flock_mode", "replace")])], None),
            [("php.replace", Severity::Note)]
        );
    }
}
