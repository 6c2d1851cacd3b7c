//! What somebody reads whom a rule refuses.

use std::collections::BTreeMap;

use nightlatch_model::{Reason, Role, Timestamp};
use nightlatch_policy::{
    AccessRules, Circumstances, Denial, Facts, GraceRule, LoginRequest, Missing, Moment, ProofKind, Refused,
    RoleAnswer, RuleEffect, Ruled, SignIn, Verdict, decide,
};

use crate::chance::{forwarding, rules, scene};
use crate::dice::Dice;
use crate::given::{NOW, good, grant, now, tenant};
use crate::world::{Plain, guid, person, policy};

fn printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Shows everything that [`demanding`] rules ask for.
fn sign_in() -> SignIn {
    SignIn {
        proof: ProofKind::OpenPubkey,
        issued: NOW,
        auth_time: Some(NOW),
        amr: Some(vec!["mfa".to_owned(), "fido".to_owned()]),
        acrs: Some(vec!["c1".to_owned(), "c2".to_owned()]),
        device: Some(guid(9)),
        groups: Some(vec![guid(1)]),
        prompted: None,
    }
}

fn demanding(effect: RuleEffect) -> Plain {
    Plain {
        amr: vec!["mfa", "fido"],
        acrs: vec!["c1", "c2"],
        device: true,
        max_auth_age: Some(900),
        max_age: Some(7_200),
        ..Plain::new("strong-2", effect)
    }
}

/// What one rule says to alice, and what it misses.
fn refusal(rule: Plain, sign_in: Option<SignIn>) -> Option<(Denial, Vec<Missing>)> {
    let (request, mut facts, rules) = good();
    facts.sign_in = sign_in;
    let policy = policy(&[rule]);
    let access = AccessRules { policy: &policy, ..AccessRules::none() };
    let about = Circumstances {
        service: request.service,
        oid: None,
        role: Some(Role::Admin),
        guest: None,
        sign_in: facts.sign_in.as_ref(),
        from: None,
        began: None,
        now: NOW,
    };
    let missing = match access.rule(&about) {
        Ruled::Refuses { missing, .. } => missing,
        Ruled::NoPolicy | Ruled::Permits { .. } => vec![],
    };
    match decide(None, &request, &facts, &rules, GraceRule::default(), access, now()).judgement.verdict {
        Verdict::Permit(_) => None,
        Verdict::Denial(denial) => Some((denial, missing)),
    }
}

/// A change to the sign-in, what is missing then, and what the hint must hold beside the command.
type Lack = (fn(&mut SignIn), Missing, &'static str);

#[test]
fn each_kind_of_evidence_is_asked_for_with_a_command() {
    let lacks: [Lack; 5] = [
        (|s| s.amr = Some(vec!["mfa".to_owned()]), Missing::Amr("fido".to_owned()), "fido"),
        (|s| s.acrs = Some(vec!["c1".to_owned()]), Missing::Acrs("c2".to_owned()), "--acrs c2"),
        (|s| s.device = None, Missing::Device, "registered device"),
        (|s| s.auth_time = Some(NOW.plus(-901)), Missing::AuthAge(900), "--fresh"),
        (|s| s.issued = NOW.plus(-7_201), Missing::Age(7_200), "--renew"),
    ];
    for (effect, reason) in
        [(RuleEffect::StepUp, Reason::StepUp), (RuleEffect::Permit, Reason::EvidenceMissing)]
    {
        assert_eq!(refusal(demanding(effect), Some(sign_in())), None, "all is shown");
        for (change, missing, word) in &lacks {
            let mut sign_in = sign_in();
            change(&mut sign_in);
            let (denial, found) = refusal(demanding(effect), Some(sign_in)).unwrap();
            assert_eq!((denial.reason(), &found[..]), (reason, std::slice::from_ref(missing)));
            assert!(denial.text().contains("rule `strong-2` asks for "), "{}", denial.text());
            assert!(denial.text().contains(&missing.to_string()), "{}", denial.text());
            assert!(denial.hint().contains("`nightlatch cert"), "{}", denial.hint());
            assert!(denial.hint().contains(word), "{}", denial.hint());
            assert!(printable(denial.text()) && printable(denial.hint()), "{denial:?}");
        }
    }
}

/// Entra's own certificate has no claims; one of which nothing is known may have none.
#[test]
fn a_certificate_without_claims_is_told_to_get_one() {
    let entra = SignIn { proof: ProofKind::Entra, groups: None, ..sign_in() };
    for sign_in in [Some(entra), None] {
        for rule in [
            demanding(RuleEffect::StepUp),
            Plain { groups: Some(vec![1]), ..Plain::new("strong-2", RuleEffect::Permit) },
            Plain { guests: Some(false), ..Plain::new("strong-2", RuleEffect::Permit) },
            Plain { groups: Some(vec![1]), ..Plain::new("strong-2", RuleEffect::Deny) },
        ] {
            let (denial, missing) = refusal(rule.clone(), sign_in.clone()).unwrap();
            assert!(missing.contains(&Missing::Claims), "{rule:?}");
            assert!(denial.text().contains("`strong-2` asks for a certificate with"), "{}", denial.text());
            assert!(denial.hint().contains("`nightlatch cert"), "{}", denial.hint());
        }
    }
}

/// A certificate with claims that lists no groups: another may, if the administrator makes Entra list them.
#[test]
fn groups_that_are_not_listed_are_asked_for() {
    let unlisted = || SignIn { groups: None, ..sign_in() };
    let entra = || SignIn { proof: ProofKind::Entra, amr: None, acrs: None, device: None, ..unlisted() };
    let about = |effect| Plain { groups: Some(vec![1]), ..Plain::new("strong-2", effect) };
    for effect in [RuleEffect::Permit, RuleEffect::Deny] {
        let (denial, missing) = refusal(about(effect), Some(unlisted())).unwrap();
        assert_eq!((denial.reason(), &missing[..]), (Reason::EvidenceMissing, &[Missing::Groups][..]));
        let asks = format!("rule `strong-2` asks for {}", Missing::Groups);
        assert!(denial.text().contains(&asks), "{}", denial.text());
        assert!(denial.hint().starts_with("ask the administrator"), "{}", denial.hint());
        assert!(denial.hint().contains("`nightlatch cert --renew`"), "{}", denial.hint());
        assert!(printable(denial.text()) && printable(denial.hint()), "{denial:?}");
        for sign_in in [Some(entra()), None] {
            for rule in [about(effect), Plain { guests: Some(true), ..Plain::new("strong-2", effect) }] {
                let (denial, missing) = refusal(rule, sign_in.clone()).unwrap();
                assert_eq!(
                    (denial.reason(), &missing[..]),
                    (Reason::EvidenceMissing, &[Missing::Claims][..])
                );
                assert!(!denial.hint().starts_with("ask the administrator"), "{}", denial.hint());
            }
        }
    }
    // Both at once miss one thing; and what a rule requires beside it comes after it.
    let both = Plain { guests: Some(true), device: true, ..about(RuleEffect::Permit) };
    let shows_no_device = SignIn { device: None, ..unlisted() };
    assert_eq!(refusal(both.clone(), Some(shows_no_device)).unwrap().1, [Missing::Groups]);
    assert_eq!(refusal(both, Some(entra())).unwrap().1, [Missing::Claims]);
    // No certificate with claims says whether its person is a guest, nor what the node is.
    for change in [(|rule| rule.guests = Some(true)) as fn(&mut Plain), |rule| {
        rule.patterns = Some(vec!["/subscriptions/s1"])
    }] {
        for (effect, reason) in
            [(RuleEffect::Permit, Reason::PolicyNoRule), (RuleEffect::Deny, Reason::EvidenceMissing)]
        {
            let mut rule = Plain::new("strong-2", effect);
            change(&mut rule);
            let (denial, missing) = refusal(rule, Some(sign_in())).unwrap();
            assert_eq!((denial.reason(), missing), (reason, vec![]));
            assert_eq!(denial.text().contains("rule `strong-2`"), effect == RuleEffect::Deny);
        }
    }
    // A step-up that misses its own evidence says that.
    let step_up = Plain { device: true, ..about(RuleEffect::StepUp) };
    let (denial, missing) = refusal(step_up, Some(SignIn { device: None, ..unlisted() })).unwrap();
    assert_eq!((denial.reason(), missing), (Reason::StepUp, vec![Missing::Device]));
    // Where all groups are listed there is nothing to ask for.
    assert_eq!(refusal(about(RuleEffect::Permit), Some(sign_in())), None);
    let other = SignIn { groups: Some(vec![guid(2)]), ..sign_in() };
    assert_eq!(refusal(about(RuleEffect::Permit), Some(other)).unwrap().0.reason(), Reason::PolicyNoRule);
}

/// One line of printable ASCII that names the rule; somebody without a role is told of no rule, unless it is
/// the one by which their session is over.
#[test]
fn every_refusal_is_printable_and_names_its_rule() {
    let mut seen = BTreeMap::new();
    for number in 0..40_000 {
        let dice = &mut Dice(number);
        let policy = policy(&rules(dice));
        let scene = scene(dice);
        let (request, facts, rules) = good();
        let request = LoginRequest { service: scene.service, ..request };
        let has_role = !dice.once_in(6);
        let role = dice.pick(&[Role::User, Role::Admin]);
        let facts = Facts {
            identity: scene.person.map(|n| (tenant(1), person(n))),
            guest: scene.guest,
            credential_end: Some(Timestamp(scene.now + 9_000)),
            roles: if has_role {
                RoleAnswer::Granted(grant(role))
            } else {
                RoleAnswer::NotGranted(Refused::NoAssignment)
            },
            sign_in: scene.sign_in.clone(),
            from: scene.from,
            began: scene.began.map(Timestamp),
            told: dice.maybe(2, forwarding),
            ..facts
        };
        let moment = Moment { wall: Timestamp(scene.now), ..now() };
        let (verdict, ruled) = scene.with(&policy, |access| {
            let ruling = decide(None, &request, &facts, &rules, GraceRule::default(), access, moment);
            let role = has_role.then_some(role);
            let about = Circumstances { role, ..scene.circumstances() };
            (ruling.judgement.verdict, access.rule(&about))
        });
        let Verdict::Denial(denial) = verdict else { continue };
        *seen.entry(denial.reason().word()).or_insert(0_u32) += 1;
        assert!(printable(denial.text()) && printable(denial.hint()), "{denial:?}");
        if !denial.reason().is_of_access_rules() {
            assert!(
                !denial.text().contains("rule `") && !denial.hint().contains("nightlatch cert"),
                "{denial:?}"
            );
            continue;
        }
        let (rule, reason, missing) = match ruled {
            Ruled::Refuses { rule, reason, missing, .. } => (rule, reason, missing),
            // What lets in has an end and its ways.
            Ruled::Permits { rule, limits, .. } => {
                let reason = denial.reason();
                let its = match reason {
                    Reason::SessionOver => limits.max_session.is_some(),
                    Reason::PolicyChanged => limits.forward.is_some() && has_role,
                    _ => false,
                };
                assert!(its, "{number}: {denial:?} {limits:?}");
                (Some(rule), reason, vec![])
            }
            Ruled::NoPolicy => panic!("{number}: {denial:?}"),
        };
        assert!(has_role || reason == Reason::SessionOver, "{number}: {denial:?}");
        assert_eq!(denial.reason(), reason, "{number}");
        assert!(denial.text().starts_with(reason.text()), "{}", denial.text());
        let named = rule.as_ref().map(|rule| format!("rule `{rule}`"));
        assert_eq!(named.is_none(), reason == Reason::PolicyNoRule, "{number}");
        assert!(named.is_none_or(|named| denial.text().contains(&named)), "{}", denial.text());
        for one in &missing {
            assert!(denial.text().contains(&one.to_string()), "{}", denial.text());
        }
        assert_eq!(
            denial.hint().contains("`nightlatch cert"),
            !missing.is_empty() || reason == Reason::StepUp
        );
    }
    println!("{seen:?}");
    for word in [
        "step_up",
        "policy_denied",
        "policy_no_rule",
        "evidence_missing",
        "no_vm_role",
        "session_over",
        "policy_changed",
    ] {
        assert!(seen.get(word).is_some_and(|count| *count > 300), "{seen:?}: it shows nothing");
    }
}

/// What a sign-in at the prompt adds, and what it leaves to the certificate.
#[test]
fn a_sign_in_at_the_prompt_adds_claims_and_makes_no_other_certificate() {
    let at = Timestamp(5_000);
    let own = SignIn {
        issued: Timestamp(1_000),
        auth_time: Some(Timestamp(900)),
        amr: Some(vec!["pwd".into(), "mfa".into()]),
        acrs: None,
        device: Some(guid(7)),
        ..sign_in()
    };
    let fresh = SignIn {
        issued: Timestamp(4_990),
        auth_time: Some(Timestamp(4_980)),
        amr: Some(vec!["mfa".into(), "fido".into()]),
        acrs: Some(vec!["c1".into()]),
        device: Some(guid(8)),
        groups: Some(vec![guid(9)]),
        ..sign_in()
    };
    let both = own.with_prompted(&fresh, at);
    assert_eq!(both.prompted, Some(at));
    assert_eq!((both.proof, both.issued, both.device), (own.proof, own.issued, own.device));
    // Two sign-ins are not one that is as strong as the one and as fresh as the other.
    assert_eq!((both.auth_time, &both.amr, &both.acrs), (fresh.auth_time, &fresh.amr, &fresh.acrs));
    assert_eq!(both.groups, own.groups);
    let silent = SignIn { auth_time: None, amr: None, acrs: None, ..fresh.clone() };
    let both = own.with_prompted(&silent, at);
    assert_eq!((both.auth_time, both.amr, both.acrs), (None, None, None));
    // What a certificate of Entra's seems to say beside it is not believed.
    let entra = SignIn { proof: ProofKind::Entra, ..own };
    let both = entra.with_prompted(&fresh, at);
    assert!(!entra.has_claims() && both.has_claims());
    assert_eq!((both.proof, both.amr, both.device), (ProofKind::Entra, fresh.amr, None));
    assert_eq!((both.auth_time, both.groups), (fresh.auth_time, fresh.groups));
}
