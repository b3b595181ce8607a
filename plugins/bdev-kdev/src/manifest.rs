//! The manifest.

/// The manifest of the plugin (JSON).
pub const MANIFEST: &str = include_str!("../manifest.json");

#[cfg(test)]
mod tests {
    use daos_plugin_api::control::{ClassKind, Manifest};

    #[test]
    fn manifest_is_well_formed_and_of_this_version() {
        let manifest: Manifest = serde_json::from_str(super::MANIFEST).unwrap();
        assert_eq!(manifest.name, env!("CARGO_PKG_NAME"));
        assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest.classes.len(), 1);
        assert_eq!(manifest.classes[0].kind, ClassKind::Bdev);
        assert_eq!(manifest.classes[0].name, crate::config::CLASS);
        assert!(!manifest.classes[0].ephemeral);
    }
}
