//! A machine whose power fails: block devices with a volatile write cache, an SCM of which what was
//! flushed and drained survives, index files of which what was synced does, and of everything else any
//! part.

use super::{Shape, Storage, table};
use crash_images::{Crash, CrashFile, Method, Power, Tear};
use daos_engine::engine::{Engine, OpenIndex};
use daos_engine::error::StartError;
use daos_engine::index::Store;
use daos_engine::media::Formatted;
use daos_engine::plugins::Plugins;
use daos_plugin_api::host::{Instance, InstanceOptions};
use std::sync::Arc;

const TARGETS: u32 = 2;

/// Random numbers.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What its log is in.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    Ram,
    /// Persistent memory, and how the plugin gets stores to the medium.
    Dcpm(Method),
}

/// The machine.
pub struct Machine {
    // Its files lie below the wrapped plugins.
    scm: Crash,
    bdev: Crash,
    indexes: Arc<Vec<CrashFile>>,
    pub power: Power,
    storage: Storage,
}

impl Machine {
    pub fn new(memory: Memory) -> Self {
        let storage = Storage::format(Shape {
            scm: match memory {
                Memory::Ram => "ram",
                Memory::Dcpm(_) => "dcpm",
            },
            targets: TARGETS,
            scm_mib: 48,
            bdev_mib: 40,
            ..Shape::default()
        });
        let power = Power::on();
        let wrap = |name, tear| Crash::wrap(table(name), &power, tear).expect("wrapped");
        Self {
            scm: match memory {
                Memory::Ram => wrap("scm-ram", Tear::Block),
                Memory::Dcpm(method) => Crash::wrap_dcpm(&power, method).expect("wrapped"),
            },
            bdev: wrap("bdev-file", Tear::Sector),
            indexes: Arc::new((0..TARGETS).map(|_| CrashFile::new(&power)).collect()),
            power,
            storage,
        }
    }

    fn start(&self) -> Result<Engine, StartError> {
        let options = self.storage.options();
        let formatted = Formatted::read(&options)?;
        let instance = |crash: &Crash| {
            Instance::create(crash.table(), InstanceOptions::built_in()).expect("an instance")
        };
        let plugins = Plugins {
            scm: instance(&self.scm),
            bdev: instance(&self.bdev),
            fabric: super::fabric::instance(),
            provider: super::fabric::provider().into(),
            telemetry: Default::default(),
        };
        let indexes = Arc::clone(&self.indexes);
        let open_index: OpenIndex = Arc::new(move |path, limit, _| {
            let name = path.file_stem().and_then(|n| n.to_str()).expect("a name");
            let target: usize = name
                .trim_start_matches("target-")
                .parse()
                .expect("a number");
            Store::on(indexes[target].open(limit), 1 << 20)
        });
        Engine::start_on(&options, formatted, plugins, open_index).map(super::with_pool)
    }
    /// Starts the engine, as often as it takes: the power may fail in between. Returns it, with the
    /// power on for good, and how often the power failed.
    pub fn recover(&self, dice: &mut Dice) -> (Engine, u64) {
        let mut failed = 0;
        loop {
            match self.start() {
                Ok(engine) if !self.power.is_off() => {
                    self.power.fail_after(u64::MAX);
                    return (engine, failed);
                }
                Ok(engine) => drop(engine),
                Err(error) => assert!(self.power.is_off(), "failed with power: {error}"),
            }
            failed += 1;
            self.power.crash(dice.below(u64::MAX)).expect("crashed");
        }
    }
}

/// Seed and rounds of a run: `CRASH_SEED=n` repeats the choices of an earlier one, `SOAK=1` makes it
/// long.
pub fn run() -> (u64, u64) {
    let seed = std::env::var("CRASH_SEED").ok().map_or_else(
        || {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |t| t.as_nanos() as u64)
        },
        |seed| seed.parse().expect("CRASH_SEED is a number"),
    );
    eprintln!("CRASH_SEED={seed}");
    let rounds = if std::env::var_os("SOAK").is_some() {
        3000
    } else {
        25
    };
    (seed, rounds)
}
