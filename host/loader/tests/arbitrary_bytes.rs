//! Whatever a file holds, reading it returns.

use fixture_files::{RAW, built};
use proptest::prelude::*;
use std::sync::OnceLock;

/// A small real plugin: its headers and note, with the code cut out, so that mutations hit what
/// is parsed.
fn plugin() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("small.so");
        let status = std::process::Command::new("strip")
            .arg("-o")
            .args([&out, &built(RAW)])
            .status()
            .expect("binutils");
        assert!(status.success());
        let bytes = std::fs::read(out).unwrap();
        assert_eq!(
            daos_loader::fuzz_elf(&bytes).unwrap(),
            RAW,
            "strip keeps the manifest"
        );
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(daos_loader::fuzz_elf(&bytes).is_err());
    }

    #[test]
    fn a_plausible_header_and_noise(bytes in proptest::collection::vec(any::<u8>(), 20..4096)) {
        let mut bytes = bytes;
        bytes[..20].copy_from_slice(&plugin()[..20]);
        let _ = daos_loader::fuzz_elf(&bytes);
    }

    #[test]
    fn a_plugin_with_wrong_bytes(
        header in proptest::collection::vec((0usize..64, any::<u8>()), 0..4),
        tables in proptest::collection::vec((0usize..1024, any::<u8>()), 0..6),
        tail in proptest::collection::vec((0usize..4096, any::<u8>()), 0..12),
        anywhere in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = plugin().to_vec();
        let len = bytes.len();
        for (at, value) in header.into_iter().chain(tables) {
            bytes[at] = value;
        }
        for (back, value) in tail {
            bytes[len - 1 - back] = value;
        }
        for (at, value) in anywhere {
            let at = at.index(len);
            bytes[at] = value;
        }
        let _ = daos_loader::fuzz_elf(&bytes);
    }

    #[test]
    fn a_truncated_plugin(cut in any::<prop::sample::Index>()) {
        let bytes = plugin();
        prop_assert!(daos_loader::fuzz_elf(&bytes[..cut.index(bytes.len())]).is_err());
    }
}
