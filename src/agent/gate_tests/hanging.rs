//! Azure that never answers: what the node knows by itself ends sessions all the same.

use std::os::unix::net::UnixListener;

use nightlatch_model::Reason;
use nightlatch_wire::session::{Sessions, Target};
use nightlatch_wire::{read_frame, write_frame};

use super::super::rejudge::{Pulse, Rejudger};
use super::*;
use crate::sessions::Control;

const LIMIT: Duration = Duration::from_secs(20);

/// Sessiond: gives these rows, and remembers what it was ordered to end.
#[derive(Default)]
struct Sessiond {
    rows: Mutex<Vec<Row>>,
    ended: Mutex<Vec<(Target, String)>>,
}

impl Sessiond {
    fn serve(self: &Arc<Self>, path: &std::path::Path) {
        let (listener, own) = (UnixListener::bind(path).unwrap(), Arc::clone(self));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let Ok(question) = read_frame(&mut stream) else { continue };
                let answer = match question {
                    Message::List(list) => {
                        let rows = own.rows.lock().unwrap();
                        let rows = rows.iter().filter(|row| row.id > list.after).cloned().collect();
                        Message::Sessions(Sessions { rows, more: false })
                    }
                    Message::End(end) => {
                        own.ended.lock().unwrap().push((end.target, end.reason));
                        Message::Done
                    }
                    _ => Message::Done,
                };
                let _ = write_frame(&mut stream, &answer);
            }
        });
    }
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}

#[test]
fn while_azure_hangs_a_revoked_person_and_a_revoked_certificate_end() {
    let rig = rig();
    for (n, name) in [(1, "alice@contoso.com"), (2, "bob@contoso.com")] {
        rig.role(n, Role::User);
        assert_eq!(rig.login(name, n), "permit");
    }
    let pending = rig.table.pending.lock().unwrap().clone();
    let row = |id: u64| {
        let one = pending.iter().find(|one| one.oid == oid(u8::try_from(id).unwrap()).to_string()).unwrap();
        rig.row_of(id, one.clone())
    };
    let sessiond = Arc::new(Sessiond::default());
    sessiond.rows.lock().unwrap().push(row(1));
    let socket = rig.folder.path().join("control.sock");
    sessiond.serve(&socket);
    let config = Config { tenant: TENANT.parse().ok(), ..Config::default() };
    let machine = Machine { resource_id: Some("/subscriptions/s".into()), ..Machine::default() };
    let settings = Settings::resolve(config, &machine).unwrap();
    let control = Control::at(socket, nix::unistd::geteuid().as_raw());
    let rejudger = Rejudger::new(Arc::clone(&rig.gate), control, &settings, Arc::<Pulse>::default());

    rig.script.hangs.store(true, Ordering::SeqCst);
    let before = rig.script.asked.load(Ordering::SeqCst);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        rig.gate.wake.everybody();
        let judging = tokio::spawn(rejudger.run());
        soon("the question", || rig.script.asked.load(Ordering::SeqCst) > before).await;
        rig.gate.withdraw(oid(1), Reason::Revoked).unwrap();
        let ended = || sessiond.ended.lock().unwrap().clone();
        soon("the end of a person", || !ended().is_empty()).await;
        assert_eq!(ended()[0], (Target::Person(rig.uid("alice@contoso.com")), "revoked".to_owned()));
        // Somebody who came in since that look began, and whose certificate is taken back.
        let bobs = row(2);
        let handle = super::super::credential::read_note(&bobs.certificate).unwrap();
        *sessiond.rows.lock().unwrap() = vec![bobs];
        let line = format!("key-id {}", handle.key_id);
        rig.gate.with_facts(|facts| facts.revoked = crate::login::Revocations::parse(&line).unwrap());
        rig.gate.wake.everybody();
        soon("the end of a certificate", || ended().iter().any(|(target, _)| *target == Target::Session(2)))
            .await;
        judging.abort();
    });
}
