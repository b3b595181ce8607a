//! The fabric of the tests: plain sockets, or the provider that `DAOS_ENGINE_PROVIDER` names, whose plugin is taken
//! from the build directory.

use daos_loader::{PluginFile, Policy};
use daos_plugin_api::host::{Instance, InstanceOptions};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The provider, as a configuration names it.
pub fn provider() -> &'static str {
    static PROVIDER: OnceLock<String> = OnceLock::new();
    PROVIDER
        .get_or_init(|| std::env::var("DAOS_ENGINE_PROVIDER").unwrap_or_else(|_| "tcp".to_owned()))
}

/// Directory of the provider's plugin; `None` for the one that is built in.
pub fn plugins_dir() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let dir = DIR.get_or_init(|| (provider() != "tcp").then(copied));
    dir.as_deref()
}

/// A directory with nothing but the plugin.
fn copied() -> PathBuf {
    const FILE: &str = "libdaos_fabric_ofi.so";
    let test = std::env::current_exe().expect("this program has a path");
    let built = test
        .ancestors()
        .nth(2)
        .expect("deps is in a directory")
        .join(FILE);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("engine-plugins");
    std::fs::create_dir_all(&dir).expect("a directory");
    // Under a name of its own first: another test program may have the file mapped.
    let new = dir.join(format!(".{FILE}.{}", std::process::id()));
    std::fs::copy(&built, &new)
        .unwrap_or_else(|e| panic!("{}: {e}; cargo build -p fabric-ofi-so", built.display()));
    std::fs::rename(&new, dir.join(FILE)).expect("the same directory");
    dir
}

/// Words of an engine's command line that choose the fabric.
pub fn arguments() -> Vec<String> {
    let mut words = vec!["--provider".to_owned(), provider().to_owned()];
    if let Some(dir) = plugins_dir() {
        words.extend(["--plugins-dir".to_owned(), dir.display().to_string()]);
    }
    words
}

/// The plugin.
pub fn instance() -> Instance {
    let Some(dir) = plugins_dir() else {
        return super::plugin("fabric-tcp");
    };
    let policy = Policy::default();
    let file = dir.join("libdaos_fabric_ofi.so");
    let info = PluginFile::inspect(&file, &policy).unwrap_or_else(|e| panic!("{e}"));
    let loaded = daos_loader::load(&info, &policy).unwrap_or_else(|e| panic!("{e}"));
    Instance::create(loaded.table, InstanceOptions::loaded()).unwrap_or_else(|e| panic!("{e}"))
}

/// Options of a client of an engine.
pub fn client_options(uri: &daos_wire::EngineUri) -> daos_client::Options {
    let mut options = daos_client::Options::uri(uri.clone());
    options.interface = "lo".into();
    options.plugins_dir = plugins_dir().map(Path::to_owned);
    options
}
