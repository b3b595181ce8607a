//! Who this plugin is.

/// The manifest's text, also in the shared object's ELF note.
pub const MANIFEST: &str = include_str!("../manifest.json");

/// The provider.
pub(crate) const PROVIDER: &str = "tcp";

#[cfg(test)]
mod tests {
    use super::*;
    use daos_plugin_api::control::{ClassKind, Manifest};

    #[test]
    fn the_manifest_describes_this_crate() {
        let manifest: Manifest = serde_json::from_str(MANIFEST).unwrap();
        assert_eq!(manifest.name, env!("CARGO_PKG_NAME"));
        assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
        let classes: Vec<_> = manifest
            .classes
            .iter()
            .map(|c| (c.kind, &*c.name))
            .collect();
        assert_eq!(classes, [(ClassKind::Fabric, PROVIDER)]);
        assert!(manifest.privileges.is_empty());
    }
}
