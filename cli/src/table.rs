//! Tables that fit a terminal: what is long is cut, what is of least use is left out, before a line wraps.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::style::Style;

/// Between columns.
const GAP: usize = 2;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    /// May be cut down to this.
    least: Option<usize>,
    /// When it is left out: the lowest first, 0 never.
    rank: u8,
}

impl Column {
    pub(crate) const fn new(title: &'static str) -> Self {
        Self { title, right: false, least: None, rank: 0 }
    }

    /// Numbers.
    pub(crate) const fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// May be cut, down to so many characters.
    pub(crate) const fn cut(mut self, least: usize) -> Self {
        self.least = Some(least);
        self
    }

    /// May be left out; a lower rank goes first.
    pub(crate) const fn optional(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }
}

/// Rows of cells under titles.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(Style, String)>>,
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (Style, String)>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The columns that fit, and their widths.
    fn layout(&self, width: Option<usize>) -> Vec<(usize, usize)> {
        let natural = |i: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|(_, cell)| cell.width());
            cells.chain([column.title.width()]).max().unwrap_or_default()
        };
        let mut shown: Vec<_> =
            self.columns.iter().enumerate().map(|(i, column)| (i, column, natural(i, column))).collect();
        let least =
            |column: &Column, natural: usize| column.least.map_or(natural, |least| natural.min(least));
        if let Some(width) = width {
            let gaps = |count: usize| GAP * count.saturating_sub(1);
            while shown.iter().map(|(_, c, w)| least(c, *w)).sum::<usize>() + gaps(shown.len()) > width {
                let ranks = shown.iter().filter(|(_, column, _)| column.rank > 0);
                let Some(&(out, ..)) = ranks.min_by_key(|(_, column, _)| column.rank) else { break };
                shown.retain(|(i, ..)| *i != out);
            }
            let all = |shown: &[(usize, &Column, usize)]| {
                shown.iter().map(|(.., w)| w).sum::<usize>() + gaps(shown.len())
            };
            while all(&shown) > width {
                // From the widest of those that may be cut.
                let wide = shown.iter_mut().filter(|(_, c, w)| c.least.is_some_and(|least| *w > least));
                let Some(widest) = wide.max_by_key(|(.., w)| *w) else { break };
                widest.2 -= 1;
            }
        }
        shown.into_iter().map(|(i, _, width)| (i, width)).collect()
    }

    /// The lines, title first.
    pub(crate) fn lines(&self, width: Option<usize>, paint: impl Fn(Style, String) -> String) -> Vec<String> {
        let layout = self.layout(width);
        let titles: Vec<_> =
            self.columns.iter().map(|column| (Style::Bold, column.title.to_owned())).collect();
        let line = |cells: &Vec<(Style, String)>| {
            let cells = layout.iter().enumerate().filter_map(|(place, &(i, width))| {
                let ((style, text), column) = (cells.get(i)?, self.columns.get(i)?);
                let text = fit(text, width);
                let pad = " ".repeat(width - text.width());
                let last = place + 1 == layout.len();
                Some(match (column.right, last) {
                    (true, _) => format!("{pad}{}", paint(*style, text)),
                    (false, true) => paint(*style, text),
                    (false, false) => format!("{}{pad}", paint(*style, text)),
                })
            });
            cells.collect::<Vec<_>>().join(&" ".repeat(GAP))
        };
        std::iter::once(&titles).chain(&self.rows).map(line).collect()
    }
}

/// Of a text that is too wide the beginning, `…`, and the end, which of paths tells most.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let head = taken(text.chars(), room / 3);
    let tail = taken(text.chars().rev(), room - head.width());
    let dots = if width > 0 { "…" } else { "" };
    format!("{head}{dots}{}", tail.chars().rev().collect::<String>())
}

/// As many characters as fit.
fn taken(characters: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|c| {
            used += c.width().unwrap_or_default();
            used <= width
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            Column::new("NAME").cut(4),
            Column::new("PID").right().optional(1),
            Column::new("WHAT").cut(6),
        ]);
        let plain = |text: &str| (Style::Plain, text.to_owned());
        table.row([plain("a-long-name"), plain("7"), plain("/wp-admin/options.php")]);
        table.row([plain("漢字漢字漢字"), plain("12345"), plain("é")]);
        table
    }

    #[test]
    fn as_wide_as_it_gets_without_a_terminal() {
        let lines = table().lines(None, |_, text| text);
        assert_eq!(
            lines,
            [
                "NAME            PID  WHAT",
                "a-long-name       7  /wp-admin/options.php",
                "漢字漢字漢字  12345  é"
            ]
        );
    }

    #[test]
    fn never_wider_than_the_terminal_while_anything_can_be_cut_or_left_out() {
        for width in 12..60 {
            for line in table().lines(Some(width), |_, text| text) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        assert!(!table().lines(Some(18), |_, text| text)[0].contains("PID"));
    }

    #[test]
    fn wide_characters_are_not_halved() {
        assert_eq!(fit("file:/srv/www/style.css", 16), "file:…/style.css");
        assert_eq!(fit("漢字漢字", 6), "…漢字");
        assert_eq!(fit("漢字漢字", 8), "漢字漢字");
        assert_eq!(fit("abc", 0), "");
    }
}
