//! Network interfaces of this machine: listing them, and choosing one by name or address; and what every config of a fabric
//! may ask for. Shared by the fabric plugins.

mod asked;

pub use asked::{Asked, asked};

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// An interface and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Addresses that peers can dial, IPv4 first. Link-local IPv6 addresses are left out: they
    /// mean nothing on another machine.
    pub addresses: Vec<IpAddr>,
    /// Administratively up, and with a carrier.
    pub is_up: bool,
    /// Reaches this machine only.
    pub is_loopback: bool,
    /// Hardware address, empty if it has none.
    pub hardware_address: String,
    /// Megabits per second, if the driver says.
    pub speed: Option<u64>,
    /// Largest packet in bytes, if known.
    pub mtu: Option<u64>,
    /// Kernel driver, empty for a virtual interface.
    pub driver: String,
    /// NUMA node of the device, -1 = unknown.
    pub numa_node: i32,
}

/// Lists all interfaces, by name.
///
/// # Errors
/// If the kernel does not list them.
pub fn list() -> Result<Vec<Interface>> {
    let addresses = getifaddrs().map_err(|error| {
        Error::io(
            "cannot list the network interfaces",
            std::io::Error::from(error),
        )
    })?;
    let mut interfaces: Vec<Interface> = Vec::new();
    for entry in addresses {
        let known = interfaces
            .iter_mut()
            .find(|interface| interface.name == entry.interface_name);
        let interface = match known {
            Some(interface) => interface,
            None => {
                interfaces.push(describe(&entry.interface_name, entry.flags));
                match interfaces.last_mut() {
                    Some(interface) => interface,
                    None => continue,
                }
            }
        };
        let Some(address) = entry.address else {
            continue;
        };
        if let Some(v4) = address.as_sockaddr_in() {
            interface.addresses.push(v4.ip().into());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            if !v6.ip().is_unicast_link_local() {
                interface.addresses.push(v6.ip().into());
            }
        } else if let Some(link) = address.as_link_addr()
            && let Some(bytes) = link.addr()
            && bytes != [0; 6]
        {
            interface.hardware_address = bytes.map(|byte| format!("{byte:02x}")).join(":");
        }
    }
    for interface in &mut interfaces {
        interface.addresses.sort_by_key(IpAddr::is_ipv6);
    }
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(interfaces)
}

fn describe(name: &str, flags: InterfaceFlags) -> Interface {
    let files = Path::new("/sys/class/net").join(name);
    Interface {
        name: name.to_owned(),
        addresses: Vec::new(),
        is_up: flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
        is_loopback: flags.contains(InterfaceFlags::IFF_LOOPBACK),
        hardware_address: String::new(),
        // Drivers without a link report -1, which is no number here.
        speed: read(files.join("speed")),
        mtu: read(files.join("mtu")),
        driver: fs::read_link(files.join("device/driver"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default(),
        numa_node: read(files.join("device/numa_node")).unwrap_or(-1),
    }
}

fn read<T: std::str::FromStr>(file: PathBuf) -> Option<T> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Where a domain lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Address to listen on and to dial from.
    pub ip: IpAddr,
    /// NUMA node of the interface, -1 = unknown.
    pub numa_node: i32,
}

/// Finds an interface by name or address; an empty name takes the first one that leads out of
/// this machine, or else the loopback.
///
/// # Errors
/// NOT_FOUND, with what there is, if there is none of that name or address or if it has no address.
pub fn choose(name: &str) -> Result<Choice> {
    choose_among(&list()?, name)
}

fn choose_among(interfaces: &[Interface], name: &str) -> Result<Choice> {
    let choice = |interface: &Interface, ip| Choice {
        ip,
        numa_node: interface.numa_node,
    };
    if let Ok(ip) = name.parse::<IpAddr>() {
        return interfaces
            .iter()
            .find(|interface| interface.addresses.contains(&ip))
            .map(|interface| choice(interface, ip))
            .ok_or_else(|| unknown(interfaces, format!("no network interface has address {ip}")));
    }
    if name.is_empty() {
        let usable = |interface: &&Interface| interface.is_up && !interface.addresses.is_empty();
        return interfaces
            .iter()
            .filter(usable)
            .min_by_key(|interface| interface.is_loopback)
            .map(|interface| choice(interface, interface.addresses[0]))
            .ok_or_else(|| unknown(interfaces, "no network interface is up".to_owned()));
    }
    let interface = interfaces
        .iter()
        .find(|interface| interface.name == name)
        .ok_or_else(|| unknown(interfaces, format!("there is no network interface {name}")))?;
    match interface.addresses.first() {
        Some(&ip) => Ok(choice(interface, ip)),
        None => Err(unknown(
            interfaces,
            format!("network interface {name} has no IP address that peers could dial"),
        )),
    }
}

fn unknown(interfaces: &[Interface], what: String) -> Error {
    let usable: Vec<String> = interfaces
        .iter()
        .filter(|interface| !interface.addresses.is_empty())
        .map(|interface| format!("{} ({})", interface.name, interface.addresses[0]))
        .collect();
    let remedy = if usable.is_empty() {
        "bring an interface up and give it an address".to_owned()
    } else {
        format!("set fabric_iface to one of: {}", usable.join(", "))
    };
    Error::new(Status::NOT_FOUND, what).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, addresses: &[&str], is_up: bool) -> Interface {
        Interface {
            name: name.to_owned(),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            is_up,
            is_loopback: name == "lo",
            hardware_address: String::new(),
            speed: None,
            mtu: None,
            driver: String::new(),
            numa_node: if name == "lo" { -1 } else { 1 },
        }
    }

    #[test]
    fn names_addresses_and_the_default_find_their_interface() {
        let all = [
            interface("ib0", &[], true),
            interface("eth0", &["192.0.2.1", "2001:db8::1"], false),
            interface("eth1", &["192.0.2.2"], true),
            interface("lo", &["127.0.0.1"], true),
        ];
        let ip = |name| choose_among(&all, name).unwrap().ip.to_string();
        assert_eq!(ip("eth0"), "192.0.2.1");
        assert_eq!(ip("2001:db8::1"), "2001:db8::1");
        assert_eq!(ip(""), "192.0.2.2");
        assert_eq!(choose_among(&all, "eth1").unwrap().numa_node, 1);
        let alone = [interface("lo", &["127.0.0.1"], true)];
        assert_eq!(
            choose_among(&alone, "").unwrap().ip.to_string(),
            "127.0.0.1"
        );
        for wrong in ["eth7", "ib0", "203.0.113.1"] {
            let error = choose_among(&all, wrong).unwrap_err();
            assert_eq!(error.status, Status::NOT_FOUND);
            assert!(error.what.contains(wrong), "{error}");
            assert!(error.remedy.contains("eth1 (192.0.2.2)"), "{error}");
        }
    }

    #[test]
    fn the_loopback_of_this_machine_is_listed() {
        let all = list().unwrap();
        let loopback = all.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(loopback.is_loopback);
        assert!(loopback.addresses.contains(&"127.0.0.1".parse().unwrap()));
        assert_eq!(loopback.numa_node, -1);
    }
}
