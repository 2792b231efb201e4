//! What can be told of a file's text without interpreting it.

use super::settings::SETTINGS;

/// A line that sets something of ours, if PHP gets that far, and does not take it for the inside of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// Counted from 1.
    pub(super) line: usize,
    /// Without `cluster_lock.`
    pub(super) name: String,
    /// What stands behind the name.
    pub(super) rest: String,
}

/// Lines as PHP counts them: they end with LF, CR LF, or CR.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, String)> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    lines.into_iter().enumerate().map(|(index, line)| (index + 1, line))
}

/// Where a name may stand in a line: at its begin, or behind the head of a section.
fn starts(line: &str) -> impl Iterator<Item = &str> {
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    std::iter::once(line).chain(line.match_indices(']').filter_map(|(at, _)| line.get(at + 1..))).map(blank)
}

fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Every line in which a setting of ours may be set.
pub(super) fn mentions(bytes: &[u8]) -> Vec<Mention> {
    let of_line = |(line, text): (usize, String)| {
        let (name, rest) = starts(&text).find_map(|text| {
            let text = text.strip_prefix("cluster_lock.")?;
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
            let (name, rest) = text.split_at_checked(end)?;
            let is_set = SETTINGS.contains(&name) && blank(rest).starts_with(['=', '[']);
            is_set.then(|| (name.to_owned(), rest.to_owned()))
        })?;
        Some(Mention { line, name, rest })
    };
    lines(bytes).filter_map(of_line).collect()
}

/// Every name that may be set, ours or not.
pub(super) fn labels(bytes: &[u8]) -> impl Iterator<Item = String> {
    let of_line = |(_, text): (usize, String)| -> Vec<String> {
        let label = |text: &str| text.split_once('=').map(|(label, _)| label.trim().to_owned());
        starts(&text).filter_map(label).collect()
    };
    lines(bytes).flat_map(of_line)
}

/// The names of `${NAME}` and `${NAME:-DEFAULT}`.
pub(super) fn variables(text: &str) -> impl Iterator<Item = String> {
    text.split("${").skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        Some(name.split(":-").next().unwrap_or_default().to_owned())
    })
}

/// The same text, but that it asks for no extension: `extension` and `zend_extension`, where they are the names of
/// settings, become others of the same length.
pub(super) fn without_extensions(bytes: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"extension";
    let mut text = bytes.to_vec();
    for at in 0..bytes.len() {
        let is_name = bytes.get(at..at + NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME));
        if !is_name {
            continue;
        }
        let before = bytes.get(..at).unwrap_or_default();
        let zend = before.len().checked_sub(5).and_then(|at| before.split_at_checked(at));
        let before =
            zend.filter(|(_, end)| end.eq_ignore_ascii_case(b"zend_")).map_or(before, |(begin, _)| begin);
        let last = before.iter().rev().find(|b| !matches!(b, b' ' | b'\t'));
        // 0xBF ends the mark with which some editors begin a file.
        if last.is_none_or(|b| matches!(b, b'\n' | b'\r' | b']' | 0xbf))
            && let Some(first) = text.get_mut(at)
        {
            *first = b'X';
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_set_something_of_ours_is_found_wherever_it_stands() {
        let text = b"\xef\xbb\xbfcluster_lock.dsn=a\r[x] cluster_lock.ttl = 1\r\n; cluster_lock.node=b\n\
                     \tcluster_lock.prefix[]=x\ncluster_lock.nonsense=1\nx = \"\n cluster_lock.timeout\t= y\"";
        let found: Vec<_> = mentions(text).into_iter().map(|mention| (mention.line, mention.name)).collect();
        let expected = [(1, "dsn"), (2, "ttl"), (4, "prefix"), (7, "timeout")];
        assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
    }

    #[test]
    fn no_extension_is_asked_for() {
        let text = b"extension=a\n Zend_Extension = b\n[PHP] extension=c\n; extension=d\nmy.extension=e\r\textension";
        let expected =
            b"Xxtension=a\n Zend_Xxtension = b\n[PHP] Xxtension=c\n; extension=d\nmy.extension=e\r\tXxtension";
        assert_eq!(String::from_utf8_lossy(&without_extensions(text)), String::from_utf8_lossy(expected));
    }
}
