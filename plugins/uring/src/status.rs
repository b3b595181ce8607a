//! Meaning of kernel error numbers on the data path.

use daos_plugin_api::abi::Status;

/// Status of a request that failed with `errno` (positive).
pub fn status_of(errno: i32) -> Status {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Status::NO_SPACE,
        libc::ENODEV | libc::ENXIO | libc::ENOMEDIUM => Status::DEVICE_GONE,
        // What the block layer makes of "medium error" and of failed protection information.
        libc::ENODATA | libc::EILSEQ => Status::MEDIA,
        libc::ETIMEDOUT => Status::TIMED_OUT,
        libc::ECANCELED => Status::CANCELLED,
        libc::EOPNOTSUPP => Status::NOT_SUPPORTED,
        libc::ENOMEM => Status::NO_MEMORY,
        libc::EPERM | libc::EACCES | libc::EROFS => Status::PERMISSION,
        libc::EINVAL | libc::EFAULT => Status::INVALID,
        _ => Status::IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_hosts_act_upon_keep_their_meaning() {
        for (errno, status) in [
            (libc::EIO, Status::IO),
            (libc::ENOSPC, Status::NO_SPACE),
            (libc::ENODATA, Status::MEDIA),
            (libc::ENODEV, Status::DEVICE_GONE),
            (libc::ENXIO, Status::DEVICE_GONE),
            (libc::ECANCELED, Status::CANCELLED),
            (libc::EREMOTEIO, Status::IO),
        ] {
            assert_eq!(status_of(errno), status, "errno {errno}");
        }
    }
}
