//! What the kernel says of processes, read from `/proc` (proc(5)).
//!
//! Every answer may be out of date when it arrives: whoever acts on one takes a hold on the process first and
//! asks again. It must never guess at a field that cannot be read.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use nightlatch_wire::NO_LOGINUID;

/// The most bytes of a file of `/proc/PID` that are read. `Uid:` stands within the first few hundred of
/// `status`, whatever the list of groups behind it.
const MAX_FILE_BYTES: u64 = 4_096;
/// The majors of `/dev/pts` (Documentation/admin-guide/devices.txt), and how many minors each has.
const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
const PTS_MINORS: u32 = 256;
/// Ticks of a process's start time in one second: USER_HZ, fixed on every architecture that we build for.
pub const TICKS_PER_SECOND: u64 = 100;

/// From `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name in field 2, as much of it as is UTF-8.
    pub comm: String,
    /// Whether nothing of it runs any more: a zombie without a living thread.
    pub dead: bool,
    /// Field 4.
    pub parent: u32,
    /// The number of its terminal in `/dev/pts`, when it has one.
    pub pts: Option<u32>,
    /// Field 22: start after boot, in clock ticks.
    pub start: u64,
}

/// Whose a process is: from `status`, `loginuid` and `sessionid` of `/proc/PID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Real, effective, saved and file-system uid.
    pub uids: [u32; 4],
    /// The login uid; [`NO_LOGINUID`] when unset.
    pub loginuid: u32,
    /// The audit session id; [`NO_LOGINUID`] when unset.
    pub session: u32,
}

/// The process table of a machine.
pub trait Processes: Send + Sync {
    /// The ids of all processes.
    fn pids(&self) -> Vec<u32>;
    /// Name, parent, terminal and start of one; `None` when it is gone.
    fn stat(&self, pid: u32) -> Option<Stat>;
    /// Whose one is; `None` when it is gone.
    fn owner(&self, pid: u32) -> Option<Owner>;
    /// The control groups of one, as `/proc/PID/cgroup` lists them; empty when it is gone.
    fn cgroup(&self, pid: u32) -> String;
    /// The names of the units that were made at run time (`systemd-run`).
    fn transient_units(&self) -> Vec<String>;
    /// Whether the table can be read now. Where it cannot, for want of descriptors or memory, processes that are not found
    /// are not gone.
    fn is_legible(&self) -> bool {
        true
    }
}

/// This machine's own.
#[derive(Debug)]
pub struct ProcFs {
    units: PathBuf,
}

impl Default for ProcFs {
    fn default() -> Self {
        Self { units: "/run/systemd/transient".into() }
    }
}

impl Processes for ProcFs {
    fn pids(&self) -> Vec<u32> {
        let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
        folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        parse_stat(&read(pid, "stat")?)
    }

    fn owner(&self, pid: u32) -> Option<Owner> {
        let uids = parse_uids(&read(pid, "status")?)?;
        // A kernel without audit has neither file: then nothing is recorded of anybody.
        let number =
            |name| read(pid, name).and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
        let loginuid = number("loginuid").unwrap_or(NO_LOGINUID);
        Some(Owner { uids, loginuid, session: number("sessionid").unwrap_or(NO_LOGINUID) })
    }

    fn cgroup(&self, pid: u32) -> String {
        read(pid, "cgroup").map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    fn transient_units(&self) -> Vec<String> {
        let Ok(folder) = fs::read_dir(&self.units) else { return Vec::new() };
        let names = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".service")).collect()
    }

    fn is_legible(&self) -> bool {
        // As deep as a look goes: the folder and a file of a process at the same time.
        fs::read_dir("/proc").is_ok_and(|_held| self.owner(std::process::id()).is_some())
    }
}

fn read(pid: u32, name: &str) -> Option<Vec<u8>> {
    // The kernel makes each of these files whole for whoever has room for it.
    let mut text = Vec::with_capacity(usize::try_from(MAX_FILE_BYTES).unwrap_or_default());
    File::open(format!("/proc/{pid}/{name}")).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Reads a `stat` line. The name in field 2 is any bytes in parentheses, blanks and `)` included, so the
/// fields are counted from the last `)`.
#[must_use]
pub fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let terminal = fields.nth(2)?.parse::<i64>().ok()?;
    let threads: u64 = fields.nth(12)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    // A first thread that has ended leaves a zombie behind which the others live on.
    let dead = matches!(state, "Z" | "X" | "x") && threads <= 1;
    Some(Stat { comm, dead, parent, pts: pts_of(terminal), start })
}

/// The number in `/dev/pts` of a device as field 7 of `stat` writes it: minor in bits 31 to 20 and 7 to 0,
/// major in bits 15 to 8.
fn pts_of(device: i64) -> Option<u32> {
    let device = u32::try_from(device & 0xffff_ffff).ok()?;
    let (major, minor) = ((device >> 8) & 0xff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    PTS_MAJORS.contains(&major).then(|| (major - PTS_MAJORS.start()) * PTS_MINORS + minor)
}

/// The four numbers behind `Uid:`. The name in the first line has its newlines escaped.
fn parse_uids(status: &[u8]) -> Option<[u32; 4]> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let mut numbers = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let mut uids = [0; 4];
    for uid in &mut uids {
        *uid = numbers.next()?.parse().ok()?;
    }
    Some(uids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_from_its_last_parenthesis() {
        let line = b"77 (a) b (c)) S 4 77 77 34817 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 4711 1 2 3";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat, Stat { comm: "a) b (c)".into(), dead: false, parent: 4, pts: Some(1), start: 4711 });
        for short in [&line[..20], b"", b"77 (x", b"77 (x) S"] {
            assert_eq!(parse_stat(short), None);
        }
    }

    #[test]
    fn a_zombie_with_living_threads_is_not_dead() {
        let line =
            |state, threads| format!("7 (x) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 0");
        let dead = |state, threads| parse_stat(line(state, threads).as_bytes()).unwrap().dead;
        assert!(dead("Z", 1));
        assert!(dead("X", 0));
        assert!(!dead("Z", 2));
        assert!(!dead("S", 1));
    }

    #[test]
    fn terminals_are_numbered_as_in_dev_pts() {
        assert_eq!(pts_of(136 << 8), Some(0));
        assert_eq!(pts_of((136 << 8) | 255), Some(255));
        assert_eq!(pts_of((136 << 8) | (1 << 20)), Some(256));
        assert_eq!(pts_of((143 << 8) | 3), Some(7 * 256 + 3));
        for other in [0, 4 << 8, 135 << 8, 144 << 8, -1] {
            assert_eq!(pts_of(other), None, "{other}");
        }
    }

    #[test]
    fn this_process_is_read_as_it_is() {
        let (table, own) = (ProcFs::default(), std::process::id());
        let stat = table.stat(own).unwrap();
        assert!(!stat.dead && stat.start > 0);
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert_eq!(table.owner(own).unwrap().uids, [nix::unistd::getuid().as_raw(); 4]);
        assert!(table.pids().contains(&own));
        assert_eq!(table.stat(u32::MAX), None);
        assert_eq!(table.owner(u32::MAX), None);
    }
}
