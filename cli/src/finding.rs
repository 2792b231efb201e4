//! What was found: how bad it is, what it means, what to do.

use serde::Serialize;

use crate::style::Style;

/// How bad it is. Notes keep a report green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing that has to be done.
    Note,
    /// Slow, or not safe in all cases.
    Warning,
    /// Locks fail, or do not exclude.
    Problem,
}

impl Severity {
    /// How it is painted.
    pub(crate) fn style(self) -> Style {
        match self {
            Self::Ok | Self::Note => Style::Good,
            Self::Warning => Style::Warning,
            Self::Problem => Style::Bad,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// Which part of the report it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Area {
    /// A network mount.
    Mount,
    /// The servers that keep the locks.
    Server,
    /// PHP and its settings.
    Php,
    /// This node beside another.
    Nodes,
}

impl Area {
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Mount, "Network mounts"),
        (Self::Server, "Lock servers"),
        (Self::Php, "PHP"),
        (Self::Nodes, "Nodes"),
    ];
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) area: Area,
    /// For programs: does not change with the wording.
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    /// What it is about: a mount point, a server, a setting.
    pub(crate) subject: String,
    /// What was found, and what it means.
    pub(crate) says: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
    /// Settings that would cure it, with their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ini: Vec<(&'static str, String)>,
}

impl Finding {
    pub(crate) fn new(
        area: Area,
        id: &'static str,
        severity: Severity,
        subject: impl Into<String>,
        says: impl Into<String>,
    ) -> Self {
        Self { area, id, severity, subject: subject.into(), says: says.into(), advice: None, ini: Vec::new() }
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.ini.push((name, value.into()));
        self
    }
}

/// The worst of them.
pub(crate) fn worst<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Severity {
    findings.into_iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}
