//! Giving a new configuration to the sshd that runs, and waiting until it has it: a reload only sends
//! SIGHUP, upon which sshd closes its sockets, starts itself anew and opens them again (openssh sshd.c,
//! sighup_restart). Who logs in or writes sshd_config in between meets neither the old nor the new one.

use std::collections::BTreeSet;

use super::place::Root;
use super::tools::Tools;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// Looks at sshd after a reload; with the pause between them about five seconds.
const MAX_LOOKS: u32 = 250;
/// The state LISTEN in /proc/net/tcp.
const LISTEN: &str = "0A";

/// Reloads sshd and waits until it listens with the new configuration.
///
/// # Errors
/// What the person has to do.
pub(super) fn reload(root: &Root, tools: &dyn Tools) -> Result<(), String> {
    let property = |unit: &str, name: &str| {
        tools.run(SYSTEMCTL, &["show", "-p", name, "--value", unit]).map(|said| said.out.trim().to_owned())
    };
    let mut units = ["ssh.service", "sshd.service"].into_iter();
    let Some(unit) = units.find(|unit| property(unit, "LoadState").as_deref() == Some("loaded")) else {
        return Err("no sshd unit is known to systemd: reload sshd yourself".to_owned());
    };
    let pid = || property(unit, "MainPID").and_then(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid != 0);
    let before = pid().map(|pid| listeners(root, pid)).unwrap_or_default();
    // Where sshd is started by a socket there may be nothing to reload, and nothing needs it.
    match tools.run(SYSTEMCTL, &["try-reload-or-restart", unit]) {
        Some(said) if said.ok => {}
        said => {
            let said = said.map_or_else(|| "it cannot be run".to_owned(), |said| said.complaint());
            return Err(format!("sshd was not reloaded, run `systemctl reload {unit}`: {said}"));
        }
    }
    // A socket that systemd holds outlives the reload, so there would be nothing to see.
    let handed_over = ["ssh.socket", "sshd.socket"]
        .into_iter()
        .any(|socket| property(socket, "ActiveState").as_deref() == Some("active"));
    if before.is_empty() || handed_over {
        return Ok(());
    }
    for _ in 0..MAX_LOOKS {
        let now = pid().map(|pid| listeners(root, pid)).unwrap_or_default();
        if !now.is_empty() && now.is_disjoint(&before) {
            return Ok(());
        }
        tools.pause();
    }
    Err(format!("sshd does not listen anew after its reload: look at `systemctl status {unit}` now"))
}

/// The listening TCP sockets of a process, by inode.
fn listeners(root: &Root, pid: u32) -> BTreeSet<String> {
    let listening: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(root.path(table)).ok())
        .flat_map(|table| listening_inodes(&table))
        .collect();
    let Ok(entries) = std::fs::read_dir(root.path(&format!("/proc/{pid}/fd"))) else {
        return BTreeSet::new();
    };
    let targets = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let inodes = targets
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned));
    inodes.filter(|inode| listening.contains(inode)).collect()
}

/// The inodes of listening sockets in the text of /proc/net/tcp (proc(5)).
fn listening_inodes(table: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(3) == Some(&LISTEN)).then(|| words.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::attach::tools::Said;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41 1 0 100 0 0 10 0\n\
   1: 0100007F:0016 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 42 1 0 100 0 0 10 0\n\
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0 100 0 0 10 0\n";

    /// An sshd that listens anew after so many looks; `None` never does.
    struct Slow {
        root: Root,
        looks: Cell<Option<u32>>,
        reloads: Cell<u32>,
    }

    impl Tools for Slow {
        fn run(&self, _: &str, arguments: &[&str]) -> Option<Said> {
            let out = match arguments {
                ["show", "-p", "LoadState", ..] => "loaded",
                ["show", "-p", "MainPID", ..] => "7",
                ["show", "-p", "ActiveState", ..] => "inactive",
                _ => {
                    self.reloads.set(self.reloads.get() + 1);
                    ""
                }
            };
            Some(Said { ok: true, out: format!("{out}\n"), err: String::new() })
        }

        fn pause(&self) {
            self.looks.set(self.looks.get().map(|left| left.saturating_sub(1)));
            if self.looks.get() == Some(0) {
                let fd = self.root.path("/proc/7/fd/3");
                std::fs::remove_file(&fd).unwrap();
                symlink("socket:[77]", fd).unwrap();
            }
        }
    }

    fn reloaded(looks: Option<u32>) -> (Result<(), String>, u32) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        std::fs::create_dir_all(root.path("/proc/7/fd")).unwrap();
        std::fs::create_dir_all(root.path("/proc/net")).unwrap();
        std::fs::write(root.path("/proc/net/tcp"), TABLE).unwrap();
        symlink("socket:[41]", root.path("/proc/7/fd/3")).unwrap();
        symlink("/dev/null", root.path("/proc/7/fd/0")).unwrap();
        let sshd = Slow { root: root.clone(), looks: Cell::new(looks), reloads: Cell::new(0) };
        (reload(&root, &sshd), sshd.reloads.get())
    }

    #[test]
    fn it_waits_until_sshd_listens_anew() {
        assert_eq!(reloaded(Some(3)), (Ok(()), 1));
        let (never, reloads) = reloaded(None);
        assert!(never.unwrap_err().contains("does not listen anew"));
        assert_eq!(reloads, 1);
    }

    #[test]
    fn only_listening_sockets_count() {
        assert_eq!(listening_inodes(TABLE), ["41", "77"]);
        assert!(listening_inodes("nonsense\n").is_empty());
    }
}
