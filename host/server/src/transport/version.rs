//! Whether a caller's version goes with this server's, by the rules of the DAOS 2.8 control plane.

use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use daos_proto::{COMPONENT_HEADER, PROTOCOL_VERSION, VERSION_HEADER};
use tonic::Status;
use tonic::codegen::http::HeaderMap;

/// Fault number of components whose versions do not go together.
const INCOMPATIBLE: i32 = 616;
/// Fault number of a caller without headers whose system's name has another version.
pub(crate) const NO_COMPATIBILITY: i32 = 617;

/// What callers name themselves.
const COMPONENTS: [&str; 4] = ["admin", "agent", "server", "client"];

/// Minor versions that an agent may be away.
const AGENT_MINORS: u32 = 2;

/// Refuses a caller whose headers name a version that does not go with ours. Without both headers nothing is known,
/// see [`of_system`].
pub(super) fn of_headers(headers: &HeaderMap, method: &str) -> Result<(), Status> {
    let (Some(component), Some(version)) =
        (headers.get(COMPONENT_HEADER), headers.get(VERSION_HEADER))
    else {
        return Ok(());
    };
    let failed = |why: String| Status::unknown(format!("version check failed for {method}: {why}"));
    let component = String::from_utf8_lossy(component.as_bytes());
    if !COMPONENTS.contains(&&*component) {
        return Err(failed(format!("invalid component {component:?}")));
    }
    let version = String::from_utf8_lossy(version.as_bytes());
    let theirs =
        numbers(&version).ok_or_else(|| failed(format!("{version:?} is no version as 2.8.0")))?;
    if go_together(&component, theirs, numbers(PROTOCOL_VERSION)) {
        return Ok(());
    }
    Err(Fault::new(
        ResponseStatus::CtlErrConf,
        "server",
        INCOMPATIBLE,
        format!("component {component} of version {version} calls {method}"),
        format!("it does not go with this server, which speaks {PROTOCOL_VERSION}"),
        "use programs of one release on all machines",
    )
    .to_status())
}

/// Refuses a call without headers, in plain text, whose system's name (`name-version`) carries another version.
pub(crate) fn of_system(headers: &HeaderMap, sys: &str) -> Result<(), Box<Fault>> {
    if headers.contains_key(COMPONENT_HEADER) && headers.contains_key(VERSION_HEADER) {
        return Ok(());
    }
    let version = sys.rsplit_once('-').map_or("", |(_, version)| version);
    if version == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Box::new(Fault::new(
        ResponseStatus::CtlErrConf,
        "server",
        NO_COMPATIBILITY,
        format!("a caller without version asks for system {sys:?}"),
        format!("in plain text only callers of version {PROTOCOL_VERSION} are served"),
        format!(
            "send the headers {COMPONENT_HEADER} and {VERSION_HEADER}, or the system as name-{PROTOCOL_VERSION}"
        ),
    )))
}

fn go_together(component: &str, theirs: [u32; 3], ours: Option<[u32; 3]>) -> bool {
    let Some(ours) = ours else { return false };
    match (theirs, ours) {
        _ if theirs == ours => true,
        ([major, minor, _], [own, own_minor, _]) if component == "agent" => {
            major == own && minor.abs_diff(own_minor) <= AGENT_MINORS
        }
        // Before 2.0 the protocol was another one.
        ([..2, _, _], _) => false,
        ([major, minor, _], [own, own_minor, _]) => (major, minor) == (own, own_minor),
    }
}

/// The numbers of `2.8.0`, or of `2.8.0-rc1`.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let (numbers, _) = version.split_once(['-', '+']).unwrap_or((version, ""));
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn headers(component: &str, version: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COMPONENT_HEADER, component.parse().unwrap());
        headers.insert(VERSION_HEADER, version.parse().unwrap());
        headers
    }

    fn number(error: &Status) -> i32 {
        Fault::from_status(error).map_or(0, |fault| fault.code)
    }

    #[test]
    fn versions_go_together_as_they_do_there() {
        for (component, version) in [
            ("admin", "2.8.0"),
            ("admin", "2.8.7"),
            ("server", "2.8.1-rc2"),
            ("agent", "2.6.0"),
            ("agent", "2.10.3"),
            ("client", "2.8.0"),
        ] {
            assert!(
                of_headers(&headers(component, version), "/m").is_ok(),
                "{version}"
            );
        }
        for (component, version) in [
            ("admin", "2.6.0"),
            ("admin", "2.9.0"),
            ("agent", "2.4.0"),
            ("agent", "3.8.0"),
            ("server", "1.2.0"),
        ] {
            let error = of_headers(&headers(component, version), "/m").unwrap_err();
            assert_eq!(number(&error), INCOMPATIBLE, "{component} {version}");
            assert!(error.message().contains(version), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_plain_error() {
        for (component, version) in [("bogus", "2.8.0"), ("admin", "2.8"), ("admin", "x.y.z")] {
            let error = of_headers(&headers(component, version), "/m").unwrap_err();
            assert_eq!((error.code(), number(&error)), (Code::Unknown, 0));
            assert!(
                error.message().contains("version check failed for /m"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_caller_without_headers_shows_its_version_with_the_system() {
        let none = HeaderMap::new();
        assert!(of_headers(&none, "/m").is_ok());
        assert!(of_system(&none, "daos_server-2.8.0").is_ok());
        assert!(of_system(&headers("admin", "2.8.0"), "").is_ok());
        for sys in ["", "daos_server", "daos_server-2.6.0"] {
            assert_eq!(
                of_system(&none, sys).unwrap_err().code,
                NO_COMPATIBILITY,
                "{sys}"
            );
        }
    }
}
