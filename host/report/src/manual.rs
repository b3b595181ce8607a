//! Manual pages, made from the command line's own definition.

use clap::Command;
use clap_mangen::Man;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Section of the manual: programs of administrators.
const SECTION: &str = "8";

/// Writes the manual page of a program to `out`, or, with a directory, the pages of the program and of each of its commands into it,
/// as `daos_server-storage-scan.8`.
///
/// # Errors
/// What writing says.
pub fn manual(command: Command, dir: Option<&Path>, out: &mut impl Write) -> io::Result<()> {
    match dir {
        None => Man::new(command).section(SECTION).render(out),
        Some(dir) => {
            let mut command = command;
            // Gives commands their full names, and options that hold everywhere to each of them.
            command.build();
            pages(&command, dir)
        }
    }
}

fn pages(command: &Command, dir: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut file = File::create(dir.join(format!("{name}.{SECTION}")))?;
    Man::new(command.clone())
        .section(SECTION)
        .render(&mut file)?;
    for inner in command.get_subcommands() {
        // What explains commands needs no explanation.
        if inner.get_name() != "help" && !inner.is_hide_set() {
            pages(inner, dir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn each_command_has_a_page_with_its_options() {
        let scan = Command::new("scan")
            .about("Look")
            .arg(Arg::new("deep").long("deep").help("Far down"));
        let storage = Command::new("storage").subcommand(scan);
        let program = Command::new("prog")
            .arg(Arg::new("json").long("json").global(true).help("As JSON"))
            .subcommand(storage)
            .subcommand(Command::new("secret").hide(true));
        let mut out = Vec::new();
        manual(program.clone(), None, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains(".TH prog 8"));
        let dir = std::env::temp_dir().join(format!("daos-manual-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        manual(program, Some(&dir), &mut Vec::new()).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["prog-storage-scan.8", "prog-storage.8", "prog.8"]);
        let page = std::fs::read_to_string(dir.join("prog-storage-scan.8")).unwrap();
        for words in ["Look", "deep", "Far down", "As JSON"] {
            assert!(page.contains(words), "{words} in {page}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
