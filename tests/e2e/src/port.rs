//! Ports for servers that must be told theirs.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Below what the kernel hands out by itself, so that no connection takes one by chance.
const RANGE: std::ops::Range<u16> = 12_000..31_000;

/// A TCP port that no other test on this machine uses as long as this value lives.
pub struct Port {
    number: u16,
    /// Vanishes with this process, however it ends.
    _reservation: UnixListener,
}

impl Port {
    /// Reserves a port on which nobody listens.
    ///
    /// # Panics
    /// All are taken.
    pub fn reserve() -> Self {
        let width = RANGE.end - RANGE.start;
        let first = (std::process::id() % u32::from(width)) as u16;
        for step in 0..width {
            let number = RANGE.start + (first + step) % width;
            let Ok(name) = SocketAddr::from_abstract_name(format!("daos-e2e-port-{number}")) else {
                continue;
            };
            let Ok(reservation) = UnixListener::bind_addr(&name) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self {
                    number,
                    _reservation: reservation,
                };
            }
        }
        panic!("every port of {RANGE:?} is in use");
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }
}
