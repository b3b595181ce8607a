//! The controllers of this process.

use super::{Attached, Phase, lock};
use crate::env;
use crate::fabrics::Fabrics;
use daos_plugin_api::sdk::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

/// The controllers that are attached, by address: devices on one controller share it.
#[derive(Default)]
pub(crate) struct Controllers(Mutex<HashMap<String, Weak<Attached>>>);

impl Controllers {
    /// The controller that is called `address`, attached now unless it is; see [`env::start`] for `memory_mib`. Its
    /// address is that on PCI, or a name among `fabrics`.
    pub(crate) fn attach(
        &self,
        address: &str,
        fabrics: &Fabrics,
        memory_mib: u32,
    ) -> Result<Arc<Attached>> {
        // Held all the time: one is attached at a time.
        let mut controllers = lock(&self.0);
        if let Some(controller) = controllers.get(address).and_then(Weak::upgrade)
            && controller.phase() != Phase::Removed
        {
            return Ok(controller);
        }
        env::start(memory_mib)?;
        let controller = Attached::attach(address, fabrics.get(address).map(String::as_str))?;
        controllers.insert(address.to_owned(), Arc::downgrade(&controller));
        Ok(controller)
    }
}
