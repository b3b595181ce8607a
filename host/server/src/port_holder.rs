//! Who listens on a TCP port of this machine, as far as /proc tells this user.

use std::fs;
use std::path::Path;

/// State of a listening socket in /proc/net/tcp (`TCP_LISTEN` of the kernel's tcp_states.h).
const LISTEN: &str = "0A";

/// "PROGRAM (process PID)"; `None` if nobody is found, such as a process of another user.
pub(crate) fn holder(port: u16) -> Option<String> {
    holder_in(Path::new("/proc"), port)
}

/// Whether somebody listens on a port, by the tables in `proc`.
pub(crate) fn is_taken(proc: &Path, port: u16) -> bool {
    inode(proc, port).is_some()
}

fn inode(proc: &Path, port: u16) -> Option<u64> {
    let mut tables = ["net/tcp", "net/tcp6"].iter();
    tables.find_map(|table| listening_inode(&fs::read_to_string(proc.join(table)).ok()?, port))
}

/// As [`holder`], by the processes in `proc`.
pub(crate) fn holder_in(proc: &Path, port: u16) -> Option<String> {
    let inode = inode(proc, port)?;
    let wanted = format!("socket:[{inode}]");
    let is_process = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let mut processes = fs::read_dir(proc).ok()?.flatten().filter(is_process);
    let process = processes.find(|entry| {
        let descriptors = fs::read_dir(entry.path().join("fd"));
        descriptors.into_iter().flatten().flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|link| link.as_path() == Path::new(&wanted))
        })
    })?;
    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
    let pid = process.file_name();
    Some(format!("{} (process {})", name.trim(), pid.display()))
}

/// Inode of the socket that listens on a port, in the text of /proc/net/tcp (see proc(5)).
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let matches = *fields.get(3)? == LISTEN && u16::from_str_radix(local, 16) == Ok(port);
        matches.then(|| fields.get(9)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn this_process_is_found_while_it_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = holder(port).unwrap();
        assert!(
            found.contains(&format!("process {}", std::process::id())),
            "{found}"
        );
        drop(listener);
        assert_eq!(holder(port), None);
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:2711 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 7 1\n\
            \x20  1: 0100007F:2711 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1\n";
        assert_eq!(listening_inode(table, 0x2711), Some(42));
        assert_eq!(listening_inode(table, 0x2712), None);
        assert_eq!(listening_inode("", 1), None);
        assert_eq!(listening_inode("head\nx\n0: y z 0A\n", 1), None);
    }
}
