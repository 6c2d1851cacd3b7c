//! The token broker on a real node with an emulated tenant: what a fetch costs beside an echo of the same
//! bytes, what the daemon needs for a thousand tokens, and how long it takes to be ready.
//!
//! The client is a service of its own, as the policy names it, and the policy has many rules of others.

use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_world::{Cluster, WorldError, wait_until};
use serde_json::{Value, json};

use crate::echo;
use crate::fetches::{AKS, BROKER, Crowd, IMDS, Latencies, Latency, Many, PLUGIN_FLOOR, Rates, VAULT};
use crate::pairs::{AGAIN, Paired, Plan, measure};
use crate::programs::Programs;
use crate::row::{Limit, NONE, Row};

/// This program, in the node.
const INSIDE: &str = "/usr/libexec/nightlatch/figures";
/// Who fetches, and in which unit.
const CLIENT: &str = "svc-bench";
const UNIT: &str = "bench.service";
const ECHO_UNIT: &str = "bench-echo.service";
const READY_UNIT: &str = "bench-ready.service";
const DAEMON_UNIT: &str = "nightlatchd.service";
/// Rules of other services before the client's own.
const OTHER_RULES: usize = 100;
/// How many clients fetch at once.
const CLIENTS: usize = 4;

const HTTP: Limit = Limit { ratio: Some(1.5), ..NONE };
const GRPC: Limit = Limit { ratio: Some(1.3), ..NONE };
const FRESH: Limit = Limit { value: Some(250.0), ..NONE };
const FRESH_P99: Limit = Limit { value: Some(1_000.0), ..NONE };
const RATE: Limit = Limit { least_ratio: Some(0.6), ..NONE };
const PER_CORE: Limit = Limit { least_value: Some(20_000.0), ..NONE };
const PROCESS: Limit = Limit { value: Some(5.0), ..NONE };
const READY: Limit = Limit { value: Some(150.0), ..NONE };
const RSS_MIB: f64 = 25.0;

const SECRET: &str = "/etc/nightlatch/bench.secret";
const READY_SERVICE: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nNotifyAccess=main\n\
                             ExecStart=/usr/libexec/nightlatch/figures ready\n";

/// The rows of the broker.
///
/// # Errors
/// When the node does not boot, or the client does not get its token.
pub(crate) fn rows(programs: &Programs, quick: bool) -> Result<Vec<Row>, String> {
    let cluster = start(programs).map_err(|why| why.to_string())?;
    let site = Site { cluster };
    let ready = site.ready_rows(quick);
    let rows = ready.and_then(|mut rows| {
        rows.push(site.memory_row(quick)?);
        site.start_echo()?;
        rows.extend(site.latency_rows(quick)?);
        rows.extend(site.rate_rows(quick)?);
        rows.extend(site.process_rows(quick)?);
        Ok(rows)
    });
    rows.map_err(|why| {
        let journal = site.cluster.node.journal(&["-n", "40"]).unwrap_or_default();
        format!("{why}\n{journal}")
    })
}

struct Site {
    cluster: Cluster,
}

/// The client's rules come last.
fn policy() -> String {
    let other = |number| {
        format!(
            "[[rule]]\nname = \"other-{number}\"\nwho = {{ unit = [\"other-{number}.service\"] }}\n\
             may = {{ identity = [\"node\"], resource = [\"{VAULT}\"] }}\n"
        )
    };
    let own = format!(
        "[[rule]]\nname = \"bench\"\nwho = {{ user = [\"{CLIENT}\"], unit = [\"{UNIT}\", \"{ECHO_UNIT}\"] }}\n\
         may = {{ identity = [\"node\"], resource = [\"{VAULT}\", \"{AKS}\"] }}\n\
         [[rule]]\nname = \"thousand\"\nwho = {{ user = [\"{CLIENT}\"] }}\n\
         may = {{ identity = [\"application\"], resource = [\"https://*.example.net\"] }}\n"
    );
    (0..OTHER_RULES).map(other).collect::<String>() + &own
}

/// The managed identity, and an application whose tokens no gate spreads over minutes.
fn settings() -> String {
    format!(
        "[[broker.identity]]\nname = \"node\"\nkind = \"managed\"\nclient_id = \"{}\"\n\
         [[broker.identity]]\nname = \"application\"\nkind = \"secret\"\nclient_id = \"{}\"\n\
         secret_file = \"{SECRET}\"\n",
        world::KUBELET_CLIENT,
        world::CI_PIPELINE_APP
    )
}

fn start(programs: &Programs) -> Result<Cluster, WorldError> {
    let cluster = Cluster::bare(&settings())?;
    let node = &cluster.node;
    node.add_users(&[CLIENT])?;
    node.shell(
        "useradd --system --user-group --home-dir /var/lib/nightlatch --shell /usr/sbin/nologin nightlatch",
    )?;
    node.shell("install -d -m 0755 /etc/nightlatch/broker.d /usr/libexec/nightlatch")?;
    node.write_file("/etc/nightlatch/broker.d/50-bench.toml", policy().as_bytes(), 0o644, "root:root")?;
    node.write_file(SECRET, world::CI_PIPELINE_SECRET.as_bytes(), 0o640, "root:nightlatch")?;
    cluster.install()?;
    // `install` brings what `make build` made; what is measured is built like a release.
    node.shell("systemctl stop nightlatchd.service nightlatch-userdbd.service")?;
    node.copy_in(&programs.daemon, "/usr/sbin/nightlatchd", 0o755)?;
    node.copy_in(&programs.userdbd, "/usr/libexec/nightlatch/userdbd", 0o755)?;
    node.copy_in(&programs.command, "/usr/bin/nightlatch", 0o755)?;
    node.copy_in(&programs.token, PLUGIN_FLOOR, 0o755)?;
    let own = std::env::current_exe().map_err(|why| WorldError::new(why.to_string()))?;
    node.copy_in(&own, INSIDE, 0o755)?;
    let unit = format!("/etc/systemd/system/{READY_UNIT}");
    node.write_file(&unit, READY_SERVICE.as_bytes(), 0o644, "root:root")?;
    node.shell("systemctl daemon-reload && systemctl start nightlatch-userdbd.service nightlatchd.service")?;
    Ok(cluster)
}

impl Site {
    fn shell(&self, line: &str) -> Result<String, String> {
        self.cluster.node.shell(line).map_err(|why| why.to_string())
    }

    fn property(&self, unit: &str, name: &str) -> Result<u64, String> {
        let said = self.shell(&format!("systemctl show --property={name} --value {unit}"))?;
        said.trim().parse().map_err(|_| format!("{unit}: {name} is {said:?}"))
    }

    /// A part of this program as the client's service.
    fn client<T: serde::de::DeserializeOwned>(
        &self,
        verb: &str,
        task: &impl serde::Serialize,
    ) -> Result<T, String> {
        let mut command = self.cluster.node.service(UNIT, CLIENT).command(&[INSIDE, verb]);
        let said = crate::talk(&mut command, task)?;
        serde_json::from_slice(&said).map_err(|why| why.to_string())
    }

    /// After a start the policy is read in the background.
    fn wait_for_tokens(&self) -> Result<(), String> {
        let task = Many { resources: vec![VAULT.to_owned(), AKS.to_owned()] };
        let done = wait_until("the client's token", Duration::from_secs(20), || {
            self.client::<usize>("fetch-many", &task).is_ok()
        });
        done.map(drop).map_err(|why| why.to_string())
    }

    /// From the fork of the main process to its word that it is ready, as systemd wrote both down. The floor
    /// takes a few milliseconds, most of them systemd's; whether the machine is quiet enough for a start that
    /// takes much longer is what the daemon says that is started twice.
    fn ready_rows(&self, quick: bool) -> Result<Vec<Row>, String> {
        let plan = Plan { runs: 5, rounds: if quick { 2 } else { 10 } };
        let mut paired = measure(plan, 3, |program, _| {
            let unit = [READY_UNIT, DAEMON_UNIT, DAEMON_UNIT][program];
            self.shell(&format!("systemctl restart {unit}"))?;
            let began = self.property(unit, "ExecMainStartTimestampMonotonic")?;
            let active = self.property(unit, "ActiveEnterTimestampMonotonic")?;
            let took = active.checked_sub(began).ok_or_else(|| format!("{unit} is not active"))?;
            Ok(Duration::from_micros(took).as_secs_f64() * 1_000.0)
        })?;
        self.shell(&format!("systemctl stop {READY_UNIT}"))?;
        self.wait_for_tokens()?;
        let once = paired[2];
        let again = &mut paired[AGAIN];
        again.ratio = again.value / once.value;
        (again.lo, again.hi) = (again.lo / once.lo, again.hi / once.hi);
        let name = "daemon.ready";
        Ok(vec![Row::timed(name, "ms", &paired, 2, READY), Row::again(name, "ms", &paired)])
    }

    fn questions(&self) -> Result<u64, String> {
        let counters = self.cluster.tenant.control("GET", "counters", &json!({}));
        let counters: Value = counters.map_err(|why| why.to_string())?;
        Ok(counters["entra"]["paths"]["grant client_credentials bearer"].as_u64().unwrap_or(0))
    }

    /// A daemon that has just started, then a thousand tokens.
    fn memory_row(&self, quick: bool) -> Result<Row, String> {
        let count = if quick { 100 } else { 1_000 };
        let resources: Vec<String> = (0..count).map(|n| format!("https://r{n:04}.example.net")).collect();
        let api = json!({"client_id": BENCH_API, "identifier_uris": resources});
        let made = self.cluster.tenant.control("PUT", &format!("apps/{BENCH_API}"), &api);
        made.map_err(|why| why.to_string())?;
        self.shell(&format!("systemctl restart {DAEMON_UNIT}"))?;
        self.wait_for_tokens()?;
        let status = || -> Result<String, String> {
            let pid = self.property(DAEMON_UNIT, "MainPID")?;
            let status = self.cluster.node.read_file(&format!("/proc/{pid}/status"));
            Ok(String::from_utf8_lossy(&status.map_err(|why| why.to_string())?).into_owned())
        };
        let size = |status: &str, field| {
            crate::status_mib(status, field).ok_or_else(|| format!("no {field} of nightlatchd"))
        };
        let empty = size(&status()?, "VmRSS:")?;
        let task = Many { resources };
        let bytes: usize = self.client("fetch-many", &task)?;
        let asked = self.questions()?;
        // Again: all of them must be kept.
        let _: usize = self.client("fetch-many", &task)?;
        if self.questions()? != asked {
            return Err("a token that was fetched is not kept".to_owned());
        }
        let full = status()?;
        println!(
            "daemon.rss: {empty:.2} MiB after the start; with {count} tokens more (answers of {} bytes) {:.2} \
             MiB, of it {:.2} MiB of its own, at most {:.2} MiB",
            bytes / count,
            size(&full, "VmRSS:")?,
            size(&full, "RssAnon:")?,
            size(&full, "VmHWM:")?
        );
        Ok(Row::plain("daemon.rss_1000_tokens", size(&full, "VmHWM:")?, "MiB", RSS_MIB))
    }

    /// The floor, as the same user on the same node; it asks the broker first for what it will give.
    fn start_echo(&self) -> Result<(), String> {
        self.shell(&format!(
            "systemd-run --quiet --collect --unit={ECHO_UNIT} --property=User={CLIENT} \
             --property=RuntimeDirectory=bench-echo {INSIDE} echo"
        ))?;
        let there = wait_until("the floor's sockets", Duration::from_secs(20), || {
            self.shell(&format!("test -S {} -a -S {}", echo::HTTP, echo::GRPC)).is_ok()
        });
        there.map(drop).map_err(|why| format!("{why}: {IMDS} or {BROKER} gave no token"))
    }

    fn latency_rows(&self, quick: bool) -> Result<Vec<Row>, String> {
        let plan = Plan { runs: 5, rounds: if quick { 200 } else { 3_000 } };
        let took: Latencies = self.client("fetch-latency", &Latency { plan })?;
        println!("token: the answer over HTTP has {} bytes", took.body_bytes);
        // Whether the machine was quiet is what the medians say; the floor's own tail never is.
        let mut tail: Paired = took.fresh_p99.clone();
        tail[AGAIN] = took.fresh[AGAIN];
        let mut rows = Vec::new();
        for (name, paired, limit) in [
            ("token.http_kept", &took.http, HTTP),
            ("token.grpc_kept", &took.grpc, GRPC),
            ("token.new_connection", &took.fresh, FRESH),
        ] {
            rows.extend([Row::timed(name, "µs", paired, 2, limit), Row::again(name, "µs", paired)]);
        }
        rows.push(Row::timed("token.new_connection.p99", "µs", &tail, 2, FRESH_P99));
        Ok(rows)
    }

    fn rate_rows(&self, quick: bool) -> Result<Vec<Row>, String> {
        let plan = Plan { runs: 5, rounds: if quick { 1 } else { 6 } };
        let pid = |unit| -> Result<u32, String> {
            self.property(unit, "MainPID")?.try_into().map_err(|_| format!("{unit} has no pid"))
        };
        let pids = [pid(ECHO_UNIT)?, pid(DAEMON_UNIT)?];
        let task = Crowd { plan, clients: CLIENTS, window_ms: 400, pids };
        let rates: Rates = self.client("fetch-rate", &task)?;
        Ok(vec![
            Row::timed("token.per_core", "/s", &rates.per_core, 2, PER_CORE),
            Row::again("token.per_core", "/s", &rates.per_core),
            Row::timed("token.rate", "/s", &rates.rate, 2, RATE),
            Row::again("token.rate", "/s", &rates.rate),
        ])
    }

    fn process_rows(&self, quick: bool) -> Result<Vec<Row>, String> {
        let plan = Plan { runs: 5, rounds: if quick { 10 } else { 100 } };
        let paired: Paired = self.client("fetch-process", &plan)?;
        let name = "exec_plugin.process";
        Ok(vec![Row::timed(name, "ms", &paired, 2, PROCESS), Row::again(name, "ms", &paired)])
    }
}

/// The API whose names are the thousand resources.
const BENCH_API: &str = "be9c0000-0000-4000-8000-000000000001";
