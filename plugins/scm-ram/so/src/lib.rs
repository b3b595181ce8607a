//! The `scm-ram` plugin as a shared object.

daos_plugin_api::export_plugin!(scm_ram::ScmRam);
