//! Tables for people: plain columns, no lines.

use comfy_table::{Table, presets};

/// Columns and nothing else, so that lines can be cut and searched.
pub(super) fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The table without the padding of its first column and the blanks at the ends of its lines.
pub(super) fn trimmed(table: &Table) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.strip_prefix(' ').unwrap_or(line).trim_end());
        text.push('\n');
    }
    text
}
