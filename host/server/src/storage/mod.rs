//! An engine's storage: what is there, what a format would do, doing it.

mod assess;
mod chosen_scm;
mod content;
mod execute;
mod layout;
mod plan;
mod record;
mod rest;
mod usable;

pub(crate) use assess::{Assessment, assess};
pub(crate) use content::Content;
pub(crate) use execute::{Events, execute};
pub(crate) use layout::{Tier, bdevs};
pub(crate) use plan::plan;
pub(crate) use record::{forget, record_rank};
pub(crate) use rest::{Holder, bring_to_rest};
