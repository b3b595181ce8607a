//! Who this plugin is.

/// The manifest's text, also in the shared object's ELF note.
pub const MANIFEST: &str = include_str!("../manifest.json");

/// Provider names that this plugin serves: its own, and those of libfabric that it stands in
/// for where that is not installed.
pub(crate) const PROVIDERS: [&str; 5] = ["tcp", "ofi+tcp", "sockets", "ofi+sockets", "ofi+socket"];

#[cfg(test)]
mod tests {
    use super::*;
    use daos_plugin_api::control::{ClassKind, Manifest};

    #[test]
    fn the_manifest_names_every_accepted_provider() {
        let manifest: Manifest = serde_json::from_str(MANIFEST).unwrap();
        assert_eq!(manifest.name, env!("CARGO_PKG_NAME"));
        assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
        let names: Vec<_> = manifest.classes.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, PROVIDERS);
        assert!(manifest.classes.iter().all(|c| c.kind == ClassKind::Fabric));
        assert!(manifest.privileges.is_empty());
    }
}
