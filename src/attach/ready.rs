//! What must be there before anything is switched: a login that asks a helper which is missing, or a
//! PAM line whose module is missing, shuts people out. Used by attach, which refuses, and by doctor.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::place::Root;
use super::plan::Mode;
use super::sshd_config::Line;
use super::{nsswitch, pam_edit, pam_stack, sshd_edit};

/// The keeper of sessions, which mode observe can do without.
pub const SESSIOND: &str = "/usr/libexec/nightlatch/sessiond";
/// The programs that sshd, PAM, NSS and sessions rest on.
pub const PROGRAMS: [&str; 4] = [
    "/usr/libexec/nightlatch/authorized-keys",
    pam_edit::HELPER,
    "/usr/libexec/nightlatch/userdbd",
    SESSIOND,
];

/// The modules that our PAM lines name.
const fn modules(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Enforce => &["pam_succeed_if.so", "pam_exec.so", "pam_mkhomedir.so"],
        Mode::Observe => &["pam_exec.so"],
    }
}

/// Where libraries are; `*` stands for the machine's triplet.
const LIBRARY_FOLDERS: [&str; 6] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/lib/*", "/lib/*"];

/// What is unsafe about a program or one of its parents, by the rules of sshd (openssh misc.c,
/// safe_path) which hold for PAM's helper as well; each item says what to do.
#[must_use]
pub fn program_faults(root: &Root, path: &str) -> Vec<String> {
    let mut faults = Vec::new();
    match std::fs::symlink_metadata(root.path(path)) {
        Err(cause) => return vec![format!("`{path}` cannot be found ({cause}): install the package again")],
        Ok(meta) => {
            if !meta.is_file() {
                return vec![format!("`{path}` is not a plain file: install the package again")];
            }
            faults.extend(write_fault(root, path, &meta));
            // The hook runs as its own user, so the last bit counts.
            if meta.mode() & 0o001 == 0 || meta.mode() & 0o004 == 0 {
                faults.push(format!(
                    "`{path}` (mode {:04o}) cannot be run by others: `chmod 0755 {path}`",
                    meta.mode() & 0o7777
                ));
            }
        }
    }
    let mut folder = path;
    while let Some((parent, _)) = folder.rsplit_once('/') {
        folder = parent;
        let shown = if folder.is_empty() { "/" } else { folder };
        match std::fs::metadata(root.path(shown)) {
            Ok(meta) => faults.extend(write_fault(root, shown, &meta)),
            Err(cause) => faults.push(format!("`{shown}` cannot be looked at: {cause}")),
        }
        if folder.is_empty() {
            break;
        }
    }
    faults
}

fn write_fault(root: &Root, path: &str, meta: &Metadata) -> Option<String> {
    write_fault_of(path, meta.uid() == root.owner(), meta.uid(), meta.mode())
}

fn write_fault_of(path: &str, owned: bool, uid: u32, mode: u32) -> Option<String> {
    if !owned {
        return Some(format!(
            "`{path}` is owned by uid {uid}, so sshd will not run what is in it: `chown root {path}`"
        ));
    }
    let open = mode & 0o022;
    (open != 0).then(|| {
        format!(
            "`{path}` (mode {:04o}) is writable by others, so sshd will not run it: `chmod go-w {path}`",
            mode & 0o7777
        )
    })
}

/// Whether a library or module is in one of the machine's folders, below `sub`.
fn has_library(root: &Root, sub: &str, name: &str) -> bool {
    LIBRARY_FOLDERS.iter().any(|folder| {
        let Some(parent) = folder.strip_suffix("/*") else {
            return root.path(&format!("{folder}{sub}/{name}")).exists();
        };
        let entries = std::fs::read_dir(root.path(parent));
        entries.is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.path().join(sub.trim_start_matches('/')).join(name).exists())
        })
    })
}

/// PAM modules of ours that are missing.
#[must_use]
pub fn missing_modules(root: &Root, mode: Mode) -> Vec<&'static str> {
    modules(mode).iter().copied().filter(|name| !has_library(root, "/security", name)).collect()
}

/// Whether nss-systemd is installed.
#[must_use]
pub fn has_nss_systemd(root: &Root) -> bool {
    has_library(root, "", "libnss_systemd.so.2")
}

/// What is wrong with some programs; a parent that they share is named once.
fn faults_of(root: &Root, programs: &[&str]) -> Vec<String> {
    let mut faults: Vec<String> = programs.iter().flat_map(|path| program_faults(root, path)).collect();
    let mut seen = std::collections::BTreeSet::new();
    faults.retain(|fault| seen.insert(fault.clone()));
    faults
}

fn module_faults(root: &Root, mode: Mode) -> impl Iterator<Item = String> {
    missing_modules(root, mode).into_iter().map(|module| {
        format!("the PAM module `{module}` is not installed: install `libpam-modules` (Debian) or `pam`")
    })
}

/// Everything that keeps attach from starting; empty when it may.
#[must_use]
pub fn faults(root: &Root, mode: Mode) -> Vec<String> {
    if mode == Mode::Observe {
        let mut faults = faults_of(root, &[pam_edit::HELPER]);
        faults.extend(module_faults(root, mode));
        return faults;
    }
    let mut faults = faults_of(root, &PROGRAMS);
    let passwd = root.text("/etc/passwd").ok().flatten().unwrap_or_default();
    let user = format!("{}:", sshd_edit::HOOK_USER);
    if !passwd.lines().any(|line| line.starts_with(&user)) {
        faults.push(format!("the user `{}` does not exist: run `systemd-sysusers`", sshd_edit::HOOK_USER));
    }
    faults.extend(module_faults(root, mode));
    if !has_nss_systemd(root) {
        faults.push("`libnss_systemd.so.2` is not installed: install `libnss-systemd`".to_owned());
    }
    faults
}

/// What mode observe can do without and mode enforce cannot.
#[must_use]
pub fn shortcomings(root: &Root) -> Vec<String> {
    let needed = faults(root, Mode::Observe);
    let mut missing = faults_of(root, &PROGRAMS);
    missing.retain(|fault| !needed.contains(fault));
    missing
}

/// Where Microsoft's own login agent stands in sshd, PAM and NSS.
#[must_use]
pub fn other_agent(root: &Root, lines: &[Line]) -> Vec<String> {
    let mut found = Vec::new();
    for line in lines.iter().filter(|line| line.value.contains("aad_certhandler")) {
        let matching = line.matching.as_deref().unwrap_or("everybody");
        found.push(format!("{}: sshd asks aadsshlogin's aad_certhandler (Match {matching})", line.place()));
    }
    for (path, text) in root.fitting("/etc/pam.d/*") {
        if pam_stack::statements(&text).iter().any(|(_, rule)| rule.module_name().starts_with("pam_aad")) {
            found.push(format!("{path}: names pam_aad"));
        }
    }
    let names = root.text(nsswitch::PATH).ok().flatten().unwrap_or_default();
    for database in nsswitch::DATABASES {
        if nsswitch::words(&names, database).is_some_and(|words| words.contains(&"aad")) {
            found.push(format!("{}: `{database}` names aad", nsswitch::PATH));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::sshd_config::walk;

    #[test]
    fn what_sshd_would_not_run_is_named() {
        assert_eq!(write_fault_of("/x", true, 0, 0o100_755), None);
        assert!(write_fault_of("/x", true, 0, 0o100_775).unwrap().contains("chmod go-w /x"));
        assert!(write_fault_of("/x", true, 0, 0o40_757).is_some());
        assert!(write_fault_of("/x", false, 1000, 0o100_755).unwrap().contains("chown root /x"));
    }

    #[test]
    fn an_empty_machine_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        let all = faults(&root, Mode::Enforce).join("\n");
        for word in [
            "authorized-keys",
            "libexec/nightlatch/pam",
            "libexec/nightlatch/sessiond",
            "nightlatch-hook",
            "pam_exec.so",
            "pam_mkhomedir.so",
            "libnss-systemd",
        ] {
            assert!(all.contains(word), "{word} in {all}");
        }
    }

    #[test]
    fn observing_needs_the_helper_and_its_module() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        let needed = faults(&root, Mode::Observe).join("\n");
        assert!(needed.contains("libexec/nightlatch/pam`") && needed.contains("pam_exec.so"), "{needed}");
        for word in ["sessiond", "authorized-keys", "pam_mkhomedir.so", "nightlatch-hook", "libnss"] {
            assert!(!needed.contains(word), "{word} in {needed}");
        }
        let rest = shortcomings(&root).join("\n");
        assert!(rest.contains("libexec/nightlatch/sessiond") && !rest.contains("nightlatch/pam`"), "{rest}");
    }

    #[test]
    fn the_other_agent_is_named_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        std::fs::create_dir_all(root.path("/etc/pam.d")).unwrap();
        root.write("/etc/nsswitch.conf", "passwd: files aad\n", 0o644).unwrap();
        root.write("/etc/pam.d/sshd", "# pam_aad.so\naccount sufficient pam_aad.so\n", 0o644).unwrap();
        let lines =
            walk("Match User *@*\nAuthorizedKeysCommand /usr/sbin/aad_certhandler %u %k\n", &|_| Vec::new());
        let found = other_agent(&root, &lines).join("\n");
        for word in ["/etc/ssh/sshd_config:2", "/etc/pam.d/sshd", "`passwd` names aad"] {
            assert!(found.contains(word), "{word} in {found}");
        }
        root.write("/etc/pam.d/sshd", "# pam_aad.so\n", 0o644).unwrap();
        root.write("/etc/nsswitch.conf", "passwd: files\n", 0o644).unwrap();
        assert!(other_agent(&root, &[]).is_empty());
    }
}
