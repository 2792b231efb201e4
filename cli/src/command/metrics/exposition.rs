//! `OpenMetrics` text, written so that readers of the older Prometheus text format take it, too.

use std::fmt::{Display, Write};

const PREFIX: &str = "cluster_lock_";

/// What a family of series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up.
    Counter,
}

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// A family whose samples follow.
pub(super) struct Family<'a> {
    text: &'a mut String,
    /// Of the samples.
    name: String,
}

impl Exposition {
    /// Begins a family, whose name ends in its unit, if it has one.
    pub(super) fn family(&mut self, name: &str, kind: Kind, unit: &str, help: &str) -> Family<'_> {
        let text = &mut self.0;
        let (word, suffix) = match kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Counter => ("counter", "_total"),
        };
        let _ = writeln!(text, "# TYPE {PREFIX}{name} {word}");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {PREFIX}{name} {unit}");
        }
        let _ = writeln!(text, "# HELP {PREFIX}{name} {}", escaped(help));
        Family { text, name: format!("{PREFIX}{name}{suffix}") }
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0 + "# EOF\n"
    }
}

impl Family<'_> {
    /// One sample.
    pub(super) fn sample(self, labels: &[(&str, &str)], value: impl Display) -> Self {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
        self
    }

    /// Any number of them.
    pub(super) fn samples<V: Display>(
        self,
        samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, V)>,
    ) {
        samples.into_iter().fold(self, |family, (labels, value)| {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            family.sample(&labels, value)
        });
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::default();
        text.family("x", Kind::Counter, "", "It.").sample(&[("a", "\"\\\n")], 1.5);
        assert_eq!(
            text.finish(),
            "# TYPE cluster_lock_x counter\n# HELP cluster_lock_x It.\n\
             cluster_lock_x_total{a=\"\\\"\\\\\\n\"} 1.5\n# EOF\n"
        );
    }
}
