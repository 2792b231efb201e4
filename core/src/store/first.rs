//! The first of many, when they come in no order.

use std::collections::BTreeMap;

use crate::key::LockName;
use crate::report::LockReport;

/// The first locks by name of those that are shown to it; no more of them are kept.
pub(crate) struct First {
    limit: usize,
    locks: BTreeMap<LockName, LockReport>,
}

impl First {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, locks: BTreeMap::new() }
    }

    /// Whether a lock of this name is worth looking at: it is not behind the last one when there are enough.
    pub(crate) fn wants(&self, name: &LockName) -> bool {
        let is_before = |(last, _): (&LockName, _)| name < last;
        self.locks.len() < self.limit || self.locks.last_key_value().is_some_and(is_before)
    }

    pub(crate) fn add(&mut self, report: LockReport) {
        self.locks.insert(report.name.clone(), report);
        if self.locks.len() > self.limit {
            self.locks.pop_last();
        }
    }

    pub(crate) fn sorted(self) -> Vec<LockReport> {
        self.locks.into_values().collect()
    }
}
