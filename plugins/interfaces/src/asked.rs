//! The keys of a config that every fabric has.

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::ClassRequest;
use daos_plugin_api::sdk::{Error, Result};

/// What a config asks a fabric for, as far as it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    /// `provider`.
    pub provider: Option<&'a str>,
    /// `fabric_iface`, a name or an address.
    pub interface: Option<&'a str>,
}

/// Reads `provider` and `fabric_iface`, and checks the first port (`fabric_iface_port`).
///
/// # Errors
/// INVALID names the key and the value that is of another type or out of range.
pub fn asked(request: &ClassRequest) -> Result<Asked<'_>> {
    let text = |key: &str, remedy: &str| match request.config.get(key) {
        None => Ok(None),
        Some(value) => value
            .as_str()
            .map(Some)
            .ok_or_else(|| Error::new(Status::INVALID, format!("{key} is {value}")).remedy(remedy)),
    };
    let asked = Asked {
        provider: text("provider", "set it to the name of a provider")?,
        interface: text(
            "fabric_iface",
            "set it to the name or the address of a network interface",
        )?,
    };
    match request.config.get("fabric_iface_port") {
        Some(port) if port.as_u64().is_none_or(|port| port > u16::MAX.into()) => {
            let what = format!("fabric_iface_port is {port}");
            Err(Error::new(Status::INVALID, what)
                .remedy("set it to a port number up to 65535, 0 for any"))
        }
        _ => Ok(asked),
    }
}
