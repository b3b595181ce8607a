//! Log masks that are changed at run time: of engines and, of plugins, of this server and its helpers as well.

use crate::plugins::Plugins;
use crate::state::State;
use daos_drpc::Client;
use daos_drpc::methods::{mgmt, module};
use daos_proto::ctl::{ResponseStatus, SetLogMasksReq, SetLogMasksResp};
use daos_proto::host::{EngineState, Fault};
use daos_telemetry::{Mask, Masks};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// How long an engine may take to answer.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// The masks of this server, and what was put over those of the configuration.
pub(crate) struct LogMasks {
    own: Masks,
    overlay: Mutex<String>,
}

impl LogMasks {
    pub(crate) fn new(own: Masks) -> Self {
        Self {
            own,
            overlay: Mutex::default(),
        }
    }

    /// What is wanted here and of helpers.
    pub(crate) fn current(&self) -> Mask {
        self.own.current()
    }

    /// What an engine that starts is to put over the mask of its configuration; empty = nothing.
    pub(crate) fn overlay(&self) -> String {
        let overlay = self.overlay.lock();
        overlay.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn fault(what: &str, cause: &str, remedy: &str) -> Box<Fault> {
    let status = ResponseStatus::CtlErrConf;
    Box::new(Fault::new(status, "server", 0, what, cause, remedy))
}

/// Items of a mask that name plugins, and the others.
fn split(text: &str, is_plugin: impl Fn(&str) -> bool) -> (Vec<&str>, Vec<&str>) {
    let items = text.split(',').map(str::trim).filter(|i| !i.is_empty());
    items.partition(|item| {
        let name = item.split_once('=').map(|(name, _)| name);
        name.is_some_and(&is_plugin)
    })
}

/// Changes the masks; the answer has a text per engine, empty if it did it. An engine that does not serve does it when it
/// starts.
///
/// # Errors
/// A mask that is none, or that names a plugin that is not there. Nothing has changed then.
pub(crate) async fn set(
    state: &State,
    plugins: &Plugins,
    request: &SetLogMasksReq,
) -> Result<SetLogMasksResp, Box<Fault>> {
    let text = match request.reset_masks {
        true => "",
        false => request.masks.as_str(),
    };
    let what = format!("the log mask {text:?} is not understood");
    let names = Mask::names_in(text).map_err(|why| fault(&what, &why.to_string(), ""))?;
    let known = plugins.names();
    let is_plugin = |name: &str| known.iter().any(|k| k.eq_ignore_ascii_case(name));
    // Subsystems of engines have no dash in their names; plugins' names have one.
    if let Some(name) = names.iter().find(|n| n.contains('-') && !is_plugin(n)) {
        let what = format!("there is no plugin {name} on this host");
        return Err(fault(&what, "", "`daos_shell plugin list` shows them"));
    }
    let (of_plugins, others) = split(text, is_plugin);
    if request.reset_masks || !request.masks.is_empty() {
        let own = state.log_masks.own.overlay(&of_plugins.join(","));
        own.map_err(|why| fault(&what, &why.to_string(), ""))?;
        plugins.set_log_mask(state.log_masks.current());
        let overlay = state.log_masks.overlay.lock();
        text.clone_into(&mut overlay.unwrap_or_else(PoisonError::into_inner));
        info!(mask = text, "log masks changed");
    }
    // Another engine knows nothing of our plugins.
    let foreign = state.config.engine_path.is_some();
    let wanted = SetLogMasksReq {
        sys: state.config.name.clone(),
        masks: match foreign {
            true => others.join(","),
            false => text.to_owned(),
        },
        ..request.clone()
    };
    let mut errors = Vec::new();
    for (index, engine) in state.engines().into_iter().enumerate() {
        errors.push(match engine.state {
            EngineState::Ready => match tell(Path::new(&engine.drpc_socket), &wanted).await {
                Ok(()) => String::new(),
                Err(why) => {
                    warn!(engine = index, "the log masks could not be changed: {why}");
                    format!("engine {index}: {why}")
                }
            },
            _ => String::new(),
        });
    }
    Ok(SetLogMasksResp { status: 0, errors })
}

/// Tells an engine of a mask.
async fn tell(socket: &Path, request: &SetLogMasksReq) -> Result<(), String> {
    let answer = async {
        let mut client = Client::connect(socket, CALL_WITHIN).await?;
        client
            .request(module::MGMT, mgmt::SET_LOG_MASKS, request, CALL_WITHIN)
            .await
    };
    let answer: Result<SetLogMasksResp, daos_drpc::Error> = answer.await;
    match answer {
        Ok(SetLogMasksResp { status: 0, .. }) => Ok(()),
        Ok(SetLogMasksResp { status, .. }) => {
            Err(format!("it refuses (status {status}); its log says why"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Tells an engine that has just started what was put over its mask; one of another make keeps the mask of its
/// configuration, as that control plane has it.
pub(crate) async fn tell_new(state: &State, socket: &Path) -> Result<(), String> {
    let masks = state.log_masks.overlay();
    if masks.is_empty() || state.config.engine_path.is_some() {
        return Ok(());
    }
    let request = SetLogMasksReq {
        sys: state.config.name.clone(),
        masks,
        ..SetLogMasksReq::default()
    };
    tell(socket, &request).await
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn items_of_plugins_are_told_from_others() {
        let (plugins, others) = split("ERR, bdev-a=DEBUG,log=INFO,", |n| n == "bdev-a");
        assert_eq!(
            (plugins, others),
            (vec!["bdev-a=DEBUG"], vec!["ERR", "log=INFO"])
        );
        assert_eq!(split("", |_| true), (vec![], vec![]));
    }
}
