//! Waiting for a file or device that its last user is about to let go.

use crate::holders::{Opened, descriptors, holders};
use std::time::{Duration, Instant};

/// How long to wait for whoever has it: looking at a device takes it for a moment.
const SHORT: Duration = Duration::from_millis(100);

/// How long to wait while no process has it. The kernel takes a ring apart after the process that made it
/// is gone, so that a killed engine's devices are released a moment after its end, later on a busy machine.
const LONG: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(10);

/// Repeats `attempt` while it returns `None` and there is hope: a moment in any case, some seconds while no
/// process that can be seen has `opened` open but for `own` descriptors of this one.
///
/// # Errors
/// The first error of `attempt`.
pub fn until_released<T, E>(
    opened: Opened,
    own: usize,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let begun = Instant::now();
    let mut next_look = SHORT;
    loop {
        if let Some(taken) = attempt()? {
            return Ok(Some(taken));
        }
        let waited = begun.elapsed();
        if waited >= LONG {
            return Ok(None);
        }
        if waited >= next_look {
            if descriptors(std::process::id(), opened) > own || !holders(opened).is_empty() {
                return Ok(None);
            }
            // Looking through all processes is not cheap.
            next_look = waited + SHORT;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    fn opened(file: &File) -> Opened {
        let found = file.metadata().unwrap();
        Opened::File {
            dev: found.dev(),
            ino: found.ino(),
        }
    }

    #[test]
    fn what_nobody_holds_is_waited_for() {
        let file = tempfile::tempfile().unwrap();
        let begun = Instant::now();
        let taken = until_released(opened(&file), 1, || {
            Ok::<_, ()>((begun.elapsed() > 4 * SHORT).then_some(()))
        });
        assert_eq!(taken, Ok(Some(())));
    }

    #[test]
    fn a_holder_is_not_waited_for() {
        let file = tempfile::tempfile().unwrap();
        let begun = Instant::now();
        let taken = until_released(opened(&file), 0, || Ok::<Option<()>, ()>(None));
        assert_eq!(taken, Ok(None));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn errors_end_the_waiting() {
        let file = tempfile::tempfile().unwrap();
        let taken = until_released(opened(&file), 1, || Err::<Option<()>, _>("broken"));
        assert_eq!(taken, Err("broken"));
    }
}
