//! What runs inside the node: asks the real daemon on its real sockets, as the hook's user and as root, and
//! times each question from `connect` to the whole answer: what sshd and PAM wait for, the machine's own
//! waits included. The daemon's own times, from accept to reply, are what `nightlatch status` says of them.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use nightlatch::store::replace_file;
use nightlatch::telemetry::SERVICE_TIMES_KEPT as KEPT;
use nightlatch_model::{LoginName, TenantId, uid_of};
use nightlatch_sshcert::testing::TestKey;
use nightlatch_wire::{Account, Auth, Message, NO_LOGINUID, Offer, Parent, read_frame};
use serde::{Deserialize, Serialize};

use crate::pairs::{AGAIN, FLOOR, Plan, measure, median, micros};

const HOOK: &str = "/run/nightlatch/hook.sock";
const ACCOUNT: &str = "/run/nightlatch/account.sock";
/// What the daemon replaces at a first login, durably and not.
const BOOK: &str = "/var/lib/nightlatch/accounts.json";
const SNAPSHOT: &str = "/run/nightlatch/accounts/snapshot.json";
/// As large as what an Entra certificate's signature covers, in bytes.
const SIGNED_BYTES: usize = 1_100;

/// A certificate that somebody holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) user: String,
    /// `type base64`.
    pub(crate) certificate: String,
}

/// What to ask on the hook's socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Admissions {
    pub(crate) plan: Plan,
    pub(crate) tenant: TenantId,
    /// Offered again and again.
    pub(crate) warm: Holder,
    /// Each offered once; enough for the plan.
    pub(crate) cold: Vec<Holder>,
}

/// Questions of one kind, as many as the daemon keeps the times of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) tenant: TenantId,
    /// Offered in turns.
    pub(crate) holders: Vec<Holder>,
    /// Whether they are to be admitted.
    pub(crate) admitted: bool,
    /// The number of the first connection.
    pub(crate) first_monitor: usize,
}

/// Whom to let in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Logins {
    pub(crate) plan: Plan,
    pub(crate) tenant: TenantId,
    /// One person who logs in again and again, or one for each round who logs in for the first time. Each
    /// has a monitor of its own, which lives: its pid and start time.
    pub(crate) people: Vec<((u32, u64), Holder)>,
}

/// The monitor that sshd would have for the connection of this number.
fn monitor(number: usize) -> Parent {
    Parent { pid: 3_000_000 + u32::try_from(number).unwrap_or(0), start: number as u64 + 1 }
}

fn offer(holder: &Holder, tenant: TenantId, parent: Parent) -> Result<Vec<u8>, String> {
    let (key_type, key) = holder.certificate.split_once(' ').ok_or("not `type base64`")?;
    let name = LoginName::parse(&holder.user).map_err(|why| why.to_string())?;
    let offer = Offer {
        user: holder.user.clone(),
        uid: uid_of(tenant, &name),
        key_type: key_type.to_owned(),
        key: key.to_owned(),
        key_len: u32::try_from(key.len()).map_err(|why| why.to_string())?,
        parents: vec![parent],
    };
    Message::Offer(offer).encode().map_err(|why| why.to_string())
}

/// One question: microseconds from connect to the whole answer, and the answer.
fn ask(socket: &str, question: &[u8]) -> Result<(f64, Message), String> {
    let (took, answer) = micros(|| {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(question)?;
        read_frame(&mut stream).map_err(|why| std::io::Error::other(why.to_string()))
    });
    Ok((took, answer.map_err(|why| format!("{socket}: {why}"))?))
}

/// The floor of an admission: one RSA-2048 verification as `sshcert` does it.
struct RsaFloor {
    n: Vec<u8>,
    e: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl RsaFloor {
    fn new() -> Result<Self, String> {
        let key = TestKey::rsa2048();
        let (n, e) = key.rsa_n_e().ok_or("no RSA key")?;
        let message = vec![0x5a; SIGNED_BYTES];
        let signature = key.sign_raw("rsa-sha2-256", &message);
        Ok(Self { n, e, message, signature })
    }

    fn once(&self) -> Result<f64, String> {
        let key = PublicKeyComponents { n: &self.n, e: &self.e };
        let (took, done) = micros(|| key.verify(&RSA_PKCS1_2048_8192_SHA256, &self.message, &self.signature));
        done.map(|()| took).map_err(|_| "the floor's own signature does not verify".to_owned())
    }
}

/// As the hook's user. Programs: verify, verify, a known certificate, a new certificate, a key that is no
/// certificate (what the socket, the frame and the peer check cost).
///
/// # Errors
/// When an answer is not the one that belongs to the question.
pub(crate) fn admission() -> Result<(), String> {
    let task: Admissions = crate::told()?;
    let floor = RsaFloor::new()?;
    let plain = Holder { user: task.warm.user.clone(), certificate: TestKey::rsa2048().line() };
    for round in 0..20 {
        floor.once()?;
        ask(HOOK, &offer(&task.warm, task.tenant, monitor(100_000 + round))?)?;
    }
    let paired = measure(task.plan, 5, |program, round| {
        if program == FLOOR || program == AGAIN {
            return floor.once();
        }
        let holder = match program {
            2 => &task.warm,
            3 => task.cold.get(round).ok_or("too few new certificates")?,
            _ => &plain,
        };
        let (took, answer) = ask(HOOK, &offer(holder, task.tenant, monitor(round))?)?;
        match (program, answer) {
            (2 | 3, Message::Line(_)) | (4, Message::None) => Ok(took),
            (_, other) => Err(format!("question {program}: {other:?}")),
        }
    })?;
    crate::say(&paired)
}

/// As the hook's user: as many questions of one kind as the daemon keeps the times of, each after the floor.
/// Says the medians of the floor's even and odd runs; the daemon itself says how long its answers took.
///
/// # Errors
/// When an answer is not the one that belongs to the question.
pub(crate) fn service() -> Result<(), String> {
    let task: Service = crate::told()?;
    let floor = RsaFloor::new()?;
    let mut floors = [Vec::new(), Vec::new()];
    for (number, holder) in task.holders.iter().cycle().take(KEPT).enumerate() {
        let question = offer(holder, task.tenant, monitor(task.first_monitor + number / 8))?;
        floors[number % 2].push(floor.once()?);
        match ask(HOOK, &question)?.1 {
            Message::Line(_) if task.admitted => {}
            Message::None if !task.admitted => {}
            other => return Err(format!("question {number}: {other:?}")),
        }
    }
    crate::say(&floors.map(|mut times| median(&mut times)))
}

/// As the hook's user: offers everybody's certificate once, as sshd does before PAM asks.
///
/// # Errors
/// When one is not admitted.
pub(crate) fn offers() -> Result<(), String> {
    let task: Logins = crate::told()?;
    for ((pid, start), holder) in &task.people {
        let seat = Parent { pid: *pid, start: *start };
        match ask(HOOK, &offer(holder, task.tenant, seat)?)?.1 {
            Message::Line(_) => {}
            other => return Err(format!("{}: {other:?}", holder.user)),
        }
    }
    crate::say(&())
}

/// As root. Of one person: the auth question, again, the account question when the person is in already.
/// Of many: the two files replaced, again, the account question of somebody new.
///
/// # Errors
/// When somebody is not let in.
pub(crate) fn account() -> Result<(), String> {
    let task: Logins = crate::told()?;
    let mut asked = 0_u32;
    let mut question = |((pid, start), holder): &((u32, u64), Holder)| -> Result<f64, String> {
        asked += 1;
        // Each from another address: one address alone may not ask so often.
        let [_, a, b, c] = asked.to_be_bytes();
        let account = Account {
            user: holder.user.clone(),
            service: "sshd".to_owned(),
            rhost: format!("10.{a}.{b}.{c}"),
            tty: "ssh".to_owned(),
            loginuid: NO_LOGINUID,
            audit_session: NO_LOGINUID,
            parents: vec![Parent { pid: *pid, start: *start }],
        };
        let bytes = Message::Account(account).encode().map_err(|why| why.to_string())?;
        match ask(ACCOUNT, &bytes)? {
            (took, Message::Permit { .. }) => Ok(took),
            (_, other) => Err(format!("{}: {other:?}", holder.user)),
        }
    };
    let [person] = &task.people[..] else {
        let first = measure(task.plan, 3, |program, round| match program {
            FLOOR | AGAIN => writes(),
            _ => question(&task.people[round]),
        });
        return crate::say(&first?);
    };
    for _ in 0..20 {
        question(person)?;
    }
    let auth = Auth {
        user: person.1.user.clone(),
        service: "sshd".to_owned(),
        rhost: "10.0.0.1".to_owned(),
        parents: vec![Parent { pid: person.0.0, start: person.0.1 }],
    };
    let auth = Message::Auth(auth).encode().map_err(|why| why.to_string())?;
    let warm = measure(task.plan, 3, |program, _| match program {
        FLOOR | AGAIN => match ask(ACCOUNT, &auth)? {
            (took, Message::Text(_)) => Ok(took),
            (_, other) => Err(format!("auth: {other:?}")),
        },
        _ => question(person),
    });
    crate::say(&warm?)
}

/// The daemon's two files, as large as they are at the moment, replaced beside them.
fn writes() -> Result<f64, String> {
    let beside = |path: &str| -> Result<(PathBuf, Vec<u8>), String> {
        let bytes = fs::read(path).map_err(|why| format!("{path}: {why}"))?;
        Ok((Path::new(path).with_extension("bench"), bytes))
    };
    let (book, snapshot) = (beside(BOOK)?, beside(SNAPSHOT)?);
    let (took, done) = micros(|| {
        replace_file(&book.0, &book.1, 0o600, true)?;
        replace_file(&snapshot.0, &snapshot.1, 0o644, false)
    });
    done.map(|()| took).map_err(|why| why.to_string())
}
