//! Devices that the host puts on top of a plugin's device: layers that inject faults, delay, measure.
//!
//! A layer is a [`Bdev`] like a plugin's, and reached through the same tables. So whoever uses a
//! [`BdevDevice`] cannot tell whether there is one, and a device without layers pays nothing for those of
//! others.

use super::{BdevDevice, Instance};
use crate::abi::{BdevTable, BdevTablePtr};
use crate::control::DeviceSpec;
use crate::sdk::thunks::BdevFace;
use crate::sdk::{Bdev, BdevPlugin, CallContext, Error, Faces, Host, Plugin, Result};
use serde_json::{Map, Value};
use std::marker::PhantomData;

/// Carrier of the tables of layer `D`; there are no values of it.
struct Layer<D> {
    _device: PhantomData<fn() -> D>,
}

impl<D: Bdev> Faces for Layer<D> {
    const BDEV: BdevTablePtr = BdevFace::<Self>::TABLE;
}

impl<D: Bdev> Plugin for Layer<D> {
    const MANIFEST: &'static str = "";

    fn create(_: Host, _: CallContext<'_>, _: Map<String, Value>) -> Result<Self> {
        Err(Error::unsupported("create"))
    }
}

impl<D: Bdev> BdevPlugin for Layer<D> {
    type Device = D;

    fn open(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<D> {
        Err(Error::unsupported("open"))
    }
}

impl BdevDevice {
    /// The device that `layer` makes of one of `instance`, to which I/O memory belongs as before.
    ///
    /// # Errors
    /// INTERNAL if the layer tells an impossible geometry.
    pub fn layered<D: Bdev>(instance: &Instance, layer: D) -> Result<Self> {
        // SAFETY: the pointers name constants of the face, which are promoted to statics.
        let (table, admin) = unsafe {
            let table: &'static BdevTable = &*BdevFace::<Layer<D>>::TABLE.0;
            (table, BdevFace::<Layer<D>>::DEVICE_ADMIN.0.as_ref())
        };
        Self::assemble(
            instance,
            table,
            admin,
            BdevFace::<Layer<D>>::handle(layer),
            "a layer",
        )
    }
}
