//! Ends of an engine after which it is not started again by itself.

use super::supervise::Task;
use super::tail::Tail;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{EngineState, Fault};
use tracing::error;

impl Task {
    /// The engine found its storage to be other than recorded.
    pub(super) fn mismatch(&self, tail: &Tail) {
        let why = tail.last();
        error!(engine = self.index, "storage mismatch: {why}");
        self.state.update(self.index, |e| {
            e.enter(
                EngineState::StorageMismatch,
                format!("its storage is not what was formatted: {why}"),
            );
            e.hint =
                "if the data is lost for good: daos_shell storage format --reformat".to_owned();
            e.fault = Some(fault(
                "the engine's storage is not what was formatted",
                &why,
                &e.hint.clone(),
                tail,
            ));
        });
    }

    pub(super) fn fail(&self, what: &str, why: &str, remedy: &str, tail: &Tail) {
        error!(engine = self.index, "{what}: {why}");
        self.state.update(self.index, |e| {
            e.enter(EngineState::Errored, format!("{what}: {why}"));
            e.hint = remedy.to_owned();
            e.fault = Some(fault(what, why, remedy, tail));
        });
    }

    /// The system does not take the engine.
    pub(super) fn not_taken(&self, refusal: &Fault) {
        error!(engine = self.index, "{refusal}");
        self.state.update(self.index, |e| {
            e.enter(EngineState::Errored, refusal.description());
            e.hint.clone_from(&refusal.remedy);
            e.fault = Some(refusal.clone());
        });
    }
}

pub(super) fn fault(what: &str, why: &str, remedy: &str, tail: &Tail) -> Fault {
    let mut fault = Fault::new(ResponseStatus::CtlErrApp, "server", 0, what, why, remedy);
    fault.log = tail.lines();
    fault
}
