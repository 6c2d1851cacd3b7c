//! The product on a real node: whole logins, the daemon's memory, and its answers on the sockets.
//!
//! The node gets the daemon and the name responder in this bench's profile, a person with a certificate,
//! and a local user who is let in by sshd itself with the very same certificate.

use std::ops::Range;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nightlatch::telemetry::SERVICE_TIMES_KEPT as KEPT;
use nightlatch_model::TenantId;
use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};
use nightlatch_world::{
    CertificateSpec, LocalCa, Node, NodeSpec, Person, WorldError, attach, install, local_user, prepare,
    wait_until,
};

use crate::pairs::{AGAIN, Column, FLOOR, Paired, Plan, measure, micros};
use crate::programs::Programs;
use crate::questions::{Admissions, Holder, Logins, Service};
use crate::row::{Limit, NONE, Row};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const NODE_ID: &str = "/subscriptions/00000000-0000-0000-0000-00000000005b/resourceGroups/MC_bench/providers/Microsoft.Compute/virtualMachineScaleSets/pool1/virtualMachines/3";
/// Who logs in through the product, and who through sshd alone.
const PERSON: &str = "ann@contoso.com";
const LOCAL: &str = "lou";
const ROLES: &str = "/etc/nightlatch/roles.toml";
/// This program, in the node.
const INSIDE: &str = "/usr/libexec/nightlatch/figures";

const LOGIN_RATIO: f64 = 1.10;
const DAEMON_RSS_MIB: f64 = 20.0;
const WARM: Limit = Limit { ratio: Some(4.0), value: Some(150.0), ..NONE };
const COLD: Limit = Limit { ratio: Some(18.0), value: Some(500.0), ..NONE };
/// A yes visits sessiond, which looks at the monitor and writes a line: two processes answer.
const ACCOUNT_WARM_US: f64 = 500.0;
/// The first yes of a person makes two more files durable than the floor does: what grace rests on, and the line.
const ACCOUNT_FIRST_US: f64 = 1_000.0;

/// The local user's way in: the same certificate, checked by sshd alone.
const LOCAL_MATCH: &str = "\
Match User lou
    AuthenticationMethods publickey
    AuthorizedKeysFile none
    TrustedUserCAKeys /etc/ssh/bench_ca.pub
    AuthorizedPrincipalsFile /etc/ssh/bench_principals
";
/// The local user's way through PAM: the same modules, with a helper that says yes.
const LOCAL_ACCOUNT: &str = "\
account [success=ignore default=1] pam_succeed_if.so quiet user = lou
account requisite pam_exec.so seteuid quiet stdout /usr/libexec/nightlatch/exit0
";
const LOCAL_SESSION: &str = "\
session [success=ignore default=1] pam_succeed_if.so quiet user = lou
session optional pam_mkhomedir.so umask=0077
";

struct Site {
    node: Node,
    person: Person,
    tenant: TenantId,
    /// An authority of our own, for certificates by the thousand.
    mint: TestKey,
}

/// The rows that need a node.
///
/// # Errors
/// When the node does not boot, or somebody who may log in cannot.
pub(crate) fn rows(programs: &Programs, quick: bool) -> Result<Vec<Row>, String> {
    let site = Site::start(programs).map_err(|why| why.to_string())?;
    let mut rows = site.login_rows(quick)?;
    rows.push(site.memory_row()?);
    rows.extend(site.admission_rows(quick)?);
    rows.extend(site.account_rows(quick)?);
    Ok(rows)
}

impl Site {
    fn start(programs: &Programs) -> Result<Self, WorldError> {
        let image = prepare()?;
        let node = Node::boot(&NodeSpec::default())?;
        let ca = LocalCa::new(&image)?;
        let mint = TestKey::rsa2048();
        let person = Person::new(&image)?;
        let mut spec = CertificateSpec::for_principal(PERSON);
        spec.options.push(format!("extension:oid@entra.microsoft.com={}", oid(0)));
        spec.options.push(format!("extension:tid@entra.microsoft.com={TENANT}"));
        person.take_certificate(&ca.sign(&person, &spec)?)?;
        let write = |path: &str, text: &str| node.write_file(path, text.as_bytes(), 0o644, "root:root");

        node.shell("install -d -m 0755 /etc/nightlatch /usr/libexec/nightlatch")?;
        let configuration = format!(
            "tenant = \"{TENANT}\"\nmode = \"enforce\"\n[node]\nkind = \"vm\"\nresource_id = \"{NODE_ID}\"\n\
             [trust]\nca = [\"file\"]\n[login]\nroles_from = \"file\"\nshell = \"/bin/sh\"\n"
        );
        write("/etc/nightlatch/nightlatch.toml", &configuration)?;
        write("/etc/nightlatch/ca.pub", &format!("{}\n{}\n", ca.public_key()?, mint.line()))?;
        write(ROLES, &roles(0))?;
        install(&node, &programs.built)?;
        // `install` brings what `make build` made; what is measured is built like a release.
        node.shell("systemctl stop nightlatchd.service nightlatch-userdbd.service")?;
        node.copy_in(&programs.daemon, "/usr/sbin/nightlatchd", 0o755)?;
        node.copy_in(&programs.userdbd, "/usr/libexec/nightlatch/userdbd", 0o755)?;
        node.copy_in(&programs.exit0, "/usr/libexec/nightlatch/exit0", 0o755)?;
        let own = std::env::current_exe().map_err(|why| WorldError::new(why.to_string()))?;
        node.copy_in(&own, INSIDE, 0o755)?;
        node.shell("systemctl start nightlatch-userdbd.service nightlatchd.service")?;
        attach(&node)?;

        local_user(&node, LOCAL, &person)?;
        node.shell(&format!("usermod --shell /bin/sh {LOCAL}"))?;
        write("/etc/ssh/bench_ca.pub", &format!("{}\n", ca.public_key()?))?;
        write("/etc/ssh/bench_principals", &format!("{PERSON}\n"))?;
        write("/etc/ssh/sshd_config.d/60-bench.conf", LOCAL_MATCH)?;
        let pam = String::from_utf8_lossy(&node.read_file("/etc/pam.d/sshd")?).into_owned();
        let include = "@include common-account\n";
        let pam = pam.replace(include, &format!("{LOCAL_ACCOUNT}{include}")) + LOCAL_SESSION;
        write("/etc/pam.d/sshd", &pam)?;
        node.shell("grep -q exit0 /etc/pam.d/sshd && sshd -t && systemctl reload ssh")?;
        let tenant = TENANT.parse().map_err(|_| WorldError::new("the tenant is no GUID"))?;
        let site = Self { node, person, tenant, mint };
        site.wait_for_logins()?;
        Ok(site)
    }

    /// The daemon looks at its files every two seconds: waits until both people get in.
    fn wait_for_logins(&self) -> Result<(), WorldError> {
        for user in [PERSON, LOCAL] {
            let mut said = String::new();
            wait_until(&format!("a login of {user}"), Duration::from_secs(60), || {
                let login = self.node.ssh(&self.person, user, &["id", "-un"], &[]);
                said = format!("{login:?}");
                login.is_ok_and(|login| login.is_in() && login.stdout.trim() == user)
            })
            .map_err(|why| {
                WorldError::new(format!(
                    "{why}: {said}\n{}",
                    self.node.journal(&["-n", "40"]).unwrap_or_default()
                ))
            })?;
        }
        Ok(())
    }

    fn login(&self, user: &str) -> Result<f64, String> {
        let mut command =
            self.node.ssh_command(&self.person, user, &[], &["true"]).map_err(|why| why.to_string())?;
        command.stdin(Stdio::null());
        let (took, done) = micros(|| command.output());
        let done = done.map_err(|why| why.to_string())?;
        if done.status.success() {
            return Ok(took / 1_000.0);
        }
        Err(format!("{user} is not let in: {}", String::from_utf8_lossy(&done.stderr)))
    }

    fn login_rows(&self, quick: bool) -> Result<Vec<Row>, String> {
        let plan = if quick { Plan { runs: 5, rounds: 3 } } else { Plan { runs: 5, rounds: 24 } };
        let paired = measure(plan, 3, |program, _| self.login([LOCAL, LOCAL, PERSON][program]))?;
        let limit = Limit { ratio: Some(LOGIN_RATIO), ..Limit::default() };
        let name = "login.full";
        Ok(vec![Row::timed(name, "ms", &paired, 2, limit), Row::again(name, "ms", &paired)])
    }

    fn daemon_pid(&self) -> Result<u32, String> {
        let show = "systemctl show --property=MainPID --value nightlatchd.service";
        let pid = self.node.shell(show).map_err(|why| why.to_string())?;
        pid.trim().parse().map_err(|_| "nightlatchd does not run".to_owned())
    }

    fn memory_row(&self) -> Result<Row, String> {
        let path = format!("/proc/{}/status", self.daemon_pid()?);
        let status = self.node.read_file(&path).map_err(|why| why.to_string())?;
        let status = String::from_utf8_lossy(&status);
        let size =
            |field| crate::status_mib(&status, field).ok_or_else(|| format!("no {field} of nightlatchd"));
        println!("daemon.rss: {:.2} MiB now, of it {:.2} MiB of its own", size("VmRSS:")?, size("RssAnon:")?);
        Ok(Row::plain("daemon.rss", size("VmHWM:")?, "MiB", DAEMON_RSS_MIB))
    }

    /// A certificate as Entra would sign it, by an authority that the node believes.
    fn holder(&self, number: usize, serial: u64, key: &TestKey) -> Holder {
        let user = if number == 0 { PERSON.to_owned() } else { format!("new{number}@contoso.com") };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut builder = CertificateBuilder::new(key)
            .principals([&user])
            .valid(now - 300, now + 3_600)
            .permit_all()
            .text_extension("oid@entra.microsoft.com", oid(number))
            .text_extension("tid@entra.microsoft.com", TENANT);
        builder.serial = serial;
        builder.nonce = [serial.to_be_bytes(); 4].concat();
        Holder { user, certificate: builder.line(&self.mint) }
    }

    fn inside(&self, user: &str, verb: &str, task: &impl serde::Serialize) -> Result<Vec<u8>, String> {
        let mut command = self.node.command(&["runuser", "-u", user, "--", INSIDE, verb]);
        crate::talk(&mut command, task)
    }

    fn admission_rows(&self, quick: bool) -> Result<Vec<Row>, String> {
        let plan = if quick { Plan { runs: 5, rounds: 20 } } else { Plan { runs: 5, rounds: 300 } };
        let key = TestKey::rsa2048();
        let warm = self.holder(0, 1, &key);
        let cold = (0..plan.runs * plan.rounds).map(|round| self.holder(0, 1_000 + round as u64, &key));
        let task = Admissions { plan, tenant: self.tenant, warm: warm.clone(), cold: cold.collect() };
        let said = self.inside("nightlatch-hook", "ask-admission", &task)?;
        let waited: Paired = serde_json::from_slice(&said).map_err(|why| why.to_string())?;
        let service = self.service_times(plan.runs, &warm, &key)?;
        let shown = Limit::default();
        Ok(vec![
            Row::timed("admit.warm", "µs", &service, 2, WARM),
            Row::timed("admit.cold", "µs", &service, 3, COLD),
            Row::again("admit", "µs", &service),
            Row::timed("admit.no_certificate", "µs", &service, 4, shown),
            Row::timed("admit.warm.client", "µs", &waited, 2, shown),
            Row::timed("admit.cold.client", "µs", &waited, 3, shown),
            Row::timed("admit.no_certificate.client", "µs", &waited, 4, shown),
        ])
    }

    /// From accept to reply, as the daemon says it: a known certificate, new ones, a key that is none.
    fn service_times(&self, runs: usize, warm: &Holder, key: &TestKey) -> Result<Paired, String> {
        let plain = Holder { user: warm.user.clone(), certificate: key.line() };
        let mut values = vec![Vec::new(); 5];
        let mut ratios = vec![Vec::new(); 5];
        for run in 0..runs {
            for program in 2..=4 {
                let holders = match program {
                    2 => vec![warm.clone()],
                    3 => {
                        (0..KEPT).map(|n| self.holder(0, (1_000_000 + run * KEPT + n) as u64, key)).collect()
                    }
                    _ => vec![plain.clone()],
                };
                let first_monitor = 300_000 + (run * 5 + program) * KEPT;
                let task = Service { tenant: self.tenant, holders, admitted: program != 4, first_monitor };
                let said = self.inside("nightlatch-hook", "ask-service", &task)?;
                let [even, odd]: [f64; 2] = serde_json::from_slice(&said).map_err(|why| why.to_string())?;
                let took = self.daemon_says("hook answers")?;
                for (program, value) in [(FLOOR, even), (AGAIN, odd), (program, took)] {
                    values[program].push(value);
                    ratios[program].push(value / even);
                }
            }
        }
        Ok((0..5).map(|program| Column::of(&values[program], &ratios[program])).collect())
    }

    /// The median of the daemon's last answers on a socket, in microseconds.
    fn daemon_says(&self, part: &str) -> Result<f64, String> {
        // `status` ends with 1 while a part is not well: what it says counts, not how it ends.
        let said = self.node.shell("nightlatch -o json status || true").map_err(|why| why.to_string())?;
        let rows: serde_json::Value = serde_json::from_str(&said).map_err(|why| format!("{why}: {said}"))?;
        let rows = rows.as_array().ok_or("no rows")?;
        let row =
            rows.iter().find(|row| row["part"] == part).ok_or_else(|| format!("no `{part}` in status"))?;
        let words = row["detail"].as_str().unwrap_or_default();
        let p50 = words.strip_prefix("p50 ").and_then(|rest| rest.split(' ').next());
        p50.and_then(|number| number.parse().ok()).ok_or_else(|| format!("`{part}` says {words:?}"))
    }

    /// Processes that pass for sshd's monitors: sessiond takes no yes for one that does not live. They end with
    /// the node. Gives each one's pid and start time.
    fn monitors(&self, count: usize) -> Result<Vec<(u32, u64)>, String> {
        let script = format!(
            "install -D /bin/sleep /run/stand-in/sshd; for n in $(seq {count}); do \
             setsid /run/stand-in/sshd 3000 >/dev/null 2>&1 & pids=\"$pids $!\"; done; sleep 0.5; \
             for pid in $pids; do cat /proc/$pid/stat; done"
        );
        let stats = self.node.shell(&script).map_err(|why| why.to_string())?;
        let seat = |line: &str| {
            let (head, tail) = line.rsplit_once(')')?;
            let start = tail.split_whitespace().nth(19)?.parse().ok()?;
            Some((head.split(' ').next()?.parse().ok()?, start))
        };
        stats.lines().map(|line| seat(line).ok_or_else(|| format!("no stat: {line}"))).collect()
    }

    fn account_rows(&self, quick: bool) -> Result<Vec<Row>, String> {
        let key = TestKey::rsa2048();
        let ask = |rounds: usize, numbers: Range<usize>| -> Result<Paired, String> {
            let seats = self.monitors(numbers.len())?;
            let holders = numbers.map(|number| self.holder(number, number as u64, &key));
            let people = seats.into_iter().zip(holders).collect();
            let task = Logins { plan: Plan { runs: 5, rounds }, tenant: self.tenant, people };
            self.inside("nightlatch-hook", "ask-offers", &task)?;
            let said = self.inside("root", "ask-account", &task)?;
            serde_json::from_slice(&said).map_err(|why| why.to_string())
        };
        let (again, new) = if quick { (20, 2) } else { (300, 20) };
        let warm = ask(again, 0..1)?;
        // Only now: the more people have a role, the longer the file back end takes over each.
        let written = self.node.write_file(ROLES, roles(5 * new).as_bytes(), 0o644, "root:root");
        written.map_err(|why| why.to_string())?;
        let first = ask(new, 1..1 + 5 * new)?;
        let above = Limit { above_floor: Some(ACCOUNT_FIRST_US), ..Limit::default() };
        let within = Limit { value: Some(ACCOUNT_WARM_US), ..Limit::default() };
        Ok(vec![
            Row::timed("account.warm", "µs", &warm, 2, within),
            Row::again("account.warm", "µs", &warm),
            Row::timed("account.first", "µs", &first, 2, above),
            Row::again("account.first", "µs", &first),
        ])
    }
}

/// A roles file that lets in everybody up to this number.
fn roles(last: usize) -> String {
    let row = |number| format!("[[assignment]]\nprincipal = \"{}\"\nrole = \"user\"\n", oid(number));
    (0..=last).map(row).collect()
}

/// The object id of the person of this number.
fn oid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}
