//! Old host and new plugin, new host and old plugin: the layout check in both directions, on tables
//! that grew. Fails if only one direction is checked (abi_stable's own behaviour).

// The types exist for their layouts; nobody calls their accessors.
#![allow(missing_docs, non_local_definitions, unreachable_pub, dead_code)]

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::std_types::{RNone, ROption};
use abi_stable::type_layout::TypeLayout;
use daos_loader::{AbiVersion, compatible_layouts};
use daos_plugin_api::abi::{ABI_MAJOR, ABI_MINOR};

macro_rules! generation {
    ($module:ident { $($field:ident: $type:ty,)* }) => {
        mod $module {
            use super::*;

            #[repr(C)]
            #[derive(StableAbi)]
            #[sabi(kind(Prefix(prefix_ref = TableRef, prefix_fields = TablePrefix)))]
            #[sabi(missing_field(option))]
            pub struct Table {
                pub size: u32,
                #[sabi(last_prefix_field)]
                pub open: extern "C" fn(u32) -> i32,
                $(pub $field: $type,)*
            }

            #[repr(C)]
            #[derive(StableAbi)]
            #[sabi(kind(Prefix(prefix_ref = ModuleRef, prefix_fields = ModulePrefix)))]
            #[sabi(missing_field(panic))]
            pub struct Module {
                #[sabi(last_prefix_field)]
                pub table: ROption<TableRef>,
            }

            pub fn layout() -> &'static TypeLayout {
                // Keeps the types constructed somewhere, as a plugin does.
                let _ = Module { table: RNone };
                ModuleRef::LAYOUT
            }
        }
    };
}

generation!(old {});
generation!(new { reset: extern "C" fn(u32), });
generation!(other { reset: extern "C" fn(u64) -> u64, });

const V1: AbiVersion = AbiVersion { major: 1, minor: 0 };

#[test]
fn old_host_takes_new_plugin() {
    compatible_layouts(old::layout(), new::layout(), V1).unwrap();
}

#[test]
fn new_host_takes_old_plugin() {
    // What a single check says of it, and why there are two.
    assert!(check_layout_compatibility(new::layout(), old::layout()).is_err());
    compatible_layouts(new::layout(), old::layout(), V1).unwrap();
}

#[test]
fn a_real_difference_is_one_sentence() {
    let plugin = AbiVersion { major: 1, minor: 7 };
    let mismatch = compatible_layouts(new::layout(), other::layout(), plugin).unwrap_err();
    let text = mismatch.to_string();
    println!("{text}");
    assert!(text.len() < 300, "{} bytes: {text}", text.len());
    assert!(!text.contains('\n'), "{text}");
    assert!(
        text.contains("1.7") && text.contains(&format!("{ABI_MAJOR}.{ABI_MINOR}")),
        "both versions: {text}"
    );
    assert!(text.contains("reset"), "the member: {text}");
    assert!(
        mismatch.report.len() > 1000,
        "the full report is kept for the log"
    );
}
