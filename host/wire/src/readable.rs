//! Fabric addresses as people read them. Only messages use this: addresses are the providers' own.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a fabric address leads, if its form is known: fabric-tcp's, the socket addresses of libfabric's providers over IP,
/// or text (of `shm`, with the process); else its bytes in hexadecimal.
pub fn readable(address: &[u8]) -> String {
    if let Some(socket) = socket(address) {
        return socket.to_string();
    }
    let text = address.strip_suffix(b"\0").unwrap_or(address);
    if !text.is_empty() && text.iter().all(u8::is_ascii_graphic) {
        return text.escape_ascii().to_string();
    }
    address.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn socket(address: &[u8]) -> Option<SocketAddr> {
    // As the kernel numbers them.
    const INET: [u8; 2] = 2_u16.to_ne_bytes();
    const INET6: [u8; 2] = 10_u16.to_ne_bytes();
    let (head, rest) = address.split_first_chunk::<4>()?;
    let ip = |rest: &[u8], long: bool| -> Option<IpAddr> {
        Some(match long {
            false => Ipv4Addr::from(*rest.first_chunk::<4>()?).into(),
            true => Ipv6Addr::from(*rest.first_chunk::<16>()?).into(),
        })
    };
    let ip = match (address.len(), [head[0], head[1]]) {
        (16, [1, 4]) => ip(rest, false),
        (28, [1, 6]) => ip(rest, true),
        (16, INET) => ip(rest, false),
        // Behind the flow label.
        (28, INET6) => ip(rest.get(4..)?, true),
        _ => None,
    }?;
    Some(SocketAddr::new(ip, u16::from_be_bytes([head[2], head[3]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_forms_are_read() {
        let v4 = [192, 0, 2, 1];
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).octets();
        let join = |parts: &[&[u8]]| parts.concat();
        let incarnation = [9; 8];
        for (address, expected) in [
            (
                join(&[&[1, 4, 0x7a, 0xb7], &v4, &incarnation]),
                "192.0.2.1:31415",
            ),
            (
                join(&[&[1, 6, 0x7a, 0xb7], &v6, &incarnation]),
                "[2001:db8::7]:31415",
            ),
            (
                join(&[&2_u16.to_ne_bytes(), &[0x7a, 0xb7], &v4, &[0; 8]]),
                "192.0.2.1:31415",
            ),
            (
                join(&[&10_u16.to_ne_bytes(), &[0x7a, 0xb7], &[0; 4], &v6, &[0; 4]]),
                "[2001:db8::7]:31415",
            ),
            (b"fi_shm://17:0\0".to_vec(), "fi_shm://17:0"),
            (vec![1, 4, 0x7a, 0xb7, 192], "01047ab7c0"),
            (vec![0, 200, 7], "00c807"),
            (Vec::new(), ""),
        ] {
            assert_eq!(readable(&address), expected, "{address:02x?}");
        }
    }
}
