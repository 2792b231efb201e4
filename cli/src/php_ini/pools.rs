//! What php-fpm's pools say besides php.ini, read from its own configuration. (`php-fpm -tt` would print
//! it, but also into its log, with every pool's environment.)

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cluster_lock_core::{settings, text};
use serde::Serialize;

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// After how many seconds a request is killed; `None`: never.
    #[serde(rename = "request_terminate_timeout_seconds")]
    pub(crate) request_terminate_timeout: Option<f64>,
    /// `php_value[cluster_lock.*]` and `php_admin_value[cluster_lock.*]`, but for the DSN.
    pub(crate) settings: BTreeMap<String, String>,
    /// Whether it names a lock server of its own.
    #[serde(skip)]
    pub(crate) has_dsn: bool,
    /// `cluster_lock.*` with a value that the extension refuses: the message.
    pub(crate) refused: Vec<String>,
}

/// Files may include others; not for ever.
const DEPTH: u8 = 4;

/// The pools of the php-fpm whose php.ini is in `directory`.
pub(crate) fn read(directory: &Path) -> Vec<Pool> {
    let beside = [Some(directory), directory.parent()];
    let Some(main) =
        beside.into_iter().flatten().map(|place| place.join("php-fpm.conf")).find(|file| file.is_file())
    else {
        return Vec::new();
    };
    let mut pools = Vec::new();
    let base = main.parent().unwrap_or(Path::new("/"));
    read_file(&main, base, DEPTH, &mut "global".to_owned(), &mut pools);
    pools
}

fn read_file(file: &Path, base: &Path, depth: u8, section: &mut String, pools: &mut Vec<Pool>) {
    let Ok(text) = std::fs::read_to_string(file) else { return };
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name)
        {
            name.trim().clone_into(section);
            if section != "global" && !pools.iter().any(|pool| pool.name == *section) {
                pools.push(Pool { name: section.clone(), ..Pool::default() });
            }
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        let (name, value) = (name.trim(), unquoted(value));
        if name == "include" {
            let Some(pattern) = base.join(value).to_str().map(str::to_owned) else { continue };
            if depth > 0
                && let Ok(files) = glob::glob(&pattern)
            {
                files.flatten().for_each(|file| read_file(&file, base, depth - 1, section, pools));
            }
        } else if let Some(pool) = pools.iter_mut().find(|pool| pool.name == *section) {
            set(pool, name, value);
        }
    }
}

fn set(pool: &mut Pool, name: &str, value: &str) {
    if name == "request_terminate_timeout" {
        pool.request_terminate_timeout =
            duration(value).map(|time| time.as_secs_f64()).filter(|seconds| *seconds > 0.0);
        return;
    }
    let kinds = ["php_admin_value[", "php_value[", "php_admin_flag[", "php_flag["];
    let setting = kinds.iter().find_map(|kind| name.strip_prefix(kind)?.strip_suffix(']'));
    let Some(setting) = setting.and_then(|setting| setting.trim().strip_prefix("cluster_lock.")) else {
        return;
    };
    let refusal = settings::refusal(setting, value);
    if setting == "dsn" {
        pool.has_dsn = true;
        pool.refused.extend(refusal);
    } else if let Some(why) = refusal {
        // Then what php.ini says applies.
        pool.refused.push(format!("cluster_lock.{setting}: {} is refused: {why}", text::said(value)));
    } else {
        pool.settings.insert(setting.to_owned(), value.to_owned());
    }
}

/// Without quotes, or else without a comment behind it.
fn unquoted(value: &str) -> &str {
    let value = value.trim();
    match value.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((quoted, _)) => quoted,
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// `30`, `30s`, `5m`, `1h`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.get(number.len()..)?),
        None => (text, "s"),
    };
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 1,
    };
    Some(Duration::from_secs(number.trim().parse::<u64>().ok()?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_found_through_includes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("php")).unwrap();
        std::fs::create_dir_all(dir.path().join("pool.d")).unwrap();
        std::fs::write(
            dir.path().join("php-fpm.conf"),
            "[global]\nerror_log = /x\ninclude=pool.d/*.conf\ninclude=php-fpm.conf\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("pool.d/www.conf"),
            "; a comment = no\n[www]\nuser = www-data\nrequest_terminate_timeout = 2m ; long\n\
             php_admin_value[cluster_lock.timeout] = \"5\"\nphp_value[memory_limit] = 1G\n\
             php_admin_value[cluster_lock.dsn] = redis://:hunter2@h\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("pool.d/z.conf"), "[other]\nrequest_terminate_timeout = 0\n").unwrap();
        // php.ini is beside php-fpm.conf, or one below it.
        for place in ["", "php"] {
            let pools = read(&dir.path().join(place));
            assert_eq!(pools.len(), 2, "{pools:?}");
            assert_eq!(pools[0].request_terminate_timeout, Some(120.0));
            assert_eq!((pools[0].has_dsn, pools[1].has_dsn), (true, false));
            assert_eq!(pools[0].settings, BTreeMap::from([("timeout".into(), "5".into())]));
            assert_eq!((pools[1].name.as_str(), pools[1].request_terminate_timeout), ("other", None));
        }
        assert_eq!(read(Path::new("/no/such/directory")), []);
    }

    #[test]
    fn what_the_extension_refuses_is_told_and_does_not_apply() {
        let mut pool = Pool::default();
        for (name, value) in [
            ("php_admin_value[cluster_lock.intercept]", "wp-content"),
            ("php_admin_flag[cluster_lock.auto_renew]", "on"),
            ("php_value[cluster_lock.ttl]", "10s"),
            ("php_value[cluster_lock.tll]", "10"),
            ("php_admin_value[cluster_lock.dsn]", "redis://:hunter2@h:99999999"),
        ] {
            set(&mut pool, name, value);
        }
        assert_eq!(pool.settings, BTreeMap::from([("auto_renew".into(), "on".into())]));
        let told = pool.refused.join("\n");
        assert_eq!(pool.refused.len(), 4, "{told}");
        for part in ["cluster_lock.intercept: ", "wp-content", "@network", "10s", "no such setting"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30", 30), ("30s", 30), ("5m", 300), ("1h", 3600), ("1d", 86_400)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("soon"), None);
    }
}
