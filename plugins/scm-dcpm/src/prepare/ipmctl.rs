//! Optane DC persistent memory modules as `ipmctl show -o nvmxml` prints them: what each is used for, how it
//! is, and which goals wait for a reboot.
//!
//! The kernel shows ranges of memory that the BIOS has mapped; how much of a module is Memory Mode, which
//! modules are interleaved, and what becomes of them at the next boot only the modules themselves say.
//! Source: the ipmctl manual pages, and recordings of 03.00.00.0468 (see `tests/recorded`).

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use roxmltree::{Document, Node};

/// How the kernel names Intel's modules: their vendor's JEDEC number begins the identifier. `ipmctl` knows no
/// others.
pub(super) const VENDOR: &str = "8089-";

/// A module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dimm {
    /// As `ipmctl` names it, which its preferences decide: `0x0001`, or the unique identifier.
    pub id: String,
    /// Handle of the NFIT, by which the kernel's list is matched.
    pub handle: u32,
    /// Processor socket.
    pub socket: u32,
    /// Unique identifier.
    pub uid: String,
    /// Part number.
    pub part: String,
    /// Where it is, as printed on the board.
    pub locator: String,
    /// Running firmware.
    pub firmware: String,
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes in Memory Mode.
    pub memory: u64,
    /// Bytes in App Direct Mode.
    pub app_direct: u64,
    /// `Healthy`, `Noncritical`, `Critical`, `Fatal`, `Non-functional`, `Unmanageable`, `Unknown`.
    pub health: String,
    /// Why it is so; `None` where it is healthy.
    pub reason: String,
    /// `Disabled`, `Unlocked`, `Locked`, `Frozen`, ..., several with commas between them.
    pub lock: String,
    /// `Manageable`, or not.
    pub manageability: String,
    /// `No`, or `Yes`: it sits where the BIOS does not interleave it.
    pub violation: String,
    /// What its present configuration is worth: `Valid`, `Not configured`, `Failed - Broken interleave`, ...
    pub configuration: String,
}

/// App Direct capacity that is one range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// `AppDirect` or `AppDirectNotInterleaved`.
    pub kind: String,
    /// Names of its modules.
    pub dimms: Vec<String>,
    /// `Healthy`, `Pending`, `Error`, `Locked`, `Unknown`.
    pub health: String,
}

/// What becomes of a module at the next boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// Name of the module.
    pub dimm: String,
    /// Bytes of Memory Mode.
    pub memory: u64,
    /// Bytes of App Direct Mode.
    pub app_direct: u64,
    /// `New: A reboot is required ...`, `Failed - Bad request: ...`, ...
    pub status: String,
}

/// Everything that `ipmctl` knows here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dimms {
    /// Modules.
    pub dimms: Vec<Dimm>,
    /// Their App Direct capacity.
    pub sets: Vec<Set>,
    /// What waits for a reboot, or was refused by the BIOS.
    pub goals: Vec<Goal>,
}

/// Options of `ipmctl` whose output [`Dimms::add`] reads: modules, then the rest. In bytes, as a rounded
/// number of GiB is 0 where something is free. All properties of a module, as each name in a list of them makes
/// ipmctl look through the list once more for every property that it knows: sixteen take three times as long.
pub(super) const SHOW: [&[&str]; 3] = [
    &["show", "-u", "B", "-o", "nvmxml", "-a", "-dimm"],
    &["show", "-u", "B", "-o", "nvmxml", "-a", "-region"],
    SHOW_GOALS,
];
/// Of a module that can be managed, what decisions are made by: a version of ipmctl that lacks one of these is not guessed about.
const NEEDED: [&str; 8] = [
    "Capacity",
    "MemoryCapacity",
    "AppDirectCapacity",
    "HealthState",
    "LockState",
    "PopulationViolation",
    "ConfigurationStatus",
    "SocketID",
];
/// The last of them.
pub(super) const SHOW_GOALS: &[&str] = &["show", "-u", "B", "-o", "nvmxml", "-a", "-goal"];

/// The text of a member of an element, by its name; empty if there is none.
pub(super) type Fields<'a> = dyn Fn(&str) -> String + 'a;

fn unreadable(cause: String) -> Error {
    Error::new(Status::INTERNAL, "what ipmctl shows cannot be read")
        .cause(cause)
        .remedy("check its version with `ipmctl version`; 02.00.00.3820 to 03.00.00.0468 are known")
}

/// What `ipmctl` printed, whatever it ended with: elements of a list, or a message that there are none.
///
/// # Errors
/// It is no XML, or says that it failed, with its words.
pub(super) fn elements(text: &str, element: &str, take: &mut dyn FnMut(&Fields<'_>)) -> Result<()> {
    // Without any module it forgets the output format that it was asked for.
    if text.contains("No PMem modules in the system") {
        return Ok(());
    }
    let document = Document::parse(text.trim()).map_err(|e| {
        let first = text.lines().find(|line| !line.trim().is_empty());
        unreadable(format!(
            "{e}; it begins with {:?}",
            first.unwrap_or_default()
        ))
    })?;
    let root = document.root_element();
    if root.tag_name().name() == "Error" {
        return Err(Error::new(Status::IO, "ipmctl failed")
            .cause(text_of(root))
            .remedy("try it by hand: ipmctl show -dimm"));
    }
    for node in root.children().filter(|n| n.tag_name().name() == element) {
        take(&|name| {
            let of_name = |n: &Node<'_, '_>| n.tag_name().name() == name;
            node.children()
                .find(of_name)
                .map(text_of)
                .unwrap_or_default()
        });
    }
    Ok(())
}

/// What an answer that claims success says failed: a module's goal that could not be deleted. That there was
/// none (122) is what was wanted.
pub(super) fn hidden_failure(text: &str) -> bool {
    let mut lines = text.lines();
    lines.any(|line| line.contains(": Error ") && !line.contains(": Error 122 "))
}

/// The words of an answer that is a message, on one line.
pub(super) fn words(text: &str) -> Option<String> {
    let document = Document::parse(text.trim()).ok()?;
    let nodes = document.descendants().filter(|node| node.is_text());
    let words: Vec<&str> = nodes
        .flat_map(|node| node.text().unwrap_or_default().split_whitespace())
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The words of a node, on one line.
fn text_of(node: Node<'_, '_>) -> String {
    let words = node.text().unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

/// `2147483648 B`, `-` and `N/A`.
fn bytes(text: &str) -> u64 {
    let number = text.split_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

/// `0x1001`.
fn number(text: &str) -> u32 {
    let digits = text.trim_start_matches("0x");
    u32::from_str_radix(digits, 16).unwrap_or(u32::MAX)
}

impl Dimms {
    /// Adds what one of the commands printed.
    ///
    /// # Errors
    /// It cannot be read, or is the message of a failure.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let mut lacks = None;
        elements(text, "Dimm", &mut |of| {
            if of("ManageabilityState") == "Manageable" {
                let missing = NEEDED.iter().find(|name| of(name).is_empty());
                lacks = lacks.take().or(missing.map(|name| (of("DimmID"), *name)));
            }
            self.dimms.push(Dimm {
                id: of("DimmID"),
                handle: number(&of("DimmHandle")),
                socket: number(&of("SocketID")),
                uid: of("DimmUID"),
                part: of("PartNumber"),
                locator: of("DeviceLocator"),
                firmware: of("FWVersion"),
                capacity: bytes(&of("Capacity")),
                memory: bytes(&of("MemoryCapacity")),
                app_direct: bytes(&of("AppDirectCapacity")),
                health: of("HealthState"),
                reason: of("HealthStateReason"),
                lock: of("LockState"),
                manageability: of("ManageabilityState"),
                violation: of("PopulationViolation"),
                configuration: of("ConfigurationStatus"),
            });
        })?;
        if let Some((id, name)) = lacks {
            return Err(unreadable(format!("module {id} is shown without {name}")));
        }
        elements(text, "Region", &mut |of| {
            self.sets.push(Set {
                kind: of("PersistentMemoryType"),
                dimms: of("DimmID")
                    .split([',', ' '])
                    .filter(|id| !id.is_empty())
                    .map(str::to_owned)
                    .collect(),
                health: of("HealthState"),
            });
        })?;
        elements(text, "ConfigGoal", &mut |of| {
            self.goals.push(Goal {
                dimm: of("DimmID"),
                memory: bytes(&of("MemorySize")),
                app_direct: bytes(&of("AppDirect1Size")) + bytes(&of("AppDirect2Size")),
                status: of("Status"),
            });
        })
    }

    /// Whether a module belongs to a set that is not all there: none of it is mapped, and what it holds is not lost yet.
    pub(super) fn in_broken_set(dimm: &Dimm) -> bool {
        dimm.configuration.contains("Broken interleave")
    }

    /// Sockets that have modules, in order.
    pub(super) fn sockets(&self) -> Vec<u32> {
        let mut sockets: Vec<u32> = self.dimms.iter().map(|dimm| dimm.socket).collect();
        sockets.sort_unstable();
        sockets.dedup();
        sockets
    }

    /// Modules of a socket.
    pub(super) fn of_socket(&self, socket: u32) -> Vec<&Dimm> {
        self.dimms
            .iter()
            .filter(|dimm| dimm.socket == socket)
            .collect()
    }

    /// The module with a handle of the NFIT.
    pub(super) fn with_handle(&self, handle: Option<u32>) -> Option<&Dimm> {
        self.dimms.iter().find(|dimm| Some(dimm.handle) == handle)
    }

    /// Goals of a socket's modules.
    pub(super) fn goals_of(&self, socket: u32) -> Vec<&Goal> {
        let of_socket = self.of_socket(socket);
        let is_of = |goal: &&Goal| of_socket.iter().any(|dimm| dimm.id == goal.dimm);
        self.goals.iter().filter(is_of).collect()
    }

    /// Sets that a module is in.
    pub(super) fn sets_of<'a>(&'a self, dimm: &'a Dimm) -> impl Iterator<Item = &'a Set> {
        self.sets.iter().filter(|set| set.dimms.contains(&dimm.id))
    }
}

impl Goal {
    /// The BIOS would not have it.
    pub(super) fn has_failed(&self) -> bool {
        self.status.starts_with("Failed")
    }
}

impl Dimm {
    /// Its health, and why it is so where it says.
    pub(super) fn told(&self) -> String {
        match self.reason.as_str() {
            "" | "None" => self.health.clone(),
            reason => format!("{} ({reason})", self.health),
        }
    }

    /// What is wrong with it, and what mends it.
    pub(super) fn ailing(&self) -> Option<(String, String)> {
        let look = format!("look at it with `ipmctl show -a -dimm {}`", self.id);
        match self.health.as_str() {
            "Healthy" => {}
            // With and without "failure", by version.
            health if health.starts_with("Noncritical") => {}
            "Unmanageable" | "Non-functional" | "Unknown" => {
                return Some((
                    format!("says that its health is {}", self.told()),
                    format!("{look}, put it in anew or replace it"),
                ));
            }
            _ => {
                return Some((
                    format!("says that its health is {}", self.told()),
                    "save what it holds, and replace it".to_owned(),
                ));
            }
        }
        if self.manageability != "Manageable" {
            return Some((
                "cannot be managed by the ipmctl that is installed".to_owned(),
                "install a newer ipmctl, or replace the module".to_owned(),
            ));
        }
        let has = |word: &str| self.lock.split(',').any(|one| one.trim() == word);
        if has("Locked") || has("Exceeded") {
            return Some((
                format!("is locked (its lock state is {})", self.lock),
                format!(
                    "unlock it: ipmctl set -dimm {} LockState=Unlocked Passphrase=\"...\"",
                    self.id
                ),
            ));
        }
        None
    }

    /// Why a goal, for a set that is `interleaved` or not, would not be applied to it, and what mends that.
    pub(super) fn takes_no_goal(&self, interleaved: bool) -> Option<(String, String)> {
        if let Some(ailing) = self.ailing() {
            return Some(ailing);
        }
        if self.lock.split(',').any(|one| one.trim() == "Unlocked") {
            return Some((
                "has its security enabled, and the BIOS applies no goal then".to_owned(),
                format!(
                    "disable it: ipmctl set -dimm {} LockState=Disabled Passphrase=\"...\"",
                    self.id
                ),
            ));
        }
        (interleaved && self.violation == "Yes").then(|| {
            (
                "sits in a slot in which the BIOS does not interleave it (population violation)"
                    .to_owned(),
                "place the modules as the board's manual says, or allow it in the BIOS's setup"
                    .to_owned(),
            )
        })
    }
}
