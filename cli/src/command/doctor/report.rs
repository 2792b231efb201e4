//! The report, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::measure::Times;
use super::nodes::Node;
use super::php::Php;
use crate::finding::{Area, Finding, Severity, worst};
use crate::json::Facts;
use crate::outcome::Result;
use crate::output::Output;
use crate::style::Style;

/// Lines are no longer than this, so that they can be read.
const WIDTH: usize = 110;

/// All that was found.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    /// Neither a warning nor a problem.
    pub(crate) green: bool,
    /// What has to be the same on all nodes: what `--compare` reads.
    pub(crate) this: Node,
    pub(crate) findings: Vec<Finding>,
    pub(crate) measured: Vec<Measured>,
    pub(crate) servers: Vec<Facts<'a>>,
    pub(crate) php: Vec<Php>,
    /// What the locks on the files that were named are called.
    pub(crate) names: BTreeMap<String, String>,
    /// The lines for php.ini; empty when none are needed.
    pub(crate) ini: String,
}

/// `flock()` and the cluster lock in one directory, in seconds.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) path: String,
    pub(crate) flock: Times,
    pub(crate) cluster_lock: Option<Times>,
}

impl Report<'_> {
    /// For people.
    pub(crate) fn print(&self, out: &Output) -> Result<()> {
        for (area, heading) in Area::ALL {
            let of_it: Vec<&Finding> = self.findings.iter().filter(|finding| finding.area == area).collect();
            if of_it.is_empty() {
                continue;
            }
            out.line(out.paint(Style::Bold, heading))?;
            of_it.iter().try_for_each(|finding| print_finding(finding, out))?;
            out.line("")?;
        }
        if !self.names.is_empty() {
            out.line(out.paint(Style::Bold, "Names of locks"))?;
            for (path, name) in &self.names {
                out.line(format_args!("  {path}  {name}"))?;
            }
            out.line("")?;
        }
        if !self.ini.is_empty() {
            out.line(out.paint(Style::Bold, self.where_to()))?;
            out.line(&self.ini)?;
        }
        self.print_sum(out)
    }

    /// Where the lines for php.ini go.
    fn where_to(&self) -> String {
        let mut places: Vec<String> = self
            .php
            .iter()
            .filter_map(|php| php.scan_dir.as_deref())
            .map(cluster_lock_core::text::path)
            .collect();
        places.dedup();
        if places.is_empty() {
            return "For php.ini".into();
        }
        format!("For php.ini, as a file 90-cluster_lock.ini in {}; then restart PHP", places.join(" and "))
    }

    fn print_sum(&self, out: &Output) -> Result<()> {
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let (warnings, problems) = (count(Severity::Warning), count(Severity::Problem));
        let several =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let sum = match (warnings, problems) {
            (0, 0) => "Nothing to mend.".to_owned(),
            (warnings, 0) => several(warnings, "warning"),
            (0, problems) => several(problems, "problem"),
            (warnings, problems) => {
                format!("{}, {}", several(problems, "problem"), several(warnings, "warning"))
            }
        };
        out.line(out.paint(worst(&self.findings).style(), sum))
    }
}

fn print_finding(finding: &Finding, out: &Output) -> Result<()> {
    let mark = match finding.severity {
        Severity::Note => Style::Dim,
        other => other.style(),
    };
    let mut lines = wrap(&format!("{}: {}", finding.subject, finding.says), WIDTH - 11).into_iter();
    let word = out.paint(mark, format_args!("{:<8}", finding.severity.word()));
    out.line(format_args!("  {word} {}", lines.next().unwrap_or_default()))?;
    lines.try_for_each(|line| out.line(format_args!("           {line}")))?;
    if let Some(advice) = &finding.advice {
        let mut sign = "→";
        for line in wrap(advice, WIDTH - 13) {
            out.line(format_args!("           {sign} {line}"))?;
            sign = " ";
        }
    }
    Ok(())
}

/// Breaks a text between words; a word that is too long stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("a bc d", 4), ["a bc", "d"]);
        assert_eq!(wrap("abcdef g", 3), ["abcdef", "g"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
