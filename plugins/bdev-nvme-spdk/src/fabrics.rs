//! Controllers on a fabric (NVMe over TCP): the setting `fabrics` names them, since they have no PCI address.

use crate::config::invalid;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use nvme_pci::PciAddress;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Names, and the transport id of each in SPDK's notation.
pub(crate) type Fabrics = BTreeMap<String, String>;

/// A process's right to a controller on a fabric, which, unlike one on PCI, others could connect to as well. It goes
/// with the process, however that ends.
pub(crate) type Claim = UnixListener;

const REMEDY: &str = "write it like \
    fabrics: {fast0: \"trtype:TCP traddr:192.0.2.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:cnode1\"}";

/// Checks the setting and brings the transport ids into one form. Touches no device.
pub(crate) fn normal(fabrics: &Fabrics) -> Result<Fabrics> {
    fabrics
        .iter()
        .map(|(name, transport)| {
            if !is_name(name) {
                return Err(invalid(format!("{name:?} cannot name a controller"))
                    .cause("a name begins with a letter, and has letters, digits and hyphens")
                    .remedy(REMEDY));
            }
            match transport_id(transport) {
                Ok(id) => Ok((name.clone(), id)),
                Err(cause) => Err(invalid(format!("the transport id of {name} is wrong"))
                    .cause(cause)
                    .remedy(REMEDY)),
            }
        })
        .collect()
}

/// Whether a text is one that this setting may give to a controller; no PCI address is.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && text.parse::<PciAddress>().is_err()
}

fn transport_id(text: &str) -> Result<String, String> {
    let (mut kind, mut address, mut port, mut subsystem) = (None, None, None, None);
    for word in text.split_whitespace() {
        let (key, value) = word
            .split_once(':')
            .ok_or_else(|| format!("{word:?} is not KEY:VALUE"))?;
        let place = match key {
            "trtype" => &mut kind,
            "traddr" => &mut address,
            "trsvcid" => &mut port,
            "subnqn" => &mut subsystem,
            // Follows from the address.
            "adrfam" => continue,
            _ => return Err(format!("there is no key {key:?}")),
        };
        if place.replace(value).is_some() {
            return Err(format!("{key} is there twice"));
        }
    }
    let need =
        |value: Option<&str>, key| value.map(str::to_owned).ok_or(format!("{key} is missing"));
    let (kind, address) = (need(kind, "trtype")?, need(address, "traddr")?);
    let (port, subsystem) = (need(port, "trsvcid")?, need(subsystem, "subnqn")?);
    if !kind.eq_ignore_ascii_case("tcp") {
        return Err(format!("trtype {kind} is not supported, TCP is"));
    }
    let family = match address.parse() {
        Ok(IpAddr::V4(_)) => "IPv4",
        Ok(IpAddr::V6(_)) => "IPv6",
        Err(_) => return Err(format!("traddr {address} is not an IP address")),
    };
    if port.parse::<u16>().is_ok_and(|port| port != 0) && subsystem.starts_with("nqn.") {
        return Ok(format!(
            "trtype:TCP adrfam:{family} traddr:{address} trsvcid:{port} subnqn:{subsystem}"
        ));
    }
    Err(format!(
        "trsvcid {port} must be a port, and subnqn {subsystem} begin with \"nqn.\""
    ))
}

/// Takes the right to the controller `name`, whose transport id is in normal form.
///
/// # Errors
/// BUSY if another process has it.
pub(crate) fn claim(name: &str, transport: &str) -> Result<Claim> {
    // Names of this kind are no files: nothing is left behind, and no right to write anywhere is needed. A long
    // subsystem name does not fit, its hash does.
    let hash = transport
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let failed = |cause: std::io::Error| {
        if cause.kind() == std::io::ErrorKind::AddrInUse {
            Error::new(Status::BUSY, format!("{name} cannot be opened"))
                .cause(format!("another process of this machine uses {transport}"))
                .remedy("stop whoever holds it")
        } else {
            Error::io(format!("cannot claim {name}"), cause)
        }
    };
    SocketAddr::from_abstract_name(format!("daos-nvme-fabrics-{hash:016x}"))
        .and_then(|address| UnixListener::bind_addr(&address))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, transport: &str) -> Result<String> {
        let fabrics = Fabrics::from([(name.to_owned(), transport.to_owned())]);
        normal(&fabrics).map(|fabrics| fabrics[name].clone())
    }

    #[test]
    fn transport_ids_have_one_form() {
        let form = "trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2020-07.io:a";
        for text in [
            form,
            "subnqn:nqn.2020-07.io:a  trtype:tcp trsvcid:4420 traddr:127.0.0.1",
        ] {
            assert_eq!(setting("fast0", text).unwrap(), form);
        }
        let six = setting("f", "trtype:TCP traddr:::1 trsvcid:1 subnqn:nqn.x").unwrap();
        assert!(six.contains("adrfam:IPv6 traddr:::1 "), "{six}");
    }

    #[test]
    fn wrong_settings_are_refused_with_an_example() {
        let good = "trtype:TCP traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.a";
        for (name, transport) in [
            ("0fast", good),
            ("fast/1", good),
            ("", good),
            ("f", ""),
            ("f", "trtype:PCIe traddr:0000:41:00.0"),
            (
                "f",
                "trtype:RDMA traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.a",
            ),
            ("f", "trtype:TCP traddr:somewhere trsvcid:4420 subnqn:nqn.a"),
            ("f", "trtype:TCP traddr:127.0.0.1 trsvcid:0 subnqn:nqn.a"),
            ("f", "trtype:TCP traddr:127.0.0.1 trsvcid:4420 subnqn:a"),
            ("f", "trtype:TCP traddr:127.0.0.1 trsvcid:4420"),
            (
                "f",
                "trtype:TCP trtype:TCP traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.a",
            ),
            (
                "f",
                "trtype:TCP traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.a priority:1",
            ),
        ] {
            let error = setting(name, transport).unwrap_err();
            assert_eq!(error.status, Status::INVALID, "{name} {transport}");
            assert!(!error.cause.is_empty() && error.remedy.contains("trtype:TCP"));
        }
    }

    #[test]
    fn a_claim_is_one_process_s_until_it_goes() {
        let transport = format!("of process {}", std::process::id());
        let first = claim("fast0", &transport).unwrap();
        assert_eq!(claim("fast0", &transport).unwrap_err().status, Status::BUSY);
        claim("fast1", &format!("other {transport}")).unwrap();
        drop(first);
        claim("fast0", &transport).unwrap();
    }
}
