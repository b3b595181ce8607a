//! The `scm-dcpm` plugin as a shared object.

daos_plugin_api::export_plugin!(scm_dcpm::ScmDcpm);
