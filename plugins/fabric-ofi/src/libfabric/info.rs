//! What fi_getinfo(3) offers: providers, interfaces, and their parameters.

use super::environment::prepare;
use super::errno::Errno;
use super::{sys, threads};
use std::ffi::{CStr, CString, c_char};
use std::net::IpAddr;
use std::ptr::null_mut;

/// The parameters of a provider on an interface: one entry of what libfabric offers.
pub(crate) struct Info(*mut sys::fi_info);

// SAFETY: plain data, changed only through `&mut`.
unsafe impl Send for Info {}
// SAFETY: as above.
unsafe impl Sync for Info {}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: allocated by libfabric, freed once.
        unsafe { sys::fi_freeinfo(self.0) }
    }
}

impl Clone for Info {
    fn clone(&self) -> Self {
        // SAFETY: `self.0` is a valid list of one or more; the copy has one.
        Self(unsafe { sys::fi_dupinfo(self.0) })
    }
}

/// Modes of memory registration that this plugin can live with: all but keys longer than 8 bytes
/// (`FI_MR_RAW`) and registrations bound to an endpoint (`FI_MR_ENDPOINT`).
const MR_MODES: u32 =
    sys::FI_MR_LOCAL | sys::FI_MR_VIRT_ADDR | sys::FI_MR_ALLOCATED | sys::FI_MR_PROV_KEY;

/// Version of the interface that this was built for.
const VERSION: u32 = sys::FI_MAJOR_VERSION << 16 | sys::FI_MINOR_VERSION;

/// A provider of the installed libfabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    /// libfabric's name of it.
    pub(crate) name: String,
    /// Its own version (major, minor), if it started.
    pub(crate) version: Option<(u32, u32)>,
}

/// State of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkState {
    Up,
    Down,
    Unknown,
}

impl Info {
    /// Everything that offers RDM endpoints with tagged messages in order and remote memory access:
    /// of `provider` or of all, at the address `source` of this machine or anywhere, the best first.
    pub(crate) fn find(provider: Option<&str>, source: Option<IpAddr>) -> Result<Vec<Self>, Errno> {
        let provider_name = provider.unwrap_or_default();
        let text = |text: String| CString::new(text).map_err(|_| Errno(libc::EINVAL));
        let provider = provider.map(|name| text(name.to_owned())).transpose()?;
        let node = source.map(|ip| text(ip.to_string())).transpose()?;
        let hints = Self::empty()?;
        // SAFETY: all attributes of `hints` are there; strings in it are freed with it, hence the
        // strdup.
        unsafe {
            let info = &mut *hints.0;
            info.caps = u64::from(sys::FI_TAGGED | sys::FI_RMA);
            info.mode = sys::FI_CONTEXT | sys::FI_CONTEXT2;
            (*info.ep_attr).type_ = sys::fi_ep_type_FI_EP_RDM;
            (*info.domain_attr).mr_mode = MR_MODES as i32;
            (*info.domain_attr).threading = threads::level(provider_name);
            // Messages between two endpoints arrive in the order sent.
            (*info.tx_attr).msg_order = u64::from(sys::FI_ORDER_SAS);
            (*info.rx_attr).msg_order = u64::from(sys::FI_ORDER_SAS);
            if let Some(name) = &provider {
                (*info.fabric_attr).prov_name = libc::strdup(name.as_ptr());
            }
        }
        let (node, flags) = match &node {
            Some(ip) => (ip.as_ptr(), sys::FI_SOURCE),
            None => (std::ptr::null(), 0),
        };
        Self::query(node, flags, hints.0)
    }

    /// Names and versions of the providers that started, whatever they can do.
    pub(crate) fn providers() -> Result<Vec<Offered>, Errno> {
        let list = Self::query(std::ptr::null(), sys::FI_PROV_ATTR_ONLY, null_mut())?;
        let each = list.iter().map(|info| {
            // SAFETY: entries of such a query have the attributes of the fabric.
            let version = unsafe { (*info.raw().fabric_attr).prov_version };
            Offered {
                name: info.provider(),
                version: Some((version >> 16, version & 0xffff)),
            }
        });
        Ok(each.collect())
    }

    fn empty() -> Result<Self, Errno> {
        prepare();
        // SAFETY: returns a zeroed structure with all attributes, or null.
        let raw = unsafe { sys::shim_allocinfo() };
        if raw.is_null() {
            return Err(Errno(libc::ENOMEM));
        }
        Ok(Self(raw))
    }

    fn query(
        node: *const c_char,
        flags: u64,
        hints: *const sys::fi_info,
    ) -> Result<Vec<Self>, Errno> {
        prepare();
        let mut found = null_mut();
        // SAFETY: reads `hints` and `node` during the call and returns a list of its own.
        let result =
            unsafe { sys::fi_getinfo(VERSION, node, std::ptr::null(), flags, hints, &mut found) };
        Errno::check(result as isize)?;
        let list = Self(found);
        let mut all = Vec::new();
        let mut at = list.0;
        while !at.is_null() {
            // SAFETY: `at` is an entry of the living list; the copy is of that entry alone.
            let copy = unsafe { sys::fi_dupinfo(at) };
            if copy.is_null() {
                return Err(Errno(libc::ENOMEM));
            }
            all.push(Self(copy));
            // SAFETY: as above.
            at = unsafe { (*at).next };
        }
        Ok(all)
    }

    /// The provider's own name, layers included.
    pub(crate) fn provider(&self) -> String {
        // SAFETY: fi_getinfo fills in the attributes of the fabric; texts are null or C strings.
        unsafe { string((*self.raw().fabric_attr).prov_name) }
    }

    /// Name of the domain: of a device (`mlx5_0`) or a network interface.
    pub(crate) fn domain_name(&self) -> String {
        // SAFETY: as for `provider`.
        unsafe { string(self.domain_attr().name) }
    }

    /// Name of the fabric: a subnet, or whatever the provider takes for one.
    pub(crate) fn fabric_name(&self) -> String {
        // SAFETY: as for `provider`.
        unsafe { string((*self.raw().fabric_attr).name) }
    }

    /// State and speed (bits per second, 0 = unknown) of the link, if the provider knows.
    pub(crate) fn link(&self) -> Option<(LinkState, u64)> {
        // SAFETY: null, or filled in by fi_getinfo.
        let nic = unsafe { self.raw().nic.as_ref() }?;
        // SAFETY: as above.
        let link = unsafe { nic.link_attr.as_ref() }?;
        let state = match link.state {
            sys::fi_link_state_FI_LINK_UP => LinkState::Up,
            sys::fi_link_state_FI_LINK_DOWN => LinkState::Down,
            _ => LinkState::Unknown,
        };
        Some((state, link.speed as u64))
    }

    /// PCI address of the device, as sysfs writes it, if the provider knows.
    pub(crate) fn pci_address(&self) -> Option<String> {
        // SAFETY: null, or filled in by fi_getinfo.
        let nic = unsafe { self.raw().nic.as_ref() }?;
        // SAFETY: as above.
        let bus = unsafe { nic.bus_attr.as_ref() }?;
        if bus.bus_type != sys::fi_bus_type_FI_BUS_PCI {
            return None;
        }
        // SAFETY: the member of that bus type.
        let pci = unsafe { bus.attr.pci };
        Some(format!(
            "{:04x}:{:02x}:{:02x}.{:x}",
            pci.domain_id, pci.bus_id, pci.device_id, pci.function_id
        ))
    }

    /// The IP address that it is bound to, if it is one.
    pub(crate) fn source_ip(&self) -> Option<IpAddr> {
        let info = self.raw();
        if !self.is_ip() || info.src_addr.is_null() {
            return None;
        }
        // SAFETY: `src_addrlen` bytes at `src_addr`; the family says which structure they are.
        unsafe {
            let family = i32::from((*info.src_addr.cast::<libc::sockaddr>()).sa_family);
            if family == libc::AF_INET && info.src_addrlen >= size_of::<libc::sockaddr_in>() {
                let v4 = info.src_addr.cast::<libc::sockaddr_in>().read_unaligned();
                return Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()));
            }
            if family == libc::AF_INET6 && info.src_addrlen >= size_of::<libc::sockaddr_in6>() {
                let v6 = info.src_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                return Some(IpAddr::from(v6.sin6_addr.s6_addr));
            }
        }
        None
    }

    /// Whether its addresses are IP addresses with ports.
    pub(crate) fn is_ip(&self) -> bool {
        let formats = [sys::FI_SOCKADDR_IN, sys::FI_SOCKADDR_IN6, sys::FI_SOCKADDR];
        formats.contains(&self.raw().addr_format)
    }

    /// Whether addresses are texts that end with a zero (`FI_ADDR_STR`); all other formats have one length.
    pub(crate) fn has_text_addresses(&self) -> bool {
        self.raw().addr_format == sys::FI_ADDR_STR
    }

    fn raw(&self) -> &sys::fi_info {
        // SAFETY: never null, see `query`, `empty` and `clone`.
        unsafe { &*self.0 }
    }

    /// For calls of libfabric.
    pub(super) fn as_ptr(&self) -> *mut sys::fi_info {
        self.0
    }

    pub(crate) fn domain_attr(&self) -> &sys::fi_domain_attr {
        // SAFETY: fi_getinfo fills in all attributes.
        unsafe { &*self.raw().domain_attr }
    }

    pub(crate) fn ep_attr(&self) -> &sys::fi_ep_attr {
        // SAFETY: as above.
        unsafe { &*self.raw().ep_attr }
    }

    /// Whether the provider moves data only while its queues are read.
    pub(crate) fn has_manual_progress(&self) -> bool {
        // SAFETY: reads a member of attributes that are there.
        let progress = unsafe { sys::shim_data_progress(self.domain_attr()) };
        progress != sys::fi_progress_FI_PROGRESS_AUTO
    }

    /// What it wants threads to keep to (`fi_threading`), as a name.
    pub(crate) fn threading(&self) -> &'static str {
        threads::name(self.domain_attr().threading)
    }

    /// Whether the provider wants registrations to be like this (`FI_MR_*`).
    pub(crate) fn has_mr_mode(&self, mode: u32) -> bool {
        self.domain_attr().mr_mode as u32 & mode != 0
    }

    /// Room of the transmit and of the receive queue.
    pub(crate) fn queue_sizes(&self) -> (usize, usize) {
        // SAFETY: as above.
        unsafe { ((*self.raw().tx_attr).size, (*self.raw().rx_attr).size) }
    }

    /// Longest message that the provider copies before the call that sends it returns.
    pub(crate) fn inject_size(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.raw().tx_attr).inject_size }
    }

    /// Writes a port into the source address; `false` if the address has no port.
    pub(crate) fn set_port(&mut self, port: u16) -> bool {
        let info = self.raw();
        if !self.is_ip() || info.src_addr.is_null() || info.src_addrlen < 4 {
            return false;
        }
        // SAFETY: the address belongs to this structure, has at least 4 bytes, and in both
        // sockaddr_in and sockaddr_in6 bytes 2 and 3 are the port, big endian.
        unsafe {
            let bytes = info.src_addr.cast::<u8>();
            bytes
                .add(2)
                .cast::<[u8; 2]>()
                .write_unaligned(port.to_be_bytes());
        }
        true
    }
}

/// A text of libfabric's; empty for null.
///
/// # Safety
/// `text` is null or ends with a zero.
unsafe fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}
