//! What a cgroup path says of a process: its systemd unit and slice, its pod, and whether it runs in a
//! container. Only the part of a path that the node's own systemd or kubelet has made is believed; what
//! lies below belongs to the service or container and can be named at its will.

use nightlatch_tokens::Pod;

/// The largest `/proc/PID/cgroup` that is read, in bytes: a path has at most 4 KiB, and the old hierarchies
/// are about a dozen.
pub(super) const MAX_CGROUP_BYTES: usize = 64 * 1024;
/// The longest name of a unit or slice, in bytes (systemd.unit(5): 255 and the type).
const MAX_UNIT_BYTES: usize = 256;
/// The length of a container's id, in hexadecimal digits (OCI runtimes: containerd, CRI-O, Docker, Podman).
const CONTAINER_ID_DIGITS: usize = 64;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Home {
    /// The unit, such as `backup.service`; of nested ones the outermost, which the node's systemd runs.
    pub(super) unit: Option<String>,
    /// The innermost slice above the unit.
    pub(super) slice: Option<String>,
    /// The pod.
    pub(super) pod: Option<Pod>,
    /// Some hierarchy says that this is a container.
    pub(super) contained: bool,
}

/// Reads the text of `/proc/PID/cgroup` (cgroups(7)); `None` where it is damaged or speaks of a place
/// outside of our own cgroup namespace.
pub(super) fn parse(text: &[u8]) -> Option<Home> {
    // Not UTF-8 can only be a name that somebody gave below a delegated cgroup.
    let text = String::from_utf8_lossy(text);
    let (mut named, mut unified) = (None, None);
    let mut contained = false;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let sound = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && path.starts_with('/');
        if !sound || path.split('/').any(|part| part == "..") {
            return None;
        }
        contained |= path.split('/').any(is_container) || path.starts_with("/machine.slice/");
        match controllers {
            "name=systemd" => named = Some(path),
            "" => unified = Some(path),
            _ => {}
        }
    }
    // systemd keeps units in its own hierarchy where there is one, in the unified one otherwise. With the
    // other set-ups one of the two is just the root.
    let path = [named, unified].into_iter().flatten().find(|path| *path != "/").or(unified).or(named)?;
    let pod = pod_of(path);
    let (slice, unit) = unit_of(path);
    contained |= pod.is_some();
    Some(Home { unit, slice, pod, contained })
}

/// Whether a part of a path is how an engine names a container or what holds them.
fn is_container(part: &str) -> bool {
    part.starts_with("kubepods") || part.starts_with("lxc.") || part == "lxc" || container_id(part).is_some()
}

/// The id at the end of `cri-containerd-ID.scope`, `docker-ID.scope`, `…:ID` or of a bare `ID`.
fn container_id(part: &str) -> Option<&str> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let at = name.len().checked_sub(CONTAINER_ID_DIGITS)?;
    let (before, id) = name.split_at_checked(at)?;
    let hex = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && (before.is_empty() || before.ends_with(['-', ':']))).then_some(id)
}

/// The run of slices at the beginning, and the unit behind it.
fn unit_of(path: &str) -> (Option<String>, Option<String>) {
    let (mut slice, mut unit) = (None, None);
    for part in path.split('/').filter(|part| !part.is_empty()) {
        // systemd puts `_` before a name that the kernel could take for an own file.
        let part = part.strip_prefix('_').unwrap_or(part);
        if !is_unit_name(part) {
            break;
        }
        if part.ends_with(".slice") {
            slice = Some(part.to_owned());
        } else {
            unit = (part.ends_with(".service") || part.ends_with(".scope")).then(|| part.to_owned());
            break;
        }
    }
    (slice, unit)
}

fn is_unit_name(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    part.len() <= MAX_UNIT_BYTES && part.bytes().all(plain)
}

/// The pod of a path below the kubelet's own root (kubernetes.io, "Container Runtimes", cgroup drivers):
/// `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope` or
/// `/kubepods/burstable/podUID/ID`. Deeper down anybody may have made such names.
fn pod_of(path: &str) -> Option<Pod> {
    let mut parts = path.split('/').skip(1);
    let systemd = match parts.next()? {
        "kubepods.slice" => true,
        "kubepods" => false,
        _ => return None,
    };
    let mut part = parts.next()?;
    let class = if systemd {
        ["kubepods-burstable.slice", "kubepods-besteffort.slice"]
    } else {
        ["burstable", "besteffort"]
    };
    if class.contains(&part) {
        part = parts.next()?;
    }
    let uid = if systemd {
        let name = part.strip_suffix(".slice")?.strip_prefix("kubepods-")?;
        let name =
            name.strip_prefix("burstable-").or_else(|| name.strip_prefix("besteffort-")).unwrap_or(name);
        name.strip_prefix("pod")?.replace('_', "-")
    } else {
        part.strip_prefix("pod")?.to_owned()
    };
    // A static pod's uid is a bare hash.
    let form = uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && matches!(uid.len(), 32 | 36);
    let container = parts.next().and_then(container_id).map(str::to_owned);
    form.then(|| Pod { uid: uid.to_ascii_lowercase(), container })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4d2f7c1e9b0a8d6c5e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d";

    fn unit(text: &str) -> (Option<String>, Option<String>, bool) {
        let home = parse(text.as_bytes()).unwrap();
        assert_eq!(home.pod, None, "{text}");
        (home.unit, home.slice, home.contained)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn units_are_those_of_the_nodes_own_systemd() {
        for (text, expected) in [
            ("0::/system.slice/backup.service\n", (some("backup.service"), some("system.slice"), false)),
            (
                "0::/system.slice/system-dump.slice/dump@mon.service\n",
                (some("dump@mon.service"), some("system-dump.slice"), false),
            ),
            ("0::/init.scope\n", (some("init.scope"), None, false)),
            ("0::/\n", (None, None, false)),
            (
                "0::/user.slice/user-1000.slice/session-3.scope\n",
                (some("session-3.scope"), some("user-1000.slice"), false),
            ),
            // What a user's own systemd, or a service below itself, calls anything counts for nothing.
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/backup.service\n",
                (some("user@1000.service"), some("user-1000.slice"), false),
            ),
            (
                "0::/system.slice/a.service/system.slice/backup.service\n",
                (some("a.service"), some("system.slice"), false),
            ),
            ("0::/system.slice/_memory.service\n", (some("memory.service"), some("system.slice"), false)),
            ("0::/system.slice/gone.service (deleted)\n", (None, some("system.slice"), false)),
            ("0::/jobs/backup.service\n", (None, None, false)),
            // The old hierarchies beside the unified one.
            (
                "9:name=systemd:/system.slice/a.service\n4:memory:/elsewhere/b.service\n0::/\n",
                (some("a.service"), some("system.slice"), false),
            ),
            (
                "9:name=systemd:/\n4:memory:/x\n0::/system.slice/a.service\n",
                (some("a.service"), some("system.slice"), false),
            ),
            (
                "4:cpu,cpuacct:/x\n1:name=systemd:/system.slice/a.service\n",
                (some("a.service"), some("system.slice"), false),
            ),
        ] {
            assert_eq!(unit(text), expected, "{text}");
        }
    }

    #[test]
    fn containers_are_told_by_any_hierarchy() {
        for text in [
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("0::/system.slice/docker-{ID}.scope/system.slice/backup.service\n"),
            format!("0::/docker/{ID}\n"),
            format!("4:memory:/docker/{ID}\n0::/system.slice/a.service\n"),
            format!("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n"),
            format!("0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}\n"),
            "0::/machine.slice/systemd-nspawn@x.service/payload/system.slice/a.service\n".into(),
            "0::/lxc.payload.web/system.slice/a.service\n".into(),
            "0::/kubelet/kubepods/burstable/x\n".into(),
        ] {
            assert!(unit(&text).2, "{text}");
        }
        assert!(!unit(&format!("0::/system.slice/a{ID}x.service\n")).2);
        assert!(!unit("0::/system.slice/deadbeef.scope\n").2);
    }

    #[test]
    fn pods_of_both_cgroup_drivers() {
        let uid = "0f6d2c64-4f1e-4d4a-8a3e-5b1f6a7c8d9e";
        let under = uid.replace('-', "_");
        let pod = |text: String| parse(text.as_bytes()).unwrap();
        for text in [
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope\n"
            ),
            format!(
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/crio-{ID}.scope\n"
            ),
            format!("0::/kubepods.slice/kubepods-pod{under}.slice/docker-{ID}.scope\n"),
            format!("0::/kubepods/burstable/pod{uid}/{ID}\n"),
            format!("0::/kubepods/pod{uid}/{ID}\n"),
            // A container that makes cgroups of its own stays what it is.
            format!(
                "0::/kubepods/besteffort/pod{uid}/{ID}/kubepods/pod11111111-1111-1111-1111-111111111111/x\n"
            ),
            format!(
                "11:name=systemd:/kubepods/besteffort/pod{uid}/{ID}\n4:memory:/kubepods/besteffort/pod{uid}/{ID}\n0::/\n"
            ),
        ] {
            let home = pod(text.clone());
            assert_eq!(home.pod, Some(Pod { uid: uid.into(), container: Some(ID.into()) }), "{text}");
            assert!(home.contained);
        }
        let fixed = pod(format!("0::/kubepods.slice/kubepods-pod{}.slice\n", &ID[..32]));
        assert_eq!(fixed.pod, Some(Pod { uid: ID[..32].into(), container: None }));
        for text in [
            // Made by who has a cgroup of its own, below it.
            format!(
                "0::/system.slice/a.service/kubepods.slice/kubepods-pod{under}.slice/docker-{ID}.scope\n"
            ),
            format!("0::/user.slice/user@1000.service/kubepods/pod{uid}/{ID}\n"),
            "0::/kubepods.slice/kubepods-podnot_a_uid.slice/x\n".into(),
            "0::/kubepods.slice\n".into(),
            "0::/kubepods/burstable\n".into(),
            format!("0::/kubepods/burstable/{uid}\n"),
        ] {
            let home = pod(text.clone());
            assert_eq!((home.pod, home.contained), (None, true), "{text}");
        }
    }

    #[test]
    fn damaged_text_says_nothing_and_does_no_harm() {
        for text in
            ["", "\n", "0:/", "x::/a", ":: /", "0::a", "0::/../../x.service", "0::/a/../b.service\n", "::"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        let whole = format!(
            "9:name=systemd:/system.slice/a.service\n0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f6d2c64_4f1e_4d4a_8a3e_5b1f6a7c8d9e.slice/cri-containerd-{ID}.scope\n"
        );
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bytes = whole.clone().into_bytes();
            let at = usize::try_from(state >> 33).unwrap() % bytes.len();
            if round % 3 == 0 {
                bytes.truncate(at);
            } else {
                bytes[at] = state.to_le_bytes()[3];
            }
            let Some(home) = parse(&bytes) else { continue };
            let plain =
                |text: &String| text.bytes().all(|b| b.is_ascii_graphic()) && text.len() <= MAX_UNIT_BYTES;
            assert!(home.unit.iter().chain(&home.slice).all(plain), "{home:?}");
            assert!(home.pod.iter().all(|pod| plain(&pod.uid) && home.contained), "{home:?}");
        }
    }
}
