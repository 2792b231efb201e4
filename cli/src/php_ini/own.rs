//! Reads a file of PHP's configuration where there is no PHP to be asked: what is certain, and nothing else.

use cluster_lock_core::settings::Setting;

use super::read::Read;
use super::text::lines;
use super::value;

/// Between the quotes of `"…"` or `'…'` a value may go on in the next line; here it may not.
const UNSURE: &str = "it is not certain what PHP makes of this line";

/// What a file says; `env` knows the environment.
///
/// # Errors
/// The line that is not certain, and why.
pub(super) fn read(bytes: &[u8], env: impl Fn(&str) -> Option<String>) -> Result<Read, (usize, String)> {
    let mut read = Read::default();
    let mut labels: Vec<String> = Vec::new();
    let mut is_for_some = false;
    for (number, line) in lines(bytes) {
        let unsure = |why: &str| (number, format!("{UNSURE}: {why}"));
        if line.contains('\0') || line.starts_with('\u{feff}') {
            return Err(unsure("it is not plain text"));
        }
        let mut line = line.trim_matches([' ', '\t']);
        if let Some(section) = line.strip_prefix('[') {
            let (name, after) = section.split_once(']').ok_or_else(|| unsure("a [ is not closed"))?;
            if name.contains(['"', '\'', '$', ';', '\\']) {
                return Err(unsure("the name of a section with special characters"));
            }
            let upper = name.trim().to_ascii_uppercase();
            if let Some(key) = upper.strip_prefix("HOST").or_else(|| upper.strip_prefix("PATH")) {
                if key.trim_start_matches(['=', ' ', '\t']).is_empty() {
                    return Err(unsure("a section of no host or directory"));
                }
                // To PHP it lasts until the end of the file, whatever sections follow.
                is_for_some = true;
            }
            line = after.trim_start_matches([' ', '\t']);
        }
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let Some((label, raw)) = line.split_once('=') else {
            if is_label(line.split(';').next().unwrap_or_default().trim()) {
                continue; // sets nothing
            }
            return Err(unsure("there is no = in it"));
        };
        let label = label.trim_matches([' ', '\t']);
        let (plain, offset) = label.split_once('[').unwrap_or((label, "]"));
        let offset =
            offset.strip_suffix(']').filter(|offset| offset.bytes().all(|b| b.is_ascii_alphanumeric()));
        let ours = plain.strip_prefix("cluster_lock.").filter(|name| Setting::of(name).is_some());
        if !is_label(plain) || offset.is_none() || (ours.is_some() && plain != label) {
            return Err(unsure("the name of a setting with special characters"));
        }
        match ours {
            Some(name) => {
                let known = |variable: &str| labels.iter().any(|label| label == variable);
                let value = value::read(raw, &env, known)
                    .map_err(|why| (number, format!("cluster_lock.{name}: {why}")))?;
                if !is_for_some {
                    read.settings.retain(|(set, _)| set != name);
                    read.settings.push((name.to_owned(), value));
                }
            }
            None if value::is_whole(raw) => labels.push(label.to_owned()),
            None => return Err(unsure("special characters without quotes, or quotes that are not closed")),
        }
    }
    Ok(read)
}

fn is_label(text: &str) -> bool {
    let special = ['{', '}', '|', '&', '~', '!', '(', ')', '^', '"', '$', '\'', '[', ']', ';', '\t'];
    !text.trim().is_empty() && !text.contains(special)
}
