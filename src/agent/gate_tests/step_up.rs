//! Sign-ins at the prompt: who is asked, what counts of what was shown, and for whom.

use std::future::Future;
use std::sync::OnceLock;

use nightlatch_jwt::KeySet;
use nightlatch_model::{Guid, Secret};
use nightlatch_openpubkey::Issuer;
use nightlatch_rules::compile;
use nightlatch_wire::{Prompt, PromptStage};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::super::step_up::{Begun, SignInElsewhere, Wanted};
use super::*;
use crate::access::{InForce, NodeZones};

const ALICE: &str = "alice@contoso.com";
const CLIENT: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const OTHER: Parent = Parent { pid: 200, start: 8 };
const WANTS_C1: &str =
    "[[rule]]\nname = 'prod'\neffect = 'step-up'\nwho = { anyone = true }\nrequire = { acrs = ['c1'] }";

/// Entra, where each code waits for what the test says.
#[derive(Default)]
struct Elsewhere {
    wanted: Mutex<Vec<Wanted>>,
    waiting: Mutex<Vec<oneshot::Sender<Result<Secret, String>>>>,
    down: AtomicBool,
}

impl SignInElsewhere for Elsewhere {
    fn begin<'a>(
        &'a self,
        wanted: Wanted,
    ) -> Pin<Box<dyn Future<Output = Result<Begun, String>> + Send + 'a>> {
        self.wanted.lock().unwrap().push(wanted);
        let (end, ended) = oneshot::channel();
        self.waiting.lock().unwrap().push(end);
        let begun = Begun {
            code: "ABCD".into(),
            page: "https://login.example/device".into(),
            good_for: Duration::from_secs(900),
            over: Box::pin(async { ended.await.unwrap_or_else(|_| Err("gone".into())) }),
        };
        let down = self.down.load(Ordering::SeqCst);
        Box::pin(async move { if down { Err("down".into()) } else { Ok(begun) } })
    }

    fn client(&self) -> Guid {
        CLIENT.parse().unwrap()
    }
}

struct Prompting {
    rig: Rig,
    elsewhere: Arc<Elsewhere>,
    issuer: &'static Issuer,
    runtime: Runtime,
}

fn prompting() -> Prompting {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let elsewhere = Arc::new(Elsewhere::default());
    let prompt: Arc<dyn SignInElsewhere> = Arc::<Elsewhere>::clone(&elsewhere);
    let configure = |config: &mut Config| {
        config.login.step_up_prompt = Some(true);
        config.openpubkey.client_ids = Some(vec![CLIENT.to_owned()]);
    };
    let rig = rig_like(&[], configure, Some((prompt, runtime.handle().clone())));
    // Its key is dear to make.
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    let issuer = ISSUER.get_or_init(|| Issuer::new(TENANT, CLIENT).unwrap());
    rig.gate.with_facts(|facts| {
        let mut keys = KeySet::default();
        keys.merge(issuer.jwks().to_string().as_bytes(), NOW).unwrap();
        facts.token_keys = keys;
    });
    let prompting = Prompting { rig, elsewhere, issuer, runtime };
    prompting.rig.role(1, Role::Admin);
    prompting.rules(WANTS_C1);
    prompting
}

impl Prompting {
    fn rules(&self, text: &str) {
        let compiled = compile(&[("rules.toml".to_owned(), text.to_owned())], &NodeZones).unwrap();
        self.rig.gate.with_facts(|facts| facts.access = Arc::new(InForce::new(compiled.policy)));
    }

    /// What PAM asks on a connection that has proven the certificate of a person.
    fn question(&self, stage: PromptStage, monitor: Parent) -> Prompt {
        Prompt {
            stage,
            user: ALICE.into(),
            service: "sshd".into(),
            rhost: "192.0.2.7".into(),
            auth: format!("publickey {}", self.rig.certificate(ALICE, 1)),
            parents: vec![Parent { pid: 777, start: 1 }, monitor],
        }
    }

    fn put(&self, prompt: &Prompt) -> Message {
        self.runtime.block_on(self.rig.gate.step_up(prompt))
    }

    fn ask(&self, stage: PromptStage, monitor: Parent) -> Message {
        self.put(&self.question(stage, monitor))
    }

    fn offer(&self, monitor: Parent) {
        let uid = self.rig.uid(ALICE);
        assert!(matches!(self.rig.offer(ALICE, 1, uid, &[monitor]), Message::Line(_)));
    }

    /// Up to the prompt on a connection.
    fn prompted(&self, monitor: Parent) -> String {
        self.offer(monitor);
        match self.ask(PromptStage::Begin, monitor) {
            Message::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    fn token(&self, who: u8, more: &Value) -> String {
        let mut claims = self.issuer.claims("", NOW.0);
        claims["oid"] = oid(who).to_string().into();
        for (key, value) in more.as_object().unwrap() {
            claims[key] = value.clone();
        }
        self.issuer.id_token(&claims).unwrap()
    }

    /// Ends the sign-in that was begun last.
    fn end(&self, end: Result<String, String>) {
        let waiting = self.elsewhere.waiting.lock().unwrap().pop().unwrap();
        assert!(waiting.send(end.map(Secret::new)).is_ok(), "nobody waits for it");
    }

    fn account(&self, monitor: Parent) -> Message {
        self.rig.account(ALICE, "sshd", &[monitor])
    }

    fn begun(&self) -> usize {
        self.elsewhere.wanted.lock().unwrap().len()
    }
}

fn text(answer: &Message) -> &str {
    match answer {
        Message::Deny { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_shown_lets_this_login_in_and_its_session_live() {
    let at = prompting();
    let said = at.prompted(MONITOR);
    for words in [
        "rule `prod`",
        "`c1`",
        "open https://login.example/device and enter the code ABCD within 55 s",
        "Enter",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(at.elsewhere.wanted.lock().unwrap()[0].context, "c1".parse().ok());
    assert_eq!(at.ask(PromptStage::Shown, MONITOR), Message::Done);
    assert_eq!(at.ask(PromptStage::Over, MONITOR), Message::None, "the person is not done");
    at.end(Ok(at.token(1, &json!({"acrs": ["c1"]}))));
    assert_eq!(at.ask(PromptStage::Over, MONITOR), Message::Done);
    assert_eq!(word(at.account(MONITOR)), "permit");

    // Asked again while it lives, after a restart of what is remembered too; and sudo, by this session.
    let own = at.rig.session(1);
    at.rig.hands.advance(600);
    assert_eq!(at.rig.judge(&own), "stays");
    at.rig.table.rows.lock().unwrap().push(own.clone());
    assert_eq!(at.rig.sudo(ALICE), "permit");
    // A session of the same certificate that was not asked.
    let other = Row { correlation: "another".into(), ..own };
    assert_eq!(at.rig.judge(&other), "step_up alone");
    *at.rig.table.rows.lock().unwrap() = vec![other];
    assert_eq!(at.rig.sudo(ALICE), "step_up");
}

#[test]
fn only_a_connection_that_has_proven_this_certificate_is_asked() {
    let at = prompting();
    let stages = [PromptStage::Begin, PromptStage::Shown, PromptStage::Over];
    let refused = |prompt: Prompt, why: &str| {
        let answer = at.put(&prompt);
        assert_eq!(word(answer), "no_admit", "{why}");
    };
    for stage in stages {
        refused(at.question(stage, MONITOR), "no hook call at all");
    }
    at.offer(MONITOR);
    let other = at.rig.certificate("bob@contoso.com", 2);
    for stage in stages {
        let whole = at.question(stage, MONITOR);
        let key = whole.auth.clone();
        for (why, prompt) in [
            ("nothing proven", Prompt { auth: String::new(), ..whole.clone() }),
            ("a password", Prompt { auth: "password".into(), ..whole.clone() }),
            ("another method before it", Prompt { auth: format!("hostbased {key}"), ..whole.clone() }),
            ("no key", Prompt { auth: "publickey x".into(), ..whole.clone() }),
            ("another key", Prompt { auth: format!("publickey {other}"), ..whole.clone() }),
            ("cut off", Prompt { auth: key[..key.len() - 1].into(), ..whole.clone() }),
            ("another connection", Prompt { parents: vec![OTHER], ..whole.clone() }),
            ("another start", Prompt { parents: vec![Parent { start: 8, ..MONITOR }], ..whole.clone() }),
            ("no parents", Prompt { parents: vec![], ..whole.clone() }),
            ("another name", Prompt { user: "bob@contoso.com".into(), ..whole.clone() }),
            ("another spelling", Prompt { user: "Alice@contoso.com".into(), ..whole.clone() }),
            ("sudo", Prompt { service: "sudo".into(), ..whole.clone() }),
            ("another service", Prompt { service: "login".into(), ..whole.clone() }),
        ] {
            refused(prompt, why);
        }
    }
    // A refused key after it takes the admission away.
    at.rig.offer_key(ALICE, at.rig.uid(ALICE), "ssh-ed25519", "AAAA", &[MONITOR]);
    refused(at.question(PromptStage::Begin, MONITOR), "the last call was about another key");
    assert_eq!(at.begun(), 0);
    at.offer(MONITOR);
    assert_eq!(at.ask(PromptStage::Over, MONITOR), Message::Done, "nothing to wait for");
    assert_eq!(at.ask(PromptStage::Shown, MONITOR), Message::None);
}

#[test]
fn nobody_is_asked_for_what_a_sign_in_cannot_show() {
    let at = prompting();
    let done = |rules: &str, why: &str| {
        at.rules(rules);
        at.offer(MONITOR);
        assert_eq!(at.ask(PromptStage::Begin, MONITOR), Message::Done, "{why}");
        assert_eq!(at.ask(PromptStage::Shown, MONITOR), Message::None, "{why}");
    };
    let wants = |what: &str| WANTS_C1.replace("acrs = ['c1']", what);
    done(
        &WANTS_C1.replace("step-up", "permit").replace("require = { acrs = ['c1'] }", ""),
        "let in as it is",
    );
    let rest = "\n[[rule]]\nname = 'rest'\neffect = 'permit'\nwho = { role = 'user' }\n";
    let deny = WANTS_C1.replace("step-up", "deny").replace("require = { acrs = ['c1'] }", "");
    done(&format!("{deny}{rest}"), "refused as it is");
    done(&wants("acrs = ['c1'], device = true"), "a device");
    done(&wants("acrs = ['c1'], max_age = '1min'"), "the certificate's own age");
    done(&wants("acrs = ['c1', 'c2']"), "two contexts at once");
    at.rig.answer(1, RoleAnswer::NotGranted(Refused::NoAssignment));
    done(WANTS_C1, "no role");
    at.rig.role(1, Role::User);
    at.rig.gate.withdraw(oid(1), nightlatch_model::Reason::Revoked).unwrap();
    done(WANTS_C1, "revoked");
    assert_eq!(at.begun(), 0);
}

/// What is missing is asked for, and what the certificate showed is asked for again: it was another sign-in.
#[test]
fn all_contexts_of_the_rule_are_asked_for_and_credentials_anew_where_they_count() {
    for (require, context, anew) in [
        ("acrs = ['c1']", Some("c1"), false),
        ("max_auth_age = '5min'", None, true),
        ("acrs = ['c3'], max_auth_age = '5min'", Some("c3"), true),
        ("amr = ['mfa']", None, true),
    ] {
        let at = prompting();
        at.rules(&WANTS_C1.replace("acrs = ['c1']", require));
        let said = at.prompted(MONITOR);
        assert_eq!(said.contains("give your credentials anew"), anew, "{said}");
        let wanted = at.elsewhere.wanted.lock().unwrap()[0].context;
        assert_eq!(wanted, context.map(|context| context.parse().unwrap()), "{require}");
    }
}

#[test]
fn each_kind_of_claim_may_be_shown() {
    for (require, shows, lacks) in [
        ("amr = ['mfa']", json!({"amr": ["pwd", "mfa"]}), json!({"amr": ["pwd"]})),
        ("acrs = ['c1']", json!({"acrs": ["c1", "c2"]}), json!({"acrs": ["c2"]})),
        ("max_auth_age = '5min'", json!({"auth_time": NOW.0 - 10}), json!({"auth_time": NOW.0 - 400})),
        ("max_auth_age = '5min'", json!({"auth_time": NOW.0 - 299}), json!({})),
    ] {
        for (claims, expected) in [(shows, "permit"), (lacks, "step_up")] {
            let at = prompting();
            at.rules(&WANTS_C1.replace("acrs = ['c1']", require));
            at.prompted(MONITOR);
            at.end(Ok(at.token(1, &claims)));
            assert_eq!(at.ask(PromptStage::Over, MONITOR), Message::Done);
            let answer = at.account(MONITOR);
            assert_eq!(word(answer), expected, "{require} {claims}");
        }
    }
    // Groups and guests, which a permit rule asks about.
    let group = "00000000-0000-4000-8000-000000000abc";
    let at = prompting();
    at.rules(&format!("[[rule]]\nname = 'ops'\neffect = 'permit'\nwho = {{ groups = ['{group}'] }}"));
    at.prompted(MONITOR);
    assert_eq!(at.elsewhere.wanted.lock().unwrap()[0].context, None);
    at.end(Ok(at.token(1, &json!({"groups": [group]}))));
    assert_eq!(at.ask(PromptStage::Over, MONITOR), Message::Done);
    assert_eq!(word(at.account(MONITOR)), "permit");
}

#[test]
fn a_token_of_another_person_place_or_time_shows_nothing() {
    let at = prompting();
    let stranger = Issuer::new(TENANT, CLIENT).unwrap();
    let elsewhere = Issuer::new("22222222-2222-3333-4444-555555555555", CLIENT).unwrap();
    let c1 = |more: Value| {
        let mut claims = json!({"acrs": ["c1"]});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let refused = "the sign-in with the code was not accepted; ";
    let failed = "the sign-in with the code did not come to an end; ";
    let mut claims = elsewhere.claims("", NOW.0);
    claims["oid"] = oid(1).to_string().into();
    claims["acrs"] = json!(["c1"]);
    for (n, (end, words)) in [
        (
            Ok(at.token(2, &c1(json!({})))),
            "another person than the holder of the certificate signed in with the code; ",
        ),
        (Ok(at.token(1, &c1(json!({"aud": "00000000-0000-4000-8000-00000000ffff"})))), refused),
        (
            Ok(at.token(1, &c1(json!({"exp": NOW.0 - 100, "iat": NOW.0 - 4_000, "nbf": NOW.0 - 4_000})))),
            refused,
        ),
        (Ok(elsewhere.id_token(&claims).unwrap()), refused),
        (Ok("no token".to_owned()), refused),
        (Err("AADSTS70020".to_owned()), failed),
        // Signed by a key that nobody knows: given up after some seconds, and never believed.
        (Ok(stranger.id_token(&claims).unwrap()), refused),
    ]
    .into_iter()
    .enumerate()
    {
        at.rig.hands.advance(30);
        let monitor = Parent { pid: 300, start: 3_000 * (u64::try_from(n).unwrap() + 1) };
        at.prompted(monitor);
        at.end(end);
        while at.ask(PromptStage::Over, monitor) == Message::None {}
        let answer = at.account(monitor);
        assert!(text(&answer).starts_with(words), "{n}: {answer:?}");
        assert!(text(&answer).contains("reason step_up, ref "), "{n}: {answer:?}");
    }
}

#[test]
fn what_was_shown_moves_to_no_other_connection_certificate_or_moment() {
    let at = prompting();
    at.prompted(MONITOR);
    at.end(Ok(at.token(1, &json!({"acrs": ["c1"]}))));
    assert_eq!(at.ask(PromptStage::Over, MONITOR), Message::Done);
    // Another connection with the same certificate.
    at.offer(OTHER);
    assert_eq!(word(at.account(OTHER)), "step_up");
    assert_eq!(at.ask(PromptStage::Shown, OTHER), Message::None);
    // Another certificate of the same person on this one.
    let later = CertificateBuilder::new(&at.rig.holder)
        .principals([ALICE])
        .text_extension("oid@entra.microsoft.com", oid(1).to_string())
        .text_extension("tid@entra.microsoft.com", TENANT)
        .valid(u64::try_from(NOW.0 - 299).unwrap(), u64::try_from(NOW.0 + 3_300).unwrap())
        .line(&at.rig.ca);
    let (key_type, key) = later.split_once(' ').unwrap();
    assert!(matches!(
        at.rig.offer_key(ALICE, at.rig.uid(ALICE), key_type, key, &[MONITOR]),
        Message::Line(_)
    ));
    assert_eq!(word(at.account(MONITOR)), "step_up");
    // A decision that comes while nobody signed in is not held up, and not let in.
    let third = Parent { pid: 400, start: 1 };
    at.prompted(third);
    let answer = at.account(third);
    assert!(text(&answer).starts_with("nobody signed in with the code in time; "), "{answer:?}");
}

#[test]
fn prompts_are_bounded_and_silence_of_entra_refuses_as_without_one() {
    let at = prompting();
    let monitor = |n: u32| Parent { pid: 500 + n, start: 1 };
    for n in 0..3 {
        at.prompted(monitor(n));
    }
    // Who hung up three times is asked all the same; the oldest makes way, and its end is not waited for.
    at.prompted(monitor(3));
    assert_eq!(at.ask(PromptStage::Shown, monitor(0)), Message::None);
    assert_eq!(at.ask(PromptStage::Over, monitor(0)), Message::Done);
    assert_eq!(word(at.account(monitor(0))), "step_up");
    assert_eq!(at.ask(PromptStage::Shown, monitor(1)), Message::Done);
    at.prompted(monitor(4));
    at.offer(monitor(5));
    assert_eq!(at.ask(PromptStage::Begin, monitor(5)), Message::Done, "five within a moment");
    assert_eq!(word(at.account(monitor(5))), "step_up");

    let at = prompting();
    at.elsewhere.down.store(true, Ordering::SeqCst);
    at.offer(MONITOR);
    assert_eq!(at.ask(PromptStage::Begin, MONITOR), Message::Done);
    let answer = at.account(MONITOR);
    assert!(text(&answer).contains("`nightlatch cert --acrs c1"), "{answer:?}");
    // Too little of LoginGraceTime is left for a person, counted from the beginning of the connection.
    let at = prompting();
    at.rig.hands.advance(1_041);
    let long_ago = Parent { pid: 600, start: 100_000 };
    at.offer(long_ago);
    assert_eq!(at.ask(PromptStage::Begin, long_ago), Message::Done);
    assert_eq!(at.begun(), 0);
    let a_little_later = Parent { pid: 601, start: 100_200 };
    assert!(at.prompted(a_little_later).contains("within 16 s"));
}

/// Of rules that are tried on the past: whoever would be asked at the prompt is neither refused nor let in by them.
#[test]
fn a_replay_tells_who_would_be_asked_from_who_would_be_refused() {
    let at = prompting();
    at.rules(&WANTS_C1.replace("step-up", "permit").replace("require = { acrs = ['c1'] }", ""));
    at.offer(MONITOR);
    assert_eq!(word(at.account(MONITOR)), "permit");
    at.rig.records(2);
    let file = |text: &str| vec![crate::agent::admin::v1::RulesFile { name: "x".into(), text: text.into() }];
    let tried = |rig: &Rig, text: &str| {
        let reply = rig.gate.replay(Timestamp(0), file(text));
        let now = reply.rows.iter().map(|row| row.now.clone()).collect::<Vec<_>>().join(" ");
        (reply.refused, reply.permitted, reply.prompted, now)
    };
    let wants = |what: &str| WANTS_C1.replace("acrs = ['c1']", what);
    assert_eq!(tried(&at.rig, WANTS_C1), (0, 0, 1, "prompt".into()));
    assert_eq!(tried(&at.rig, &wants("acrs = ['c1'], device = true")), (1, 0, 0, "step_up".into()));
    assert_eq!(tried(&at.rig, &wants("acrs = ['c1', 'c2']")), (1, 0, 0, "step_up".into()));
    // Whoever was asked then and showed nothing was refused by the same rule: no difference.
    at.rules(WANTS_C1);
    at.offer(OTHER);
    assert_eq!(word(at.account(OTHER)), "step_up");
    at.rig.records(4);
    assert_eq!(tried(&at.rig, WANTS_C1), (0, 0, 1, "prompt".into()));
    // Refused for another reason, and asked by these rules.
    assert_eq!(tried(&at.rig, &WANTS_C1.replace("step-up", "permit")), (0, 0, 2, "prompt prompt".into()));
    // Where nobody is asked at the prompt, refused is refused.
    let silent = rig();
    silent.role(1, Role::Admin);
    assert_eq!(silent.login(ALICE, 1), "permit");
    silent.records(2);
    assert_eq!(tried(&silent, WANTS_C1), (1, 0, 0, "step_up".into()));
}
