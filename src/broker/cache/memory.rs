//! Keeps tokens out of the swap area.
//!
//! What was considered. Locking each token's own pages (mlock) or an arena with `MADV_DONTDUMP` protects
//! one of many copies: the same text passes through buffers of TLS, HTTP and JSON on the ordinary heap, in
//! and out. So the whole process is locked or nothing is claimed. `mlockall` counts all mappings, touched
//! or not, against `RLIMIT_MEMLOCK`, whose usual values (64 KiB, 8 MiB) are far less than a process with
//! thread stacks maps; below that every later allocation would fail. Hence: everything is locked as it is
//! touched (`MCL_ONFAULT`, so nothing but the pages in use stays resident) when the limit is infinite,
//! which the unit file asks for with `LimitMEMLOCK=infinity` and which needs no capability; otherwise
//! nothing is locked, and that is said. The core dump is the other way to disk: it is shut for the whole
//! process with `PR_SET_DUMPABLE` and `LimitCORE=0`, by the agent and its unit. The text of a token is
//! overwritten when its last holder lets go ([`nightlatch_model::Secret`]).

use std::fmt;

use nix::errno::Errno;
use nix::libc::MCL_ONFAULT;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// Whether the memory of this process can reach the swap area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// All of it is locked, what is still to come as well.
    All,
    /// Nothing is: the limit on locked memory is this many bytes.
    Limited(u64),
    /// Nothing is: the kernel refused.
    Refused(Errno),
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("memory is locked: no token can reach the swap area"),
            Self::Limited(bytes) => write!(
                f,
                "memory is not locked (RLIMIT_MEMLOCK is {bytes} bytes): set LimitMEMLOCK=infinity, \
                 or use no swap"
            ),
            Self::Refused(errno) => {
                write!(f, "memory is not locked (mlockall: {}): use no swap", errno.desc())
            }
        }
    }
}

/// Locks the memory of the whole process where that cannot make an allocation fail later. To be called
/// once, before the first token.
#[must_use]
pub fn lock_all() -> Locked {
    let limit = match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) => soft,
        Err(errno) => return Locked::Refused(errno),
    };
    lock_below(limit, mlockall)
}

fn lock_below(limit: u64, lock: impl FnOnce(MlockAllFlags) -> nix::Result<()>) -> Locked {
    if limit != RLIM_INFINITY {
        return Locked::Limited(limit);
    }
    let on_fault = MlockAllFlags::from_bits_retain(MCL_ONFAULT);
    match lock(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault) {
        Ok(()) => Locked::All,
        Err(errno) => Locked::Refused(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::read_to_string;

    #[test]
    fn a_limit_leaves_everything_unlocked_and_is_named() {
        for limit in [0, 64 << 10, 8 << 20, RLIM_INFINITY - 1] {
            let said = lock_below(limit, |_| panic!("below a limit nothing may be locked"));
            assert_eq!(said, Locked::Limited(limit));
            assert!(said.to_string().contains("LimitMEMLOCK=infinity"));
        }
        let refused = lock_below(RLIM_INFINITY, |_| Err(Errno::EPERM));
        assert_eq!(refused, Locked::Refused(Errno::EPERM));
        let mut asked = MlockAllFlags::empty();
        let all = lock_below(RLIM_INFINITY, |flags| {
            asked = flags;
            Ok(())
        });
        assert_eq!((all, asked.bits() & MCL_ONFAULT), (Locked::All, MCL_ONFAULT));
    }

    #[test]
    fn the_kernel_agrees_with_what_is_said() {
        let said = lock_all();
        let status = read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        let locked: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        assert_eq!(said == Locked::All, locked > 0, "{said}: {line}");
    }
}
