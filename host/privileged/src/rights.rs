//! Rights of this process: who may start it, and what it keeps.

use nix::unistd::{Uid, geteuid, getgid, getuid, setresgid, setresuid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// Whom this process works for.
///
/// # Errors
/// It does not run as root for somebody else.
pub(crate) fn caller() -> Result<Uid, String> {
    let (caller, effective) = (getuid(), geteuid());
    if !effective.is_root() {
        return Err(format!(
            "this program needs rights that user {caller} lacks; install it as root:GROUP with mode 4750, GROUP being that \
             of the daemon, on a file system without nosuid"
        ));
    }
    if caller.is_root() {
        return Err("a daemon that runs as root has daos_server_helper for this".to_owned());
    }
    Ok(caller)
}

/// The set that these names (`CAP_SYS_ADMIN`) mean.
///
/// # Errors
/// A name that is none.
pub(crate) fn set_of(names: &[String]) -> Result<CapabilitySet, String> {
    let mut set = CapabilitySet::empty();
    for name in names {
        let known = name
            .strip_prefix("CAP_")
            .and_then(CapabilitySet::from_name)
            .ok_or_else(|| format!("{name} is no capability that this program knows"))?;
        set |= known;
    }
    Ok(set)
}

/// Becomes the caller, for good, with these capabilities: this thread, those that it starts, and the programs that they
/// run. No program run from here gets others, whatever bits its file has, and nobody may trace this process.
///
/// # Errors
/// The system refuses; then nothing may be done with what is left.
pub(crate) fn keep_only(kept: &CapabilitySet) -> Result<(), String> {
    let failed = |what: &str, e: rustix::io::Errno| format!("cannot {what}: {e}");
    let (user, group) = (getuid(), getgid());
    for capability in CapabilitySet::all().iter() {
        if !kept.contains(capability)
            && thread::capability_is_in_bounding_set(capability) == Ok(true)
        {
            thread::remove_capability_from_bounding_set(capability)
                .map_err(|e| failed("give capabilities up", e))?;
        }
    }
    thread::set_keep_capabilities(true).map_err(|e| failed("keep capabilities", e))?;
    setresgid(group, group, group).map_err(|e| format!("cannot become group {group}: {e}"))?;
    setresuid(user, user, user).map_err(|e| format!("cannot become user {user}: {e}"))?;
    thread::set_keep_capabilities(false).map_err(|e| failed("keep capabilities", e))?;
    let sets = CapabilitySets {
        effective: *kept,
        permitted: *kept,
        inheritable: *kept,
    };
    thread::set_capabilities(None, sets).map_err(|e| failed("give capabilities up", e))?;
    hand_on(*kept)?;
    thread::set_no_new_privs(true)
        .map_err(|e| failed("give up the rights of other programs", e))?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| failed("keep others from tracing this process", e))?;
    Ok(())
}

/// Hands capabilities on to programs that this thread runs.
fn hand_on(kept: CapabilitySet) -> Result<(), String> {
    kept.iter().try_for_each(|capability| {
        thread::configure_capability_in_ambient_set(capability, true)
            .map_err(|e| format!("cannot hand capabilities on: {e}"))
    })
}

/// Whether what comes next on this thread, and in programs that it runs, is done with the capabilities, or as the caller
/// alone could do it.
///
/// # Errors
/// The system refuses.
pub(crate) fn use_them(kept: CapabilitySet, yes: bool) -> Result<(), String> {
    let used = if yes { kept } else { CapabilitySet::empty() };
    // What is not inheritable leaves the ambient set by itself (capabilities(7)).
    let sets = CapabilitySets {
        effective: used,
        permitted: kept,
        inheritable: used,
    };
    thread::set_capabilities(None, sets).map_err(|e| format!("cannot change capabilities: {e}"))?;
    hand_on(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        let names = ["CAP_SYS_ADMIN".to_owned(), "CAP_CHOWN".to_owned()];
        let set = CapabilitySet::SYS_ADMIN | CapabilitySet::CHOWN;
        assert_eq!(set_of(&names), Ok(set));
        for wrong in ["SYS_ADMIN", "CAP_", "CAP_EVERYTHING", "cap_chown"] {
            assert!(set_of(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_has_no_rights_is_told_how_they_are_given() {
        let told = caller().expect_err("a test runs as itself");
        assert!(
            told.contains("4750") || told.contains("runs as root"),
            "{told}"
        );
    }
}
