//! Macros that turn an implementation into a plugin.

/// Says which data faces a plugin type has and registers it as built-in of whatever binary links
/// the crate: `declare_plugin!(MyPlugin, bdev)`, faces among `bdev`, `scm`, `fabric`.
#[macro_export]
macro_rules! declare_plugin {
    ($plugin:ty $(, $face:ident)*) => {
        impl $crate::sdk::Faces for $plugin {
            $($crate::__daos_face!($plugin, $face);)*
        }

        $crate::sdk::inventory::submit! {
            $crate::sdk::BuiltIn {
                manifest: <$plugin as $crate::sdk::Plugin>::MANIFEST,
                table: $crate::sdk::thunks::table::<$plugin>,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __daos_face {
    ($plugin:ty, bdev) => {
        const BDEV: $crate::abi::BdevTablePtr = $crate::sdk::thunks::BdevFace::<$plugin>::TABLE;
        const DEVICE_ADMIN: $crate::abi::DeviceAdminTablePtr =
            $crate::sdk::thunks::BdevFace::<$plugin>::DEVICE_ADMIN;
    };
    ($plugin:ty, scm) => {
        const SCM: $crate::abi::ScmTablePtr = $crate::sdk::thunks::ScmFace::<$plugin>::TABLE;
    };
    ($plugin:ty, fabric) => {
        const FABRIC: $crate::abi::FabricTablePtr =
            $crate::sdk::thunks::FabricFace::<$plugin>::TABLE;
    };
}

/// Exports a plugin from a `cdylib`: the manifest note, the Rust root module and the C entry. A
/// crate that invokes this holds nothing else: the exported symbols are fixed, so two exporting
/// libraries cannot be linked into one binary.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        #[used]
        #[unsafe(link_section = ".note.daos.plugin")]
        static DAOS_PLUGIN_NOTE: $crate::abi::Note<
            { <$plugin as $crate::sdk::Plugin>::MANIFEST.len() },
        > = $crate::abi::Note::new(
            <$plugin as $crate::sdk::Plugin>::MANIFEST,
            $crate::abi::NOTE_RUST
                | if cfg!(panic = "abort") {
                    $crate::abi::NOTE_PANIC_ABORT
                } else {
                    0
                },
        );

        #[doc(hidden)]
        #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
        pub static DAOS_PLUGIN_RUST_ENTRY: $crate::sdk::abi_stable::library::LibHeader = {
            extern "C" fn root() -> $crate::sdk::abi_stable::library::RootModuleResult {
                $crate::sdk::abi_stable::library::__call_root_module_loader(
                    $crate::sdk::thunks::root_module::<$plugin>,
                )
            }
            // SAFETY: `root` returns the module that `root_module` builds, a `PluginModuleRef`.
            unsafe {
                $crate::sdk::abi_stable::library::LibHeader::from_constructor::<
                    $crate::abi::PluginModuleRef,
                >(root, $crate::sdk::abi_stable::library::CheckTypeLayout::Yes)
            }
        };

        /// C entry of the plugin; null for a host of another major version.
        #[unsafe(no_mangle)]
        pub extern "C" fn daos_plugin_entry_v1(
            host_major: u16,
            _host_minor: u16,
        ) -> *const $crate::abi::PluginTable {
            if host_major == $crate::abi::ABI_MAJOR {
                $crate::sdk::thunks::table::<$plugin>()
            } else {
                ::core::ptr::null()
            }
        }
    };
}
