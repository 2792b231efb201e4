//! What a file says of the settings.

/// What one file says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) settings: Vec<(String, String)>,
}
