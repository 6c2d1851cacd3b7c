//! A thousand nodes and one identity: an automation logs in everywhere within twenty seconds, while the
//! cloud throttles as the real one does. The real back-end code, one set of it for each simulated node, in
//! a node's network and with its names and roots; only sshd is left out.
#![allow(clippy::print_stdout, reason = "the figures are for the reader of the test's output")]

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nightlatch::agent::MAX_UPSTREAM_WAIT;
use nightlatch::azure::{Ask, Caller, CheckAccess, Pdp, Purpose, RoleQuestion, RoleSource, Roles};
use nightlatch::clock::Clock;
use nightlatch::entra::clouds::Cloud;
use nightlatch::entra::http::{Http, ProxyRule};
use nightlatch::entra::node_identity::{NodeIdentity, TokenSource};
use nightlatch::imds::Imds;
use nightlatch_emulator::world;
use nightlatch_policy::{ActionSet, RoleAnswer, Scope, ScopeKind};
use nightlatch_world::{Metadata, Node, NodeSpec, Tenant};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::json;
use tokio::time::Instant;

/// How many nodes there are.
const NODES: u32 = 1_000;
/// Within which time each of them sees its login.
const SPAN: Duration = Duration::from_secs(20);

/// Runs `work` on a thread of its own that sees the network and the files of the process `leader`.
fn inside<T: Send>(leader: u32, work: impl FnOnce() -> T + Send) -> T {
    let open = |kind: &str| File::open(format!("/proc/{leader}/ns/{kind}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (net, mnt) = (open("net"), open("mnt"));
            // A thread changes its mount namespace only with a working directory of its own.
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(net.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            setns(mnt.as_fd(), CloneFlags::CLONE_NEWNS).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// How one login ended and how long it took.
type Login = (Duration, RoleAnswer);

async fn fleet() -> Vec<Login> {
    let hosts = Cloud::Public.endpoints();
    let base = hosts.pdp_in(world::REGION).unwrap();
    // One client for all: a thousand of them would only measure how fast this machine shakes hands.
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let client_id = Some(world::KUBELET_CLIENT.parse().unwrap());
    let imds = Imds::new().unwrap();
    let question = RoleQuestion {
        tenant: world::TENANT.parse().unwrap(),
        oid: world::ALICE.oid.parse().unwrap(),
        scopes: vec![(ScopeKind::Node, Scope::parse(world::NODE).unwrap())],
        actions: ActionSet::azure(),
    };
    let identity = NodeIdentity::new(vec![TokenSource::Imds { imds, client_id }]);
    let begun = Instant::now();
    let mut logins = tokio::task::JoinSet::new();
    for number in 0..NODES {
        let caller = Caller::new(http.clone(), identity.clone(), &hosts.pdp_audience);
        let arm = Caller::new(http.clone(), identity.clone(), &hosts.arm_audience());
        let pdp = Pdp::new(caller, &base).with_relief(CheckAccess::new(arm, &hosts.arm));
        let roles = Roles::new(RoleSource::Pdp(pdp), Clock::System.now());
        let (question, at) = (question.clone(), begun + SPAN * number / NODES);
        logins.spawn(async move {
            tokio::time::sleep_until(at).await;
            let ask = Ask::new(Purpose::NewLogin, Clock::System.now(), MAX_UPSTREAM_WAIT);
            let found = roles.roles(&question, &ask).await;
            (at.elapsed(), found.answer)
        });
    }
    logins.join_all().await
}

#[test]
fn a_thousand_nodes_are_served_within_ten_seconds_each() {
    let node = Node::boot(&NodeSpec::default()).unwrap();
    let tenant = Tenant::start(&node, Metadata::Imds).unwrap();
    let logins = inside(node.leader_pid(), || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(fleet())
    });
    let counters = tenant.control("GET", "counters", &json!({})).unwrap();
    let mut times: Vec<Duration> = logins.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let refused: Vec<&RoleAnswer> =
        logins.iter().map(|(_, answer)| answer).filter(|a| !matches!(a, RoleAnswer::Granted(_))).collect();
    println!(
        "{NODES} nodes in {SPAN:?}: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}; {} refused; {} questions to the PDP, {} to ARM, {} to IMDS",
        at(50),
        at(90),
        at(99),
        at(100),
        refused.len(),
        counters["pdp"]["total"],
        counters["arm"]["total"],
        counters["imds"]["total"],
    );
    assert!(refused.is_empty(), "{} refused, the first: {:?}", refused.len(), refused[0]);
    assert!(at(99) <= Duration::from_secs(10), "{:?}", at(99));
}
