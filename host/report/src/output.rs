//! Standard output of command-line programs, whose reader may leave: `| head` takes what it wants.
//!
//! `println!` panics then. Ending by SIGPIPE, as C programs do, is not for programs with connections: a peer that is gone
//! would end them as well, without a word.

use std::fmt;
use std::io::{self, Write as _};

/// Exit status when nobody reads the output any more: that of a program which SIGPIPE has ended.
pub const UNREAD: i32 = 141;

/// Writes to standard output; see [`print_line!`](crate::print_line). Ends the process, quietly, if nobody reads any more; if
/// standard output fails otherwise, saying so.
pub fn write_out(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(text);
    // What ends here ends without the buffer.
    ended(written.and_then(|()| out.flush()));
}

/// What the end of a write to standard output means for the program.
pub(crate) fn ended(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(UNREAD),
        Err(error) => {
            // Nothing is left to tell if standard error is gone, too.
            let _ = writeln!(
                io::stderr(),
                "ERROR: standard output cannot be written: {error}"
            );
            std::process::exit(1)
        }
    }
}

/// As `println!`, but ends the process quietly when nobody reads its output any more.
#[macro_export]
macro_rules! print_line {
    ($($text:tt)*) => {
        $crate::write_out(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// As `print!`, likewise.
#[macro_export]
macro_rules! print_text {
    ($($text:tt)*) => {
        $crate::write_out(format_args!($($text)*))
    };
}
