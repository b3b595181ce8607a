//! Addresses of endpoints: where to dial, and which incarnation must answer there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const VERSION: u8 = 1;
const V4: u8 = 4;
const V6: u8 = 6;

/// Most bytes of an address.
pub(crate) const MAX_ADDRESS: usize = 28;

/// An endpoint's address. Layout: version, family (4 or 6), port (big endian), IP address (4 or
/// 16 bytes), incarnation (big endian).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct EndpointAddress {
    /// Where the endpoint listens.
    pub(crate) socket: SocketAddr,
    /// Random number of this endpoint: whoever opens the same port later has another one, so
    /// that nothing meant for a dead endpoint reaches its successor.
    pub(crate) incarnation: u64,
}

impl EndpointAddress {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let family = if self.socket.is_ipv4() { V4 } else { V6 };
        bytes.push(family);
        bytes.extend(self.socket.port().to_be_bytes());
        match self.socket.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        bytes.extend(self.incarnation.to_be_bytes());
        bytes
    }

    /// Reads an address that came from somewhere else; `None` if it is not one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, family, high, low], rest) = bytes.split_first_chunk::<4>()?;
        let (ip, incarnation): (IpAddr, _) = match (version, family) {
            (VERSION, V4) => {
                let (ip, rest) = rest.split_first_chunk::<4>()?;
                (Ipv4Addr::from(*ip).into(), rest)
            }
            (VERSION, V6) => {
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                (Ipv6Addr::from(*ip).into(), rest)
            }
            _ => return None,
        };
        let port = u16::from_be_bytes([high, low]);
        let incarnation = u64::from_be_bytes(incarnation.try_into().ok()?);
        (port != 0 && !ip.is_unspecified() && !ip.is_multicast()).then(|| Self {
            socket: SocketAddr::new(ip, port),
            incarnation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_families_survive_the_trip() {
        for socket in ["192.0.2.7:31416", "[2001:db8::7]:1"] {
            let address = EndpointAddress {
                socket: socket.parse().unwrap(),
                incarnation: 0x0123_4567_89ab_cdef,
            };
            let bytes = address.encode();
            assert!(bytes.len() <= MAX_ADDRESS);
            assert_eq!(EndpointAddress::decode(&bytes), Some(address));
            for cut in 0..bytes.len() {
                assert_eq!(EndpointAddress::decode(&bytes[..cut]), None);
            }
            assert_eq!(EndpointAddress::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(address) = EndpointAddress::decode(&bytes) {
                prop_assert_eq!(address.encode(), bytes);
            }
        }
    }
}
