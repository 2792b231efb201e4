//! Completions and manual pages.

use std::fs;
use std::process::Command;

use crate::calling::{bare, call};

/// The commands that users see.
fn commands() -> Vec<String> {
    let help = call(bare(), ["--help"]).expect(0, &[]).out;
    let list = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<_> = names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(names.len() > 8, "{names:?}");
    names
}

#[test]
fn completions_know_all_commands_and_shells_take_them() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = call(bare(), ["completions", shell]).expect(0, &[]).out;
        for command in commands() {
            assert!(script.contains(&command), "{command} is missing for {shell}");
        }
        assert!(!script.contains("__exec"), "what is hidden is offered by {shell}");
        let file = dir.path().join(shell);
        fs::write(&file, script).unwrap();
        if let Ok(checked) = Command::new(shell).arg("-n").arg(&file).status() {
            assert!(checked.success(), "{shell} does not take it");
        }
    }
    call(bare(), ["completions", "tcsh"]).expect(2, &[]);
}

#[test]
fn bash_completes_with_them() {
    let script = "source <(\"$0\" completions bash); COMP_WORDS=(cluster-lock li); COMP_CWORD=1; \
                  _cluster__lock cluster-lock li cluster-lock; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, crate::calling::PROGRAM]);
    assert_eq!(call(bash, [] as [&str; 0]).out.trim(), "list");
}

#[test]
fn there_is_a_page_for_every_command_and_for_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    call(bare(), ["man", "--dir", pages.to_str().unwrap()]).expect(0, &[]);
    let mut found: Vec<_> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut expected: Vec<_> = commands().iter().map(|name| format!("cluster-lock-{name}.1")).collect();
    expected.retain(|page| page != "cluster-lock-help.1");
    expected.push("cluster-lock.1".into());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let main = fs::read_to_string(pages.join("cluster-lock.1")).unwrap();
    assert!(main.contains(".TH cluster-lock 1") && main.contains("CLUSTER_LOCK_DSN"), "{main}");
    assert!(!main.contains("__exec"), "{main}");
    assert_eq!(call(bare(), ["man"]).expect(0, &[]).out, main);
    let run = fs::read_to_string(pages.join("cluster-lock-run.1")).unwrap();
    assert!(run.contains("CLUSTER_LOCK_FENCE") && run.contains("75"), "{run}");
}
