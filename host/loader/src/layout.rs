//! Layout check of the Rust entry, in both directions.
//!
//! abi_stable's check is one-directional: it lets an implementation have more members than the
//! interface expects, not fewer. A plugin that is older than the host has fewer, a newer one has
//! more, and both are fine: tables start with their size and readers look at it. So a plugin is
//! accepted when either direction holds.

use crate::info::AbiVersion;
use abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityErrors, check_layout_compatibility,
};
use abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};

/// The plugin's tables are laid out differently. `Display` is one sentence; the checker's own
/// report (tens of kilobytes) is in `report`, for the debug log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "interface {plugin} of the plugin and {host} of this host differ in `{place}` ({what}); rebuild the plugin with the released SDK of interface {host}"
)]
pub struct LayoutMismatch {
    /// Interface version of the plugin.
    pub plugin: AbiVersion,
    /// Interface version of this host.
    pub host: AbiVersion,
    /// Type and member that differ.
    pub place: String,
    /// How they differ.
    pub what: String,
    /// The layout checker's full report.
    pub report: String,
}

/// Whether a plugin whose root has `plugin_layout` can serve a host that expects `host_layout`.
///
/// # Errors
/// Neither can stand for the other.
pub fn compatible_layouts(
    host_layout: &'static TypeLayout,
    plugin_layout: &'static TypeLayout,
    plugin: AbiVersion,
) -> Result<(), LayoutMismatch> {
    // The plugin has as much as the host expects, or more.
    let Err(newer) = check_layout_compatibility(host_layout, plugin_layout) else {
        return Ok(());
    };
    // The plugin has less, and nothing that the host does not know.
    let Err(older) = check_layout_compatibility(plugin_layout, host_layout) else {
        return Ok(());
    };
    // Tell of the direction with less to complain about: it is nearer to the cause.
    let errors = if older.errors.len() < newer.errors.len() {
        &older
    } else {
        &newer
    };
    let (place, what) = difference(errors);
    Err(LayoutMismatch {
        plugin,
        host: AbiVersion::HOST,
        place,
        what,
        report: format!("{newer}"),
    })
}

/// The innermost difference: where, and what.
fn difference(errors: &AbiInstabilityErrors) -> (String, String) {
    let Some(deepest) = errors.errors.iter().max_by_key(|e| e.stack_trace.len()) else {
        return ("?".to_owned(), "unknown difference".to_owned());
    };
    let mut place: Vec<&str> = Vec::new();
    for step in deepest.stack_trace.iter() {
        let name = match &step.expected {
            TLFieldOrFunction::Field(field) => field.name(),
            TLFieldOrFunction::Function(function) => function.name.as_str(),
        };
        // Steps through tuples, options and signatures say nothing to a reader.
        let number = name.trim_start_matches("field_").parse::<u32>();
        if number.is_err() && !name.starts_with("__") && place.last() != Some(&name) {
            place.push(name);
        }
    }
    if place.is_empty() {
        place.push(errors.interface.name());
    }
    let text = place.join(".");
    let what = deepest
        .errs
        .first()
        .map_or("unknown difference".to_owned(), describe);
    (clip(&text, 60), clip(&what, 60))
}

fn describe(error: &AbiInstability) -> String {
    use AbiInstability as A;
    match error {
        A::Name(x) => format!("type {} here, {} there", x.expected, x.found),
        A::Size(x) => format!("{} bytes here, {} there", x.expected, x.found),
        A::Alignment(x) => format!("alignment {} here, {} there", x.expected, x.found),
        A::FieldCountMismatch(x) => format!("{} members here, {} there", x.expected, x.found),
        A::UnexpectedField(x) => {
            format!(
                "member {} here, {} there",
                x.expected.name(),
                x.found.name()
            )
        }
        A::PackageVersion(x) => format!("version {} here, {} there", x.expected, x.found),
        A::MismatchedPrefixSize(_) => "another set of first members".to_owned(),
        A::MismatchedPrimitive(_) => "another type".to_owned(),
        A::TLDataDiscriminant(_) => "another kind of type".to_owned(),
        other => {
            // `Debug` of these prints whole layouts; the variant's name is what helps.
            let text = format!("{other:?}");
            text.split(|c: char| !c.is_alphanumeric())
                .next()
                .unwrap_or_default()
                .to_owned()
        }
    }
}

fn clip(text: &str, limit: usize) -> String {
    let mut out: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limit)
        .collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}
