//! An `ipmctl` for the machine, and the BIOS that reads its goals. What it prints and what it refuses follows
//! recordings of ipmctl 03.00.00.0468 (see `recorded/`).

use super::{Machine, Module, Region, not_installed};
use daos_plugin_api::sdk::Result;
use scm_dcpm::prepare::{Program, Said};

/// Bytes of a module.
pub(crate) const DIMM: u64 = 512 << 20;

const NEW: &str =
    "New: A reboot is required for the memory allocation goal to be processed by the BIOS.";
const NO_REGIONS: &str = "There are no Regions defined in the system.";
const NO_GOALS: &str = "There are no goal configs defined in the system.\nPlease use 'show -region' to display \
                        currently valid persistent memory regions.";

#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) memory: u64,
    pub(crate) app_direct: u64,
    pub(crate) status: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Dimm {
    pub(crate) handle: u32,
    pub(crate) memory: u64,
    pub(crate) app_direct: u64,
    pub(crate) health: &'static str,
    pub(crate) lock: &'static str,
    pub(crate) manageability: &'static str,
    pub(crate) violation: &'static str,
    pub(crate) configuration: &'static str,
    pub(crate) set_health: &'static str,
    pub(crate) goal: Option<Goal>,
    pub(crate) firmware: &'static str,
    /// Runs after the next power cycle.
    pub(crate) staged: Option<String>,
}

impl Dimm {
    pub(crate) fn id(&self) -> String {
        format!("0x{:04x}", self.handle)
    }

    pub(crate) fn uid(&self) -> String {
        format!("8089-a2-1839-{:08x}", self.handle)
    }

    pub(crate) fn socket(&self) -> u32 {
        self.handle >> 12
    }
}

/// What `ipmctl` is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Installed {
    #[default]
    Works,
    No,
    /// Of that version.
    Version(&'static str),
    /// Dies without a word.
    Crashes,
    /// Fails with these words.
    Fails(&'static str),
    /// Shows everything but sensors.
    NoSensors,
}

impl Machine {
    /// Sockets with so many modules of Intel's each, in Memory Mode.
    pub(crate) fn dcpm(sockets: u32, modules: u32) -> Self {
        let mut machine = Self::labelled(0);
        let places = (0..sockets)
            .flat_map(|socket| (0..modules).map(move |slot| socket << 12 | slot << 4 | 1));
        machine.modules = places
            .map(|handle| Module {
                dimm: Some(Dimm {
                    handle,
                    memory: DIMM,
                    app_direct: 0,
                    health: "Healthy",
                    lock: "Disabled",
                    manageability: "Manageable",
                    violation: "No",
                    configuration: "Valid",
                    set_health: "Healthy",
                    goal: None,
                    firmware: "01.02.00.5435",
                    staged: None,
                }),
                ..Module::default()
            })
            .collect();
        machine
    }

    pub(crate) fn dimm(&mut self, number: usize) -> &mut Dimm {
        self.modules[number].dimm.as_mut().expect("one of Intel's")
    }

    fn of_socket(&self, socket: u32) -> Vec<usize> {
        let is_of = |m: &usize| {
            self.modules[*m]
                .dimm
                .as_ref()
                .is_some_and(|d| d.socket() == socket)
        };
        (0..self.modules.len()).filter(is_of).collect()
    }

    /// The BIOS applies goals, or says why not.
    pub(crate) fn reboot(&mut self) {
        for socket in 0..4 {
            let modules = self.of_socket(socket);
            let goals: Vec<_> = modules
                .iter()
                .filter_map(|m| self.dimm(*m).goal.clone())
                .collect();
            if !goals.iter().any(|goal| goal.status == NEW) {
                continue;
            }
            if self.bios_refuses || goals.len() < modules.len() {
                for m in &modules {
                    if let Some(goal) = &mut self.dimm(*m).goal {
                        goal.status = "Failed - Bad request: The BIOS failed to process the memory allocation goal \
                                       because it was invalid.";
                    }
                }
                continue;
            }
            self.regions
                .retain(|region| !region.modules.iter().any(|m| modules.contains(m)));
            let mut size = 0;
            for m in &modules {
                let dimm = self.dimm(*m);
                let goal = dimm.goal.take().expect("all have one");
                (dimm.memory, dimm.app_direct) = (goal.memory, goal.app_direct);
                size += goal.app_direct;
            }
            if size > 0 {
                self.regions.push(Region {
                    size,
                    labelled: true,
                    begun: false,
                    modules,
                    namespaces: Vec::new(),
                });
            }
        }
        self.regions.sort_by_key(|region| region.modules.clone());
    }

    /// `create -goal` and `delete -goal` of one socket; half of it if it is killed.
    pub(super) fn goal(&mut self, arguments: &[&str], whole: bool) -> Said {
        let at = arguments
            .iter()
            .position(|word| *word == "-socket")
            .expect("of a socket");
        let socket = arguments[at + 1].parse().expect("a number");
        let mut modules = self.of_socket(socket);
        let error = |words: &str| Said {
            success: false,
            out: format!("<?xml version=\"1.0\"?>\n<Error Type = \"1\">\n{words}\n</Error>\n"),
            err: String::new(),
        };
        if !whole {
            modules.truncate(1);
        }
        if arguments[0] == "delete" {
            let mut words = String::new();
            for m in modules {
                let keeps = self.keeps_goals;
                let dimm = self.dimm(m);
                let outcome = match dimm.goal.take() {
                    Some(goal) if keeps => {
                        dimm.goal = Some(goal);
                        "Error 5 - Invalid parameter."
                    }
                    Some(_) => "Success",
                    None => "Error 122 - There is no goal configuration on this PMem module.",
                };
                words += &format!(
                    "Delete memory allocation goal from PMem module {}: {outcome}\n",
                    dimm.id()
                );
            }
            // Also where it failed, as it really does.
            return Said {
                success: true,
                out: message(&words),
                err: String::new(),
            };
        }
        assert!(arguments.contains(&"-f"), "{arguments:?}");
        if modules.iter().any(|m| self.dimm(*m).goal.is_some()) {
            return error(
                "Create region configuration goal failed: Error 115 - PMem modules on one or more sockets already \
                 have a configured goal. Delete this existing goal before continuing.",
            );
        }
        let on_them = |region: &&Region| region.modules.iter().any(|m| modules.contains(m));
        if self
            .regions
            .iter()
            .filter(on_them)
            .any(|region| !region.namespaces.is_empty())
        {
            return error("Create region configuration goal failed: Error 124 - namespaces exist");
        }
        let memory = arguments.contains(&"MemoryMode=100");
        assert!(
            memory || arguments.contains(&"PersistentMemoryType=AppDirect"),
            "{arguments:?}"
        );
        for m in modules {
            self.dimm(m).goal = Some(Goal {
                memory: if memory { DIMM } else { 0 },
                app_direct: if memory { 0 } else { DIMM },
                status: NEW,
            });
        }
        Said {
            success: true,
            out: message("done"),
            err: String::new(),
        }
    }

    pub(super) fn show(&mut self, arguments: &[&str]) -> Result<Said> {
        let version = match &self.ipmctl {
            Installed::No => return Err(not_installed(Program::Ipmctl)),
            Installed::Crashes => return Ok(Said::default()),
            Installed::Fails(words) => {
                let out =
                    format!("<?xml version=\"1.0\"?>\n<Error Type = \"1\">\n{words}\n</Error>\n");
                return Ok(Said {
                    success: false,
                    out,
                    err: String::new(),
                });
            }
            Installed::Version(version) => version,
            Installed::Works | Installed::NoSensors => "03.00.00.0468",
        };
        let out = match *arguments.last().expect("arguments") {
            "-firmware" => self.firmwares(),
            _ if arguments.contains(&"-sensor") && self.ipmctl == Installed::NoSensors => {
                return Ok(Said {
                    success: false,
                    out: "<?xml version=\"1.0\"?>\n<Error Type = \"1\">\nError 5 - Driver failed\n</Error>\n"
                        .to_owned(),
                    err: String::new(),
                });
            }
            // Of every module, whichever was asked for.
            _ if arguments.contains(&"-sensor") => {
                include_str!("../recorded/ipmctl-sensors.xml").to_owned()
            }
            "-dimm" => self.dimms(),
            "-region" => self.sets(),
            "-goal" => self.goals(),
            "nvmxml" => format!(
                "<?xml version=\"1.0\"?>\n <SoftwareList>\n  <Software>\n   <Version>{version}</Version>\n  \
                 </Software>\n </SoftwareList>\n"
            ),
            other => panic!("ipmctl show {other} is not played"),
        };
        Ok(Said {
            success: true,
            out,
            err: String::new(),
        })
    }

    fn dimms(&self) -> String {
        let listed = self.modules.iter().filter_map(|module| module.dimm.as_ref()).map(|dimm| {
            format!(
                "  <Dimm>\n   <DimmID>{id}</DimmID>\n   <Capacity>{DIMM} B</Capacity>\n   \
                 <HealthState>{}</HealthState>\n   <HealthStateReason>None</HealthStateReason>\n   \
                 <LockState>{}</LockState>\n   <ManageabilityState>{}</ManageabilityState>\n   \
                 <PopulationViolation>{}</PopulationViolation>\n   \
                 <ConfigurationStatus>{}</ConfigurationStatus>\n   <DimmHandle>{id}</DimmHandle>\n   \
                 <DimmUID>{}</DimmUID>\n   <SocketID>0x{:04x}</SocketID>\n   \
                 <PartNumber>NMA1XBD128GQS</PartNumber>\n   <DeviceLocator>CPU1_DIMM_A2</DeviceLocator>\n   \
                 <FWVersion>01.02.00.5435</FWVersion>\n   <MemoryCapacity>{} B</MemoryCapacity>\n   \
                 <AppDirectCapacity>{} B</AppDirectCapacity>\n  </Dimm>\n",
                dimm.health, dimm.lock, dimm.manageability, dimm.violation, dimm.configuration, dimm.uid(), dimm.socket(),
                dimm.memory, dimm.app_direct, id = dimm.id(),
            )
        });
        format!(
            "<?xml version=\"1.0\"?>\n <DimmList>\n{} </DimmList>\n",
            listed.collect::<String>()
        )
    }

    fn firmwares(&self) -> String {
        let listed = self.modules.iter().filter_map(|module| module.dimm.as_ref()).map(|dimm| {
            format!(
                "  <DimmFirmware>\n   <DimmID>{}</DimmID>\n   <ActiveFWVersion>{}</ActiveFWVersion>\n   \
                 <StagedFWVersion>{}</StagedFWVersion>\n   <FWUpdateStatus>Unknown</FWUpdateStatus>\n   \
                 <FWImageMaxSize>1048576</FWImageMaxSize>\n  </DimmFirmware>\n",
                dimm.id(), dimm.firmware, dimm.staged.as_deref().unwrap_or("N/A"),
            )
        });
        let listed: String = listed.collect();
        format!("<?xml version=\"1.0\"?>\n <DimmFirmwareList>\n{listed} </DimmFirmwareList>\n")
    }

    /// `load`: an image is its revision, after the words `image of`.
    pub(super) fn load(&mut self, arguments: &[&str]) -> Said {
        let after = |word: &str| {
            let at = arguments
                .iter()
                .position(|one| *one == word)
                .expect("it is there");
            arguments[at + 1]
        };
        let image = std::fs::read_to_string(after("-source")).expect("an image");
        let id = after("-dimm").to_owned();
        let Some(revision) = image.strip_prefix("image of ") else {
            let words = format!(
                "Load FW on PMem module {id}: Error 62 - Image file is not valid\nDetails: Vendor not compatible"
            );
            let out = format!("<?xml version=\"1.0\"?>\n<Error Type = \"1\">\n{words}\n</Error>\n");
            return Said {
                success: false,
                out,
                err: String::new(),
            };
        };
        if !arguments.contains(&"-examine") {
            let dimms = self
                .modules
                .iter_mut()
                .filter_map(|module| module.dimm.as_mut());
            for dimm in dimms.filter(|dimm| dimm.id() == id) {
                dimm.staged = (revision != "nothing").then(|| revision.to_owned());
            }
        }
        Said {
            success: true,
            out: message("Success"),
            err: String::new(),
        }
    }

    fn sets(&self) -> String {
        let mut listed = String::new();
        for region in &self.regions {
            let dimms: Vec<&Dimm> = region
                .modules
                .iter()
                .filter_map(|m| self.modules[*m].dimm.as_ref())
                .collect();
            let kind = match dimms.len() {
                0 => continue,
                1 => "AppDirectNotInterleaved",
                _ => "AppDirect",
            };
            let ids: Vec<String> = dimms.iter().map(|dimm| dimm.id()).collect();
            listed += &format!(
                "  <Region>\n   <PersistentMemoryType>{kind}</PersistentMemoryType>\n   \
                 <HealthState>{}</HealthState>\n   <DimmID>{}</DimmID>\n  </Region>\n",
                dimms[0].set_health,
                ids.join(", ")
            );
        }
        match listed.is_empty() {
            true => message(NO_REGIONS),
            false => format!("<?xml version=\"1.0\"?>\n <RegionList>\n{listed} </RegionList>\n"),
        }
    }

    fn goals(&self) -> String {
        let dimms = self
            .modules
            .iter()
            .filter_map(|module| module.dimm.as_ref());
        let listed: String = dimms
            .filter_map(|dimm| Some((dimm, dimm.goal.as_ref()?)))
            .map(|(dimm, goal)| {
                format!(
                    "  <ConfigGoal>\n   <DimmID>{}</DimmID>\n   <MemorySize>{} B</MemorySize>\n   \
                     <AppDirect1Size>{} B</AppDirect1Size>\n   <AppDirect1Index>N/A</AppDirect1Index>\n   \
                     <AppDirect2Size>0 B</AppDirect2Size>\n   <Status>{}</Status>\n  </ConfigGoal>\n",
                    dimm.id(), goal.memory, goal.app_direct, goal.status
                )
            })
            .collect();
        match listed.is_empty() {
            true => message(NO_GOALS),
            false => {
                format!("<?xml version=\"1.0\"?>\n <ConfigGoalList>\n{listed} </ConfigGoalList>\n")
            }
        }
    }
}

fn message(words: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<Results>\n<Result>\n{words}\n</Result>\n</Results>\n")
}
