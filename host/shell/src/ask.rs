//! Questions before what cannot be undone.

use std::io::{BufRead, Write};

/// Asks until the answer is yes or no; end of input and an empty line are a no. `what` is what is
/// about to be done.
pub(crate) fn confirmed(what: &str) -> anyhow::Result<bool> {
    daos_report::print_line!("Are you sure you want to continue? (yes/no)");
    std::io::stdout().flush()?;
    let mut line = String::new();
    loop {
        line.clear();
        let n = std::io::stdin().lock().read_line(&mut line)?;
        match line.trim() {
            "yes" | "y" => return Ok(true),
            "no" | "n" => return Ok(false),
            "" => {
                if n == 0 {
                    eprintln!(
                        "Error reading input: end of file; use -f to {what} without the question"
                    );
                }
                return Ok(false);
            }
            _ => daos_report::print_line!("Please type yes or no and then press enter:"),
        }
    }
}
