use std::process::Command;

use super::*;

const ENV: [(&str, &str); 2] = [("CLUSTER_LOCK_TEST_A", "s3cret\"x"), ("CLUSTER_LOCK_TEST_B", "b")];

fn understood(raw: &str) -> std::result::Result<String, String> {
    value::read(raw, |name| {
        ENV.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

/// What the PHP of this machine makes of it; `None` when it refuses.
fn phps(raw: &str) -> Option<String> {
    let code = "$r = @parse_ini_string('x = ' . stream_get_contents(STDIN)); echo $r === false ? 'n' : 'y' . $r['x'];";
    let mut child = Command::new("php")
        .args(["-n", "-r", code])
        .envs(ENV)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("php is needed: run script/bootstrap");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), raw.as_bytes()).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    said.strip_prefix('y').map(str::to_owned)
}

#[test]
fn values_are_read_as_php_reads_them() {
    let values = [
        "redis://10.0.0.5:6379",
        "\"redis://u:${CLUSTER_LOCK_TEST_A}@h:1/0\" ; where they live",
        "'redis://u:${CLUSTER_LOCK_TEST_A}@h'",
        "redis+sentinel://u:p@h,b/m",
        "redis://${CLUSTER_LOCK_TEST_B}:1/2",
        "${CLUSTER_LOCK_TEST_NONE}",
        "\"a\\\"b\\\\c\\nd\\$e\\'f\\${CLUSTER_LOCK_TEST_B}\"",
        "\"a;b\"",
        "a ; b",
        "two words ; c",
        "\"p\" q",
        "${CLUSTER_LOCK_TEST_B}/x\"y\"",
        "on",
        "Off",
        "none",
        "null",
        "\"on\"",
        "",
        "1.5",
        "$A",
        "\"$\"",
        "#abc",
        "a@b",
    ];
    for raw in values {
        assert_eq!(understood(raw).ok(), phps(raw), "{raw}");
    }
}

#[test]
fn what_php_does_not_take_for_text_is_refused_with_the_remedy() {
    for raw in ["redis://h?wait=1", "a&b", "a(b)", "!x"] {
        let told = understood(raw).unwrap_err();
        assert!(told.contains("double quotes"), "{raw}: {told}");
        assert_ne!(phps(raw).as_deref(), Some(raw), "PHP takes it as it is");
    }
    assert!(understood("\"redis://h").is_err());
    assert!(understood("\"${A\"").is_err());
}

#[test]
fn a_default_of_php_8_3() {
    assert_eq!(understood("\"${CLUSTER_LOCK_TEST_NONE:-d}\"").unwrap(), "d");
    assert_eq!(understood("\"${CLUSTER_LOCK_TEST_B:-d}\"").unwrap(), "b");
}

fn installation() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("etc/php/8.2/cli/php.ini", "[PHP]\nzend_extension\nmemory_limit = -1\n");
    write(
        "etc/php/8.2/fpm/php.ini",
        "[PHP]\ncluster_lock.dsn = local:\n[HOST=a]\ncluster_lock.dsn=redis://a\n[x]\n",
    );
    write("etc/php/8.2/fpm/conf.d/20-b.ini", "cluster_lock.dsn = \"redis://second\"\ncluster_lock.node=\n");
    write(
        "etc/php/8.2/fpm/conf.d/10-a.ini",
        "extension=cluster_lock\ncluster_lock.dsn = \"redis://first\"\n",
    );
    write("etc/php/8.2/fpm/conf.d/30-c.ini.disabled", "cluster_lock.dsn = \"redis://third\"\n");
    write("etc/php/8.10/fpm/php.ini", "cluster_lock.prefix = new:\n");
    write("etc/php/8.2/mods-available/cluster_lock.ini", "cluster_lock.dsn = \"redis://mods\"\n");
    root
}

#[test]
fn the_usual_places_newest_first_and_those_that_serve_before_the_command_line() {
    let root = installation();
    let found: Vec<_> = usual_places(root.path())
        .iter()
        .map(|place| place.strip_prefix(root.path()).unwrap().display().to_string())
        .collect();
    assert_eq!(found, ["etc/php/8.10/fpm", "etc/php/8.2/fpm", "etc/php/8.2/cli"]);
}

#[test]
fn files_are_read_in_phps_order_and_the_last_counts() {
    let root = installation();
    let fpm = root.path().join("etc/php/8.2/fpm");
    let ini = PhpIni::read(std::slice::from_ref(&fpm)).unwrap();
    assert_eq!(ini.get("dsn"), Some("redis://second"));
    assert_eq!(ini.file_of("dsn"), Some(fpm.join("conf.d/20-b.ini").as_path()));
    assert_eq!(ini.get("node"), None, "empty is as not set");
    assert_eq!(ini.files.len(), 3);
    assert!(!PhpIni::read(&[root.path().join("etc/php/8.2/cli")]).unwrap().is_ours());
}

#[test]
fn a_password_is_in_no_message_of_a_setting() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("x.ini");
    std::fs::write(&file, "cluster_lock.dsn = redis://u:hunter2@h?a=1\n").unwrap();
    let told = PhpIni::read(std::slice::from_ref(&file)).unwrap_err().to_string();
    assert!(told.contains("cluster_lock.dsn") && !told.contains("hunter2"), "{told}");
    std::fs::write(&file, "cluster_lock.dsn = \"redis://u:hunter2@h\"\n").unwrap();
    let ini = PhpIni::read(&[file]).unwrap();
    assert!(!format!("{ini:?}").contains("hunter2"), "{ini:?}");
}
