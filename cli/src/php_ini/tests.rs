//! What PHP makes of a text is what PHP is asked for here, too.

use super::*;

const NO_SUCH: &str = "CLUSTER_LOCK_TEST_NONE";

/// What the PHP of this machine makes of a file.
fn phps(text: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let mentions = text::mentions(text.as_bytes());
    let read = Php::of(Path::new("/"))
        .read(text.as_bytes(), &mentions)
        .expect("php is needed: run script/bootstrap");
    read.map(|read| read.settings).map_err(|(line, why)| format!("line {line}: {why}"))
}

/// What is made of it without one.
fn ours(text: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let read = own::read(text.as_bytes(), |name| std::env::var(name).ok());
    read.map(|read| read.settings).map_err(|(line, why)| format!("line {line}: {why}"))
}

fn in_order(mut settings: Vec<(String, String)>) -> Vec<(String, String)> {
    settings.sort();
    settings
}

#[test]
fn without_php_what_is_certain_is_read_as_php_reads_it() {
    let values = [
        "redis://10.0.0.5:6379",
        "\"redis://u:${PATH}@h:1/0\" ; where they live",
        "'redis://u:${PATH}@h'",
        "redis+sentinel://u:p@h,b/m",
        "redis://${PATH}:1/2",
        "${CLUSTER_LOCK_TEST_NONE}",
        "\"a\\\"b\\\\c\\nd\\$e\\'f\\${PATH}\"",
        "\"a;b\"",
        "a ; b",
        "two words ; c",
        "\"p\" q",
        "${PATH}/x\"y\"",
        "\"a\" \"b\" c",
        "on",
        "Off",
        "none",
        "null",
        "\"on\"",
        "",
        "  ",
        "\"\"",
        "1.5",
        "1 2",
        "$A",
        "\"$\"",
        "#abc",
        "a@b",
        "{a}",
        "a[b]c",
        "C:\\dir",
        "`b`",
    ];
    for raw in values {
        let text = format!("cluster_lock.dsn = {raw}\ncluster_lock.node=end\n");
        assert_eq!(ours(&text).map(in_order), phps(&text).map(in_order), "{raw}");
    }
    let texts = [
        "; cluster_lock.dsn = no\n#cluster_lock.node = no\n[PHP]\ncluster_lock.dsn=a\n[x] cluster_lock.ttl = 3\n[x]\n\
         cluster_lock.dsn=b",
        "error_reporting = E_ALL & ~E_DEPRECATED & ~E_STRICT\ninclude_path = \".:/usr/share/php\"\nx[y]=z\nx[]=3\n\
         extension=a\nzend_extension\nsendmail_path = /usr/sbin/sendmail -t -i\ndate.timezone=Europe/Berlin\n\
         session.save_path = \"3;/x\"\ncluster_lock.dsn=a",
        "cluster_lock.dsn=a\rcluster_lock.node=b\r\ncluster_lock.ttl=1",
        "cluster_lock.dsn=a\n[HOST=x]\ncluster_lock.dsn=b\n[PHP]\ncluster_lock.node=c\n",
        "cluster_lock.dsn=a\n[pathology]\ncluster_lock.dsn=b\n",
        "\tcluster_lock.dsn\t = a \nCluster_Lock.node=b\ncluster_lock.nonsense=c\ncluster_lock.node\n",
        "a b = c\n=\ncluster_lock.dsn=a",
    ];
    for text in texts {
        if let Ok(settings) = ours(text) {
            assert_eq!(Ok(in_order(settings)), phps(text).map(in_order), "{text}");
        } else {
            assert!(text.contains("\n=\n"), "{text} is certain");
        }
    }
}

#[test]
fn without_php_what_is_not_certain_is_refused() {
    for text in [
        "\u{feff}cluster_lock.dsn = a",
        "cluster_lock.dsn = redis://h?wait=1",
        "cluster_lock.dsn = a&b",
        "cluster_lock.dsn = a(b)",
        "cluster_lock.dsn = !x",
        "cluster_lock.dsn = PHP_OS",
        "cluster_lock.dsn = a yes",
        "cluster_lock.dsn = \"redis://h",
        "cluster_lock.dsn = \"a\n\"",
        "cluster_lock.dsn = \"${A\"",
        "cluster_lock.dsn = \"${CLUSTER_LOCK_TEST_NONE:-d}\"",
        "memory_limit=1G\ncluster_lock.dsn = ${memory_limit}",
        "cluster_lock.dsn[] = a",
        "cluster_lock.dsn[x] = a",
        "x = a(b\ncluster_lock.dsn = a",
        "x = \"\ncluster_lock.dsn = a\n\"",
        "x = a=b\ncluster_lock.dsn = a",
        "{x} = a\ncluster_lock.dsn = a",
        "[x\ncluster_lock.dsn = a",
        "[x] ]y\ncluster_lock.dsn = a",
        "x[\"]\"] = y\ncluster_lock.dsn = a",
        "x\ty = z\ncluster_lock.dsn = a",
        "[HOST=]\ncluster_lock.dsn = a",
        "a\0b = c\ncluster_lock.dsn = a",
    ] {
        let told = ours(text).expect_err(text);
        assert!(told.starts_with("line ") && !told.contains("redis"), "{told}");
    }
}

#[test]
fn php_is_asked_about_what_only_it_knows() {
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(std::env::var(NO_SUCH), Err(std::env::VarError::NotPresent));
    let cases = [
        ("cluster_lock.dsn = PHP_OS_FAMILY", vec![set("dsn", "Linux")]),
        ("cluster_lock.dsn = \"a\nb\"", vec![set("dsn", "a\nb")]),
        ("session.name=s\ncluster_lock.dsn = \"${session.name}\"", vec![set("dsn", "s")]),
        ("x = \"\ncluster_lock.dsn = a\n\"\ncluster_lock.node=b", vec![set("node", "b")]),
        // What PHP is told of everything else does not keep it from answering.
        (
            "memory_limit=1\ndisable_functions=get_cfg_var,bin2hex\nopen_basedir=/nowhere\nextension=nowhere\n\
             zend_extension=/nowhere.so\ndisplay_errors=1\nerror_log=/nowhere\nauto_prepend_file=/nowhere\n\
             default_charset=x\ncluster_lock.dsn=a",
            vec![set("dsn", "a")],
        ),
        // Behind it is nothing of ours.
        ("cluster_lock.dsn=a\nx = a(b\n", vec![set("dsn", "a")]),
    ];
    for (text, settings) in cases {
        assert_eq!(phps(text).as_ref(), Ok(&settings), "{text}");
    }
    for (text, words) in [
        ("x = a(b\ncluster_lock.dsn=a", ["line 1:", "syntax error", "cluster_lock.dsn in line 2"]),
        ("cluster_lock.dsn=redis://h?a=1", ["line 1:", "syntax error", "double quotes"]),
        ("\ncluster_lock.dsn[]=a", ["line 2:", "cluster_lock.dsn", "a list"]),
    ] {
        let told = phps(text).unwrap_err();
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
}

#[test]
fn only_the_php_of_a_places_version_is_asked() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("php/5.3/cli");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("php.ini"), "cluster_lock.node = a").unwrap();
    let reader = PhpIni::read(&[place]).unwrap().reader.unwrap();
    assert!(reader.contains("cluster-lock itself") && reader.contains("and not 5.3"), "{reader}");
    let file = root.path().join("x.ini");
    std::fs::write(&file, "cluster_lock.node = a").unwrap();
    let reader = PhpIni::read(std::slice::from_ref(&file)).unwrap().reader.unwrap();
    assert!(reader.starts_with("PHP ") && reader.contains("/php)"), "{reader}");
}

#[test]
fn a_setting_of_another_file_is_no_variable() {
    let root = tempfile::tempdir().unwrap();
    let files = ["a.ini", "b.ini"].map(|name| root.path().join(name));
    std::fs::write(&files[0], "session.name = s").unwrap();
    std::fs::write(&files[1], "\ncluster_lock.node = ${session.name}").unwrap();
    let told = PhpIni::read(&files).unwrap_err().to_string();
    assert!(told.contains("b.ini, line 2: cluster_lock.node: ${session.name}"), "{told}");
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
    write("etc/php-zts/conf.d/10-a.ini", "");
    write("etc/php/8.2/mods-available/cluster_lock.ini", "cluster_lock.dsn = \"redis://mods\"\n");
    root
}

#[test]
fn the_usual_places_newest_first_and_those_that_serve_before_the_command_line() {
    let root = installation();
    let found: Vec<_> = usual_places(root.path(), None)
        .unwrap()
        .iter()
        .map(|place| place.dir.strip_prefix(root.path()).unwrap().display().to_string())
        .collect();
    assert_eq!(found, ["etc/php/8.10/fpm", "etc/php/8.2/fpm", "etc/php-zts", "etc/php/8.2/cli"]);
}

#[test]
fn files_are_read_in_phps_order_and_the_last_counts() {
    let root = installation();
    let fpm = root.path().join("etc/php/8.2/fpm");
    let ini = PhpIni::read(std::slice::from_ref(&fpm)).unwrap();
    assert_eq!(ini.get("dsn"), Some("redis://second"));
    assert_eq!(ini.file_of("dsn"), Some(fpm.join("conf.d/20-b.ini").as_path()));
    assert_eq!(ini.get("node"), Some(""), "set, to nothing");
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
