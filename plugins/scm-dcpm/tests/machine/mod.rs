//! A machine with persistent memory, and an `ndctl` for it. What it does and how it lists what there is
//! follows recordings of ndctl 76.1 on NVDIMMs with label areas (see `recorded/`).

#![allow(dead_code, reason = "each test program uses a part of it")]

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use scm_dcpm::prepare::{Holds, Program, Said, Tools};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

pub(crate) mod ipmctl;
pub(crate) mod runs;

use ipmctl::Dimm;

/// Bytes of a region.
const REGION: u64 = 512 << 20;
/// What an fsdax namespace keeps for itself.
const OVERHEAD: u64 = 10 << 20;

#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    pub(crate) security: &'static str,
    pub(crate) health: &'static str,
    pub(crate) flag: &'static str,
    pub(crate) disabled: bool,
    /// What `ipmctl` shows of it, where it is one of Intel's.
    pub(crate) dimm: Option<Dimm>,
}

#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    /// What it is when it is enabled.
    pub(crate) mode: &'static str,
    pub(crate) size: u64,
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) holds: Holds,
    pub(crate) user: Option<String>,
}

/// An enabled namespace.
pub(crate) fn named(mode: &'static str, size: u64, name: &str) -> Namespace {
    Namespace {
        mode,
        size,
        uuid: String::new(),
        name: name.to_owned(),
        enabled: true,
        holds: Holds::Nothing,
        user: None,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) size: u64,
    pub(crate) labelled: bool,
    /// Who made a namespace was killed before it had any space.
    pub(crate) begun: bool,
    /// Modules that it is made of, by number.
    pub(crate) modules: Vec<usize>,
    pub(crate) namespaces: Vec<Namespace>,
}

impl Region {
    pub(crate) fn free(&self) -> u64 {
        self.size - self.namespaces.iter().map(|n| n.size).sum::<u64>()
    }

    pub(crate) fn add(&mut self, namespace: Namespace) {
        self.namespaces.push(namespace);
    }
}

/// Where a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before `ndctl` changes anything.
    Before,
    /// While it does.
    Within,
    /// When the namespace that it makes has an identifier, and no space yet.
    Begun,
}

pub(crate) struct Machine {
    pub(crate) modules: Vec<Module>,
    pub(crate) regions: Vec<Region>,
    pub(crate) has_ndctl: bool,
    /// What `ipmctl` is there.
    pub(crate) ipmctl: ipmctl::Installed,
    /// The BIOS refuses goals.
    pub(crate) bios_refuses: bool,
    /// Goals cannot be deleted.
    pub(crate) keeps_goals: bool,
    /// Calls of `ndctl`, and those that were to change something.
    pub(crate) calls: usize,
    /// How long each takes.
    pub(crate) call_takes: Duration,
    /// How long all of them took.
    pub(crate) time: Rc<Cell<Duration>>,
    pub(crate) changes: usize,
    /// Dies at that change.
    pub(crate) killed: Option<(Place, usize)>,
    /// What is done to that fails, with these words.
    pub(crate) fails: Option<(String, String)>,
    made: usize,
}

impl Machine {
    /// Regions of one module each, on nodes of their own, with labels and without namespaces.
    pub(crate) fn labelled(regions: usize) -> Self {
        let region = |n| Region {
            size: REGION,
            labelled: true,
            begun: false,
            modules: vec![n],
            namespaces: Vec::new(),
        };
        Self {
            modules: vec![Module::default(); regions],
            regions: (0..regions).map(region).collect(),
            has_ndctl: true,
            ipmctl: ipmctl::Installed::default(),
            bios_refuses: false,
            keeps_goals: false,
            calls: 0,
            call_takes: Duration::ZERO,
            time: Rc::default(),
            changes: 0,
            killed: None,
            fails: None,
            made: 0,
        }
    }

    /// The same as modules are new: each region is a raw namespace.
    pub(crate) fn unlabelled(regions: usize) -> Self {
        let mut machine = Self::labelled(regions);
        for region in &mut machine.regions {
            region.labelled = false;
            region.add(named("raw", REGION, ""));
        }
        machine
    }

    fn list(&self) -> String {
        let modules = self.modules.iter().enumerate().map(|(n, module)| {
            let (id, handle) = match &module.dimm {
                None => (format!("8680-{n}"), n << 12 | 1),
                Some(dimm) => (dimm.uid(), dimm.handle as usize),
            };
            let mut listed = json!({
                "dev": format!("nmem{n}"), "id": id, "handle": handle, "phys_id": n,
            });
            let object = listed.as_object_mut().expect("an object");
            let mut text = |key: &str, value: &str| {
                if !value.is_empty() {
                    object.insert(key.to_owned(), value.into());
                }
            };
            text("security", module.security);
            text("state", if module.disabled { "disabled" } else { "" });
            if !module.flag.is_empty() {
                object.insert(module.flag.to_owned(), true.into());
            }
            if !module.health.is_empty() {
                object.insert("health".to_owned(), json!({"health_state": module.health}));
            }
            listed
        });
        let regions = self.regions.iter().enumerate().map(|(n, region)| {
            let mut namespaces: Vec<Value> = region
                .namespaces
                .iter()
                .enumerate()
                .map(|(m, namespace)| listed(n, m, namespace))
                .collect();
            if region.labelled {
                // Stands for free space, as the kernel has it.
                let uuid = match region.begun {
                    false => "00000000-0000-0000-0000-000000000000",
                    true => "2a220460-683d-4acb-ae82-2b6204f53c26",
                };
                namespaces.push(json!({
                    "dev": format!("namespace{n}.{}", region.namespaces.len()), "mode": "raw", "size": 0,
                    "uuid": uuid, "sector_size": 512, "state": "disabled",
                }));
            }
            let mappings: Vec<Value> = region.modules.iter().enumerate().map(|(position, m)| json!({
                "dimm": format!("nmem{m}"), "offset": 0, "length": region.size / region.modules.len() as u64,
                "position": position,
            })).collect();
            json!({
                "dev": format!("region{n}"), "size": region.size, "align": 16 << 20,
                "available_size": region.free(), "max_available_extent": region.free(), "type": "pmem",
                "numa_node": n, "persistence_domain": "memory_controller",
                "mappings": mappings,
                "namespaces": namespaces,
            })
        });
        let modules: Vec<Value> = modules.collect();
        let regions: Vec<Value> = regions.collect();
        json!({"dimms": modules, "regions": regions}).to_string()
    }

    fn namespace(&mut self, name: &str) -> (&mut Region, usize) {
        let numbers = name
            .strip_prefix("namespace")
            .and_then(|n| n.split_once('.'));
        let (region, at) = numbers.expect("the name of a namespace");
        let region = &mut self.regions[region.parse::<usize>().expect("a number")];
        (region, at.parse().expect("a number"))
    }

    /// A namespace as `create-namespace` leaves it, or as it does when it is killed.
    fn fsdax(&mut self, size: u64, whole: bool) -> Namespace {
        self.made += 1;
        Namespace {
            uuid: format!("uuid-{}", self.made),
            enabled: whole,
            ..named(if whole { "fsdax" } else { "raw" }, size, "daos")
        }
    }

    /// Bytes that a command asks for.
    fn size(arguments: &[&str]) -> Option<u64> {
        let at = arguments.iter().position(|word| *word == "--size")?;
        Some(arguments[at + 1].parse().expect("bytes"))
    }

    fn change(&mut self, arguments: &[&str]) -> Result<Said> {
        let dies = self
            .killed
            .filter(|(_, at)| *at == self.changes)
            .map(|(place, _)| place);
        let death = || Err(Error::new(Status::INTERNAL, "killed"));
        if dies == Some(Place::Before) {
            return death();
        }
        self.changes += 1;
        let subject = *arguments.last().expect("arguments");
        if let Some((_, words)) = self.fails.as_ref().filter(|(what, _)| what == subject) {
            return Ok(Said {
                success: false,
                err: words.clone(),
                ..Said::default()
            });
        }
        let whole = dies.is_none();
        let refused = |err: &str| {
            Ok(Said {
                success: false,
                err: err.to_owned(),
                ..Said::default()
            })
        };
        if dies == Some(Place::Begun) && arguments[0] == "create-namespace" {
            let number = subject.trim_start_matches(|c: char| !c.is_ascii_digit());
            let number = number
                .split('.')
                .next()
                .and_then(|n| n.parse::<usize>().ok());
            let region: &mut Region = &mut self.regions[number.expect("a number")];
            if !region.labelled {
                region.labelled = true;
                region.namespaces.clear();
            }
            region.begun = true;
            return death();
        }
        match arguments[0] {
            "create-namespace" if arguments.contains(&"--region") => {
                let number = subject
                    .strip_prefix("region")
                    .and_then(|n| n.parse::<usize>().ok());
                let number = number.expect("a region");
                if self.regions[number].begun {
                    return refused(
                        "Error: create namespace: set_uuid failed: Device or resource busy",
                    );
                }
                let free = self.regions[number].free();
                if free == 0 || !self.regions[number].labelled {
                    return refused("failed to create namespace: No space left on device");
                }
                let made = self.fsdax(Self::size(arguments).unwrap_or(free), whole);
                self.regions[number].add(made);
            }
            "create-namespace" => {
                assert!(arguments.contains(&"--force"), "{arguments:?}");
                let (region, at) = self.namespace(subject);
                let size = region.namespaces[at].size;
                let found = &region.namespaces[at];
                assert!(
                    found.holds == Holds::Nothing && found.user.is_none(),
                    "{found:?}"
                );
                region.labelled = true;
                let made = self.fsdax(Self::size(arguments).unwrap_or(size), whole);
                let (region, at) = self.namespace(subject);
                region.namespaces[at] = made;
            }
            "enable-namespace" => {
                let (region, at) = self.namespace(subject);
                region.namespaces[at].enabled = true;
            }
            "disable-namespace" => {
                let (region, at) = self.namespace(subject);
                if region.namespaces[at].user.is_some() {
                    return refused("error disabling namespaces: Device or resource busy");
                }
                region.namespaces[at].enabled = false;
            }
            "destroy-namespace" => {
                let (region, at) = self.namespace(subject);
                if at == region.namespaces.len() {
                    region.begun = false;
                    return Ok(Said {
                        success: true,
                        ..Said::default()
                    });
                }
                if region.namespaces[at].enabled {
                    return refused("Error: is active, specify --force for re-configuration");
                }
                region.namespaces.remove(at);
            }
            "create" | "delete" => {
                let said = self.goal(arguments, whole);
                return match dies {
                    Some(_) => death(),
                    None => Ok(said),
                };
            }
            other => panic!("{other} is not played"),
        }
        match dies {
            Some(_) => death(),
            None => Ok(Said {
                success: true,
                ..Said::default()
            }),
        }
    }
}

fn listed(region: usize, number: usize, namespace: &Namespace) -> Value {
    let mut listed = Map::from_iter([
        (
            "dev".to_owned(),
            json!(format!("namespace{region}.{number}")),
        ),
        ("sector_size".to_owned(), json!(512)),
    ]);
    if !namespace.name.is_empty() {
        listed.insert("name".to_owned(), json!(namespace.name));
        listed.insert("uuid".to_owned(), json!(namespace.uuid));
    }
    let whole = namespace.enabled && namespace.mode == "fsdax";
    let size = namespace.size - if whole { OVERHEAD } else { 0 };
    listed.insert("size".to_owned(), json!(size));
    if namespace.enabled {
        listed.insert("mode".to_owned(), json!(namespace.mode));
        if namespace.mode != "devdax" {
            listed.insert("blockdev".to_owned(), json!(device(region, number)));
        }
    } else {
        listed.insert("mode".to_owned(), json!("raw"));
        listed.insert("state".to_owned(), json!("disabled"));
    }
    Value::Object(listed)
}

fn device(region: usize, number: usize) -> String {
    match number {
        0 => format!("pmem{region}"),
        number => format!("pmem{region}.{number}"),
    }
}

impl Machine {
    fn at(&self, wanted: &str) -> &Namespace {
        let all = self.regions.iter().enumerate().flat_map(|(n, region)| {
            let namespaces = region.namespaces.iter().enumerate();
            namespaces.map(move |(m, namespace)| (device(n, m), namespace))
        });
        let mut found = all.filter(|(name, _)| name == wanted);
        found.next().expect("a device that is listed").1
    }
}

impl Tools for Machine {
    fn has_memory(&self) -> bool {
        !self.modules.is_empty()
    }

    fn run(&mut self, program: Program, arguments: &[&str]) -> Result<Said> {
        self.calls += 1;
        self.time.set(self.time.get() + self.call_takes);
        match (program, arguments[0]) {
            (Program::Ndctl, _) if !self.has_ndctl => Err(not_installed(program)),
            (Program::Ndctl, "list") => Ok(Said {
                success: true,
                out: self.list(),
                err: String::new(),
            }),
            (Program::Ipmctl, "show" | "version") => self.show(arguments),
            (Program::Ipmctl, "load") => {
                self.changes += usize::from(!arguments.contains(&"-examine"));
                Ok(self.load(arguments))
            }
            _ => self.change(arguments),
        }
    }

    fn user(&mut self, device: &str) -> Result<Option<String>> {
        Ok(self.at(device).user.clone())
    }

    fn holds(&mut self, device: &str) -> Result<Holds> {
        Ok(self.at(device).holds.clone())
    }
}

fn not_installed(program: Program) -> Error {
    let name = program.name();
    Error::new(Status::NOT_FOUND, format!("{name} is not installed"))
        .remedy(format!("apt-get install {name}"))
}
