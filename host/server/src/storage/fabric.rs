//! Whether an engine could open its fabric: asked before a format, so that no storage is formatted for an
//! engine that cannot start.

use crate::plugins::Plugins;
use crate::state::State;
use daos_config::ClassKind;
use daos_plugin_api::control::ClassRequest;
use daos_proto::host::Fault;

/// What the fabric's plugin has against the engine's provider and interface.
pub(super) async fn refusal(plugins: &Plugins, state: &State, index: usize) -> Option<Fault> {
    let schemas = plugins.schemas();
    // A class that no plugin has was refused when the configuration was read.
    let class = state.config.class_of(index, ClassKind::Fabric, &schemas)?;
    let plugin = plugins.get(&class.plugin)?;
    let request = ClassRequest {
        class: class.class.clone(),
        config: state.config.servers.get(index)?.class_section(class),
    };
    plugins
        .validate(&plugin, &request)
        .await
        .err()
        .map(|fault| *fault)
}
