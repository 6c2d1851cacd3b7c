//! Who asks, as the kernel says it.
//!
//! The uid is identity. Everything else here was read through a handle of the very process that
//! connected, and is a hint against mistakes: a program of the same uid can pretend to be another
//! (ptrace). There is no default caller and no way to make one without a uid.

use std::fmt;

/// Which way a question came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// gRPC on broker.sock.
    Broker,
    /// HTTP on imds.sock.
    Imds,
    /// HTTP on loopback: the uid comes from the kernel's socket table, and the header must be right.
    Loopback,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "broker.sock",
            Self::Imds => "imds.sock",
            Self::Loopback => "loopback",
        })
    }
}

/// Where the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// On the node itself: its pid and user namespaces are ours.
    Host,
    /// In a container: its uid 0 is not the node's root.
    Container,
    /// It could not be found out; no rule that names a unit, a slice or a pod permits, none that denies is
    /// ruled out by it, and uid 0 is not root.
    Unknown,
}

/// The pod of a process, from its cgroup path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The pod's uid, as Kubernetes gives it: lower case with dashes.
    pub uid: String,
    /// The container's id, where the path has one.
    pub container: Option<String>,
}

/// What is known about the process itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its pid in our namespace; for the record only.
    pub pid: i32,
    /// When it started, field 22 of `/proc/PID/stat`, in clock ticks.
    pub start: u64,
    /// The systemd unit, such as `backup.service`; `None` outside of one and where it cannot be known.
    pub unit: Option<String>,
    /// The systemd slice, such as `system.slice`.
    pub slice: Option<String>,
    /// The pod.
    pub pod: Option<Pod>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The uid as seen from the node's user namespace.
    pub uid: u32,
    /// The primary group, where the door tells it.
    pub gid: Option<u32>,
    /// The supplementary groups, where they could be read.
    pub groups: Vec<u32>,
    /// Which door.
    pub door: Door,
    /// Where it lives.
    pub place: Place,
    /// The process; `None` where the door cannot tell (loopback).
    pub process: Option<Process>,
    /// The unit that an identity header was made for (loopback); proof of having been given the header.
    pub header_unit: Option<String>,
}

impl Caller {
    /// Whether this is the node's own root, and nothing that merely looks like it.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0 && self.place == Place::Host
    }
}
