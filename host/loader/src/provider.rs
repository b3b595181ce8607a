//! Why a fabric provider has no plugin, and what mends that.

use crate::catalogue::Catalogue;
use crate::inspect::PluginFile;
use crate::refusal::Refused;
use daos_plugin_api::control::{ClassKind, provider_class};
use std::path::Path;

/// A provider whose plugin is missing, or must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("provider {provider}: {}; {}", self.cause(), self.remedy())]
pub struct NoProvider {
    /// As it was asked for.
    pub provider: String,
    /// The file that would be its plugin, and why it is not used.
    pub refused: Option<Refused>,
    /// Fabric classes that are available, sorted.
    pub known: Vec<String>,
}

impl NoProvider {
    /// Looks for the reason among the files that were refused.
    pub(crate) fn of(catalogue: &Catalogue, provider: &str) -> Self {
        let class = provider_class(provider).unwrap_or_default();
        let is_plugin = |path: &Path| match PluginFile::read_manifest(path) {
            Ok(info) => info.class(ClassKind::Fabric, class).is_some(),
            // A file that is damaged, or empty since it was built without its library, has its name left.
            Err(_) => path
                .file_name()
                .is_some_and(|name| name == file(class).as_str()),
        };
        let refused = catalogue.refused.iter().find(|r| is_plugin(&r.path));
        Self {
            provider: provider.to_owned(),
            refused: refused.cloned(),
            known: catalogue.classes(ClassKind::Fabric),
        }
    }

    /// What is wrong.
    pub fn cause(&self) -> String {
        match &self.refused {
            Some(refused) => {
                let reason = refused.reason.to_string();
                let cause = reason
                    .rsplit_once("; ")
                    .map_or(&*reason, |(cause, _)| cause);
                format!("its plugin {} is refused: {cause}", refused.path.display())
            }
            None => format!(
                "no plugin provides fabric class `{}`; available: {}",
                self.class(),
                self.known.join(", ")
            ),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let reason = self
            .refused
            .as_ref()
            .map(|refused| refused.reason.to_string());
        match reason
            .as_deref()
            .and_then(|reason| reason.rsplit_once("; "))
        {
            Some((_, remedy)) => remedy.to_owned(),
            None => format!(
                "put {} into the plugin directory, or take a provider that `network scan` shows",
                file(self.class())
            ),
        }
    }

    /// Whether the provider is known to be one although it has no plugin: there is a file for it, or its name says
    /// which family it belongs to. Any other name may as well be misspelled.
    pub fn is_named(&self) -> bool {
        self.refused.is_some() || self.provider.contains('+')
    }

    fn class(&self) -> &str {
        provider_class(&self.provider).unwrap_or_default()
    }
}

/// File of a fabric class's plugin, by the convention for names of plugins.
fn file(class: &str) -> String {
    format!("libdaos_fabric_{class}.so")
}
