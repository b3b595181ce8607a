//! Tables of text.

use comfy_table::{ContentArrangement, Table, presets};

/// Renders rows under headings without borders; no trailing newline. Not wrapped when standard
/// output is no terminal (or one without a width), so that scripts see one row per line.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(headings.to_vec());
    // A terminal that does not know its width, such as a serial line, says that it has none.
    if table.is_tty() && table.width().is_some_and(|width| width > 0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    for row in rows {
        table.add_row(row);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
