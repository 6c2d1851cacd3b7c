//! What happens to logins while a service of the cloud misbehaves: a person of the tenant is refused with
//! the right reason and in time, sshd's hook is as quick as ever, a local user notices nothing, and the
//! first login after the trouble works.
#![allow(clippy::print_stdout, reason = "the figures are for the reader of the test's output")]

use std::time::{Duration, Instant};

use nightlatch_emulator::world;
use nightlatch_world::{Person, local_user};
use serde_json::{Value, json};

use crate::cloud::{Pool, Taken};
use crate::tenant::Cluster;

/// sshd's LoginGraceTime as the daemon is told it; a quarter is the longest wait for Azure.
const LOGIN_GRACE_S: u64 = 8;
/// What ssh, sshd and PAM add to the daemon's wait on a busy machine.
const LOGIN_ITSELF: Duration = Duration::from_secs(6);
/// What the hook may take; it ends itself soon after.
const HOOK_LIMIT: Duration = Duration::from_millis(300);
/// How long after the trouble the first login must work: a question to a silent service ends after four
/// seconds, that there is no token is remembered for two, and a `Retry-After` below says three.
const RECOVERY: Duration = Duration::from_secs(8);

/// Starts the hook as sshd would, on four threads at once, each so many times; prints each run's microseconds.
const HOOKS: &str = r"
import subprocess, sys, threading, time
times, words = [], sys.argv[2:]
def run():
    for _ in range(int(sys.argv[1])):
        start = time.monotonic()
        subprocess.run(words, stdout=subprocess.DEVNULL)
        times.append(int((time.monotonic() - start) * 1e6))
threads = [threading.Thread(target=run) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(*times)
";
/// How often each of the four starts the hook: 600 runs in all, of which six may be slower than p99: more than the
/// four that one stall of the machine hits.
const HOOK_RUNS: &str = "150";
/// What the hook may take at four in parallel, 99 of 100.
const HOOK_P99: Duration = Duration::from_millis(50);

struct Stage {
    cluster: Cluster,
    alice: Person,
    local: Person,
}

fn stage() -> Taken<Stage> {
    static STAGES: Pool<Stage> = Pool::new();
    let stage = STAGES.take(|| {
        let cluster = Cluster::start("");
        let alice = cluster.person(world::ALICE.upn);
        let local = Person::with_key(&cluster.image, "ed25519").unwrap();
        local_user(&cluster.node, "lotte", &local).unwrap();
        Stage { cluster, alice, local }
    });
    stage.cluster.control("POST", "reset", &json!({}));
    // Nothing is kept, so that every login asks.
    stage.cluster.control("PUT", "pdp", &json!({"ttl_ms": 0}));
    stage
}

/// The troubles, and the reason that the person reads when the decision point has them.
fn troubles() -> [(&'static str, Value, &'static str); 8] {
    [
        ("slow", json!({"kind": "slow", "ms": 30_000}), "upstream_unknown"),
        ("throttled", json!({"kind": "status", "status": 429, "retry_after": 3}), "throttled"),
        ("failing", json!({"kind": "status", "status": 503}), "upstream_unknown"),
        ("garbage", json!({"kind": "garbage"}), "upstream_unknown"),
        ("huge", json!({"kind": "huge", "mib": 64}), "upstream_unknown"),
        ("silent", json!({"kind": "blackhole"}), "upstream_unknown"),
        ("redirecting", json!({"kind": "status", "status": 302}), "upstream_unknown"),
        ("hanging up", json!({"kind": "close"}), "upstream_unknown"),
    ]
}

impl Stage {
    fn configure(&self, more: &str) {
        self.cluster.configure(&format!(
            "[login]\nlogin_grace_time = \"{LOGIN_GRACE_S}s\"\ngrace_user = \"0s\"\n{more}"
        ));
        self.cluster.soon_in(&self.alice, world::ALICE.upn, RECOVERY);
    }

    /// One trouble: before, during, after.
    fn suffer(&self, service: &str, name: &str, trouble: &Value, reason: &str) {
        let cluster = &self.cluster;
        if reason == "throttled" {
            // Both buckets are empty; one alone keeps nobody out.
            cluster.control("PUT", "faults/arm", trouble);
        }
        cluster.control("PUT", &format!("faults/{service}"), trouble);
        if service != "pdp" {
            // The node loses its token, so that it needs the service at all; more than once, since a question
            // from before the trouble may still bring one.
            cluster.control("PUT", "faults/pdp", &json!({"kind": "status", "status": 401, "times": 3}));
        }
        let (login, local, hook) = std::thread::scope(|scope| {
            let login = scope.spawn(|| cluster.ssh(&self.alice, world::ALICE.upn, &["true"]));
            let local = cluster.ssh(&self.local, "lotte", &["id -un"]);
            // The best of three: this machine has other work to do.
            let hook = (0..3).map(|_| cluster.hook(&self.alice, world::ALICE.upn)).min_by_key(|run| run.1);
            (login.join().unwrap(), local, hook.unwrap())
        });
        let case = format!("{service} {name}");
        let words = format!("reason {reason}, ref ");
        assert!(
            login.status == 255 && login.stderr.contains(&words),
            "{case}: {login:?}\n{}",
            cluster.journal()
        );
        let limit = Duration::from_secs(LOGIN_GRACE_S / 4) + LOGIN_ITSELF;
        assert!(login.elapsed < limit, "{case}: {:?}", login.elapsed);
        assert!(hook.0.contains("cert-authority") && hook.1 < HOOK_LIMIT, "{case}: {hook:?}");
        assert_eq!((local.status, local.stdout.trim()), (0, "lotte"), "{case}: {local:?}");
        cluster.control("DELETE", "faults", &json!({}));
        let cleared = Instant::now();
        cluster.soon_in(&self.alice, world::ALICE.upn, RECOVERY);
        println!(
            "{case}: refused after {:?}, hook {:?}, local {:?}, in again after {:?}",
            login.elapsed,
            hook.1,
            local.elapsed,
            cleared.elapsed()
        );
    }
}

impl Stage {
    /// p99 of the hook, four at a time; the better of two looks where the first was over the limit, since this machine has
    /// other work to do.
    fn hook_p99(&self) -> Duration {
        let first = self.hook_p99_once();
        if first <= HOOK_P99 { first } else { first.min(self.hook_p99_once()) }
    }

    fn hook_p99_once(&self) -> Duration {
        let line = std::fs::read_to_string(self.alice.certificate_path()).unwrap();
        let (key_type, key) = line.split_once(' ').unwrap();
        let name = world::ALICE.upn;
        let words = ["python3", "-c", HOOKS, HOOK_RUNS, crate::site::HOOK, name, "2000000000", key_type, key];
        let done = self.cluster.node.exec_as("nightlatch-hook", &words).unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let mut micros: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
        micros.sort_unstable();
        assert_eq!(micros.len(), 600, "{said}");
        Duration::from_micros(micros[593])
    }
}

/// A user who got a fresh yes here is let in by grace whatever Azure does, marked as such; an administrator is
/// refused with the reason; the hook does not notice.
#[test]
fn grace_carries_a_user_and_no_administrator_through_each_trouble() {
    let stage = stage();
    let cluster = &stage.cluster;
    let grace = format!("[login]\nlogin_grace_time = \"{LOGIN_GRACE_S}s\"\n");
    cluster.configure(&grace);
    let adele = cluster.person(world::ADELE.upn);
    let limit = Duration::from_secs(LOGIN_GRACE_S / 4) + LOGIN_ITSELF;
    let mut troubles: Vec<(&str, &str, Value)> =
        troubles().into_iter().map(|(name, trouble, _)| ("pdp", name, trouble)).collect();
    troubles.push(("pdp", "one gigabyte", json!({"kind": "huge", "mib": 1024})));
    troubles.push(("imds", "silent", json!({"kind": "blackhole"})));
    for (service, name, trouble) in troubles {
        let case = format!("{service} {name}");
        // Both get a fresh yes first.
        cluster.soon_in(&stage.alice, world::ALICE.upn, RECOVERY);
        cluster.soon_in(&adele, world::ADELE.upn, RECOVERY);
        for also in [service, "arm"] {
            cluster.control("PUT", &format!("faults/{also}"), &trouble);
        }
        if service == "imds" {
            cluster.control("PUT", "faults/pdp", &json!({"kind": "status", "status": 401}));
        }
        let hook = stage.hook_p99();
        let user = cluster.ssh(&stage.alice, world::ALICE.upn, &["id -un"]);
        assert!(user.is_in() && user.elapsed < limit, "{case}: {user:?}\n{}", cluster.journal());
        let (status, last) = cluster.explain(&["--last", world::ALICE.upn]);
        let graced = last["steps"].as_array().unwrap().iter().find(|step| step["rule"] == "grace").unwrap();
        assert!(status == 0 && graced["outcome"] == "pass", "{case}: {last}");
        let admin = cluster.ssh(&adele, world::ADELE.upn, &["id"]);
        assert!(admin.status == 255 && admin.elapsed < limit, "{case}: {admin:?}");
        assert!(admin.stderr.contains("administrators get no grace on this node"), "{case}: {admin:?}");
        assert!(hook <= HOOK_P99, "{case}: hook p99 {hook:?}");
        cluster.control("DELETE", "faults", &json!({}));
        println!(
            "{case}: hook p99 {hook:?}, by grace after {:?}, refused after {:?}",
            user.elapsed, admin.elapsed
        );
    }
    let journal = cluster.node.shell("journalctl -q -o json NIGHTLATCH_DEGRADED=true | wc -l").unwrap();
    assert!(journal.trim().parse::<u32>().unwrap() >= 10, "{journal}");
}

/// The hook asks nobody outside, so no trouble of any service can be felt in it.
#[test]
fn the_hook_is_as_quick_in_every_trouble_of_every_service() {
    let stage = stage();
    stage.configure("");
    let cluster = &stage.cluster;
    let mut troubles: Vec<(&str, Value)> =
        troubles().into_iter().map(|(name, trouble, _)| (name, trouble)).collect();
    troubles.push(("one gigabyte", json!({"kind": "huge", "mib": 1024})));
    for service in ["entra", "pdp", "arm", "imds"] {
        for (name, trouble) in &troubles {
            cluster.control("PUT", &format!("faults/{service}"), trouble);
            // A login is under way that needs the service.
            let hook = std::thread::scope(|scope| {
                let login = scope.spawn(|| cluster.ssh(&stage.alice, world::ALICE.upn, &["true"]));
                let hook = stage.hook_p99();
                drop(login.join());
                hook
            });
            println!("{service} {name}: hook p99 {hook:?}");
            assert!(hook <= HOOK_P99, "{service} {name}: {hook:?}");
            cluster.control("DELETE", "faults", &json!({}));
        }
    }
}

#[test]
fn a_decision_point_in_trouble() {
    let stage = stage();
    stage.configure("");
    for (name, trouble, reason) in troubles() {
        stage.suffer("pdp", name, &trouble, reason);
    }
}

#[test]
fn a_metadata_service_in_trouble() {
    let stage = stage();
    stage.configure("");
    for (name, trouble, _) in troubles() {
        stage.suffer("imds", name, &trouble, "upstream_unknown");
    }
}

/// The installer's federated token is proof for Entra; there is no managed identity to fall back on.
#[test]
fn entra_in_trouble() {
    let stage = stage();
    let cluster = &stage.cluster;
    let order = json!({"user": world::KUBELET_OID, "audience": "api://AzureADTokenExchange", "v2": true});
    let proof = cluster.control("POST", "tokens", &order);
    let proof = proof["access_token"].as_str().unwrap();
    cluster.node.write_file("/etc/nightlatch/token", proof.as_bytes(), 0o644, "root:root").unwrap();
    let issuer = format!("https://login.microsoftonline.com/{}/v2.0", world::TENANT);
    let trust = json!({"federated": [{"issuer": issuer, "subject": world::KUBELET_OID}]});
    cluster.control("PUT", &format!("apps/{}", world::NODE_APP), &trust);
    let identity =
        format!("[node]\nclient_id = \"{}\"\ntoken_file = \"/etc/nightlatch/token\"\n", world::NODE_APP);
    stage.configure(&identity);
    cluster.control("DELETE", "counters", &json!({}));
    for (name, trouble, _) in troubles() {
        stage.suffer("entra", name, &trouble, "upstream_unknown");
    }
    assert!(cluster.calls("entra") >= 8, "Entra was asked at all");
}

/// Entra out of reach, with a managed identity as the second way: nobody notices.
#[test]
fn the_next_identity_helps_out() {
    let stage = stage();
    let cluster = &stage.cluster;
    cluster.node.write_file("/etc/nightlatch/token", b"a.b.c", 0o644, "root:root").unwrap();
    let identity = format!(
        "[node]\nclient_id = \"{}\"\ntoken_file = \"/etc/nightlatch/token\"\n",
        world::KUBELET_CLIENT
    );
    for trouble in [json!({"kind": "status", "status": 503}), json!({"kind": "blackhole"})] {
        cluster.control("PUT", "faults/entra", &trouble);
        stage.configure(&identity);
        assert!(cluster.calls("entra") >= 1, "Entra was asked first");
        cluster.control("DELETE", "counters", &json!({}));
    }
}

/// A decision point that throttles is relieved by ARM: a person with the role gets in at once, and one whom
/// ARM shows no role is not denied on its word.
#[test]
fn an_empty_bucket_is_relieved_by_the_other() {
    let stage = stage();
    stage.configure("");
    let cluster = &stage.cluster;
    let (dora, norman) = (cluster.person(world::DORA.upn), cluster.person(world::NORMAN.upn));
    let throttled = json!({"kind": "status", "status": 429, "retry_after": 30});
    cluster.control("PUT", "faults/pdp", &throttled);
    cluster.control("DELETE", "counters", &json!({}));
    let login = cluster.ssh(&stage.alice, world::ALICE.upn, &["true"]);
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    assert!(cluster.calls("arm") >= 1);
    for (person, name, reason) in
        [(&dora, world::DORA.upn, "deny_assignment"), (&norman, world::NORMAN.upn, "throttled")]
    {
        let refused = cluster.ssh(person, name, &["true"]);
        assert!(refused.stderr.contains(&format!("reason {reason}, ref ")), "{name}: {refused:?}");
    }
    assert_eq!(cluster.calls("pdp"), 1, "who is told to wait for half a minute does not ask again");
}

/// A daemon that starts while the metadata service is silent knows the machine and the keys from before.
#[test]
fn a_start_without_the_metadata_service() {
    let stage = stage();
    stage.configure("");
    let cluster = &stage.cluster;
    cluster.control("PUT", "faults/imds", &json!({"kind": "blackhole"}));
    let start = Instant::now();
    cluster.restart();
    println!("ready {:?} after a start without IMDS", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(15));
    let (line, _) = cluster.hook(&stage.alice, world::ALICE.upn);
    assert!(line.contains("cert-authority"), "{}", cluster.journal());
    let refused = cluster.ssh(&stage.alice, world::ALICE.upn, &["true"]);
    assert!(refused.stderr.contains("reason upstream_unknown"), "{refused:?}");
    assert!(cluster.ssh(&stage.local, "lotte", &["true"]).is_in());
    cluster.control("DELETE", "faults", &json!({}));
    cluster.soon_in(&stage.alice, world::ALICE.upn, RECOVERY);
}
