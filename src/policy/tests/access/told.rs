//! What sshd was told to open, beside what the rule that decides allows.

use nightlatch_model::{Reason, Role};
use nightlatch_policy::{
    AccessRules, Denial, Effect, Facts, Forwarding, GraceRule, Judgement, Limits, LoginRequest, Outcome,
    Refused, RoleAnswer, RuleEffect, Ruled, Ruling, Verdict, decide, judge,
};

use crate::case::{FEWER_CASES, case};
use crate::given::{NOW, good, grant, now, secs, upstream, yes};
use crate::world::{Plain, SERVICES, Scene, policy};

/// All eight, and nothing told or set.
fn all_ways() -> impl Iterator<Item = Option<Forwarding>> + Clone {
    let bit = |set: u8, bit: u8| set & (1 << bit) != 0;
    (0..9_u8).map(move |set| {
        (set < 8).then(|| Forwarding { port: bit(set, 0), agent: bit(set, 1), x11: bit(set, 2) })
    })
}

fn ways(port: bool, agent: bool, x11: bool) -> Forwarding {
    Forwarding { port, agent, x11 }
}

fn step(judgement: &Judgement, rule: &str) -> Outcome {
    judgement.steps.iter().find(|step| step.rule == rule).unwrap().outcome
}

fn refused(judgement: &Judgement) -> Option<Reason> {
    match &judgement.verdict {
        Verdict::Denial(denial) => Some(denial.reason()),
        Verdict::Permit(_) => None,
    }
}

fn permits(forward: Option<Forwarding>) -> Ruled {
    let limits = Limits { forward, ..Limits::default() };
    Ruled::Permits { rule: "ways".into(), limits, closes: None, trace: "what each rule did".to_owned() }
}

/// 9 x 9 at each door: it fails exactly where a way was opened that the rule does not allow.
#[test]
fn full_truth_table_of_what_was_told_and_what_is_allowed() {
    let (mut passed, mut failed) = (0, 0);
    for service in SERVICES {
        for (told, forward) in all_ways().flat_map(|told| all_ways().map(move |forward| (told, forward))) {
            let (request, facts, rules) = good();
            let request = LoginRequest { service, ..request };
            let facts = Facts { told, access: permits(forward), ..facts };
            let judgement = judge(&request, &facts, &rules, NOW);
            let fits = match (told, forward) {
                (Some(told), Some(forward)) => {
                    [(told.port, forward.port), (told.agent, forward.agent), (told.x11, forward.x11)]
                        .iter()
                        .all(|way| *way != (true, false))
                }
                _ => true,
            };
            let text = format!("{service:?} {told:?} {forward:?}");
            let (outcome, reason) = if fits {
                (Outcome::Pass, None)
            } else {
                (Outcome::Fail(Reason::PolicyChanged), Some(Reason::PolicyChanged))
            };
            assert_eq!(step(&judgement, "access rules"), outcome, "{text}");
            assert_eq!(refused(&judgement), reason, "{text}");
            assert!(judgement.steps.last().unwrap().input.contains("what each rule did"), "{text}");
            if fits { passed += 1 } else { failed += 1 }
        }
    }
    // Of each way, three of four pairs fit.
    assert_eq!((passed, failed), (4 * (27 + 17), 4 * (64 - 27)));
}

/// Without rules, and where they refuse, what was told is nothing.
#[test]
fn it_is_looked_at_only_where_a_rule_permits() {
    let trace = String::new;
    let no = |reason| Ruled::Refuses { rule: None, reason, missing: vec![], trace: trace() };
    for (access, outcome) in [
        (Ruled::NoPolicy, Outcome::Skip),
        (no(Reason::PolicyNoRule), Outcome::Fail(Reason::PolicyNoRule)),
        (no(Reason::StepUp), Outcome::Fail(Reason::StepUp)),
    ] {
        for told in all_ways() {
            let (request, facts, rules) = good();
            let facts = Facts { told, access: access.clone(), ..facts };
            assert_eq!(step(&judge(&request, &facts, &rules, NOW), "access rules"), outcome, "{told:?}");
        }
    }
}

/// It is the last of the reasons.
#[test]
fn every_other_reason_comes_first() {
    type Break = (Reason, fn(&mut Facts));
    let breaks: [Break; 5] = [
        (Reason::NoAdmit, |f| f.admitted = false),
        (Reason::SessionOver, |f| f.began = Some(NOW.plus(-3_600))),
        (Reason::CertExpired, |f| f.credential_end = Some(NOW)),
        (Reason::NoVmRole, |f| f.roles = RoleAnswer::NotGranted(Refused::NoAssignment)),
        (Reason::UpstreamUnknown, |f| f.roles = RoleAnswer::Unknown(upstream())),
    ];
    for service in SERVICES {
        for (reason, change) in breaks {
            let (request, mut facts, rules) = good();
            let limits = Limits {
                max_session: std::num::NonZeroU32::new(3_600),
                forward: Some(ways(false, false, false)),
                ..Limits::default()
            };
            facts.access = Ruled::Permits { rule: "ways".into(), limits, closes: None, trace: String::new() };
            facts.told = Some(Forwarding::ALL);
            change(&mut facts);
            let request = LoginRequest { service, ..request };
            assert_eq!(refused(&judge(&request, &facts, &rules, NOW)), Some(reason), "{service:?}");
        }
    }
}

/// Alice, who is an administrator and whose kept yes is `last`, with ways open.
fn ask(rules: &[Plain], told: Option<Forwarding>, roles: RoleAnswer, last: Role) -> Ruling {
    let (request, facts, node_rules) = good();
    let facts = Facts { told, roles, ..facts };
    let policy = policy(rules);
    let access = AccessRules { policy: &policy, ..AccessRules::none() };
    let grace = GraceRule::new(secs(3_600), secs(3_600));
    decide(Some(&yes(last, secs(60))), &request, &facts, &node_rules, grace, access, now())
}

fn denial(ruling: Ruling) -> Denial {
    match ruling.judgement.verdict {
        Verdict::Denial(denial) => denial,
        Verdict::Permit(permit) => panic!("{permit:?}"),
    }
}

/// Told by the rule for users, decided by the one for administrators; and the other way round.
#[test]
fn another_rule_decides_than_the_one_that_was_told_by() {
    let rule = |name, effect, role, forward| Plain {
        role: Some(role),
        limits: Limits { forward: Some(forward), ..Limits::default() },
        ..Plain::new(name, effect)
    };
    let (wide, narrow) = (ways(true, true, false), ways(true, false, true));
    for effect in [RuleEffect::Permit, RuleEffect::StepUp] {
        let rules = [rule("users", effect, Role::User, wide), rule("admins", effect, Role::Admin, narrow)];
        for (told, role, name) in [
            (wide, Role::User, None),
            (narrow, Role::Admin, None),
            (wide.and(narrow), Role::User, None),
            (wide.and(narrow), Role::Admin, None),
            (wide, Role::Admin, Some("rule `admins`")),
            (narrow, Role::User, Some("rule `users`")),
            (Forwarding::ALL, Role::User, Some("rule `users`")),
        ] {
            for azure in [RoleAnswer::Granted(grant(role)), RoleAnswer::Unknown(upstream())] {
                let silent = matches!(azure, RoleAnswer::Unknown(_));
                let ruling = ask(&rules, Some(told), azure, role);
                assert_eq!(ruling.role, Some(role));
                let Some(name) = name else {
                    assert_eq!(refused(&ruling.judgement), None, "{told:?} {role:?}");
                    assert_eq!(matches!(ruling.effect, Effect::Remember(_)), !silent);
                    continue;
                };
                assert_eq!(ruling.effect, Effect::Nothing, "the kept yes is the same");
                let denial = denial(ruling);
                assert_eq!(denial.reason(), Reason::PolicyChanged);
                assert!(denial.text().contains(name), "{}", denial.text());
                assert!(denial.text().starts_with(Reason::PolicyChanged.text()), "{}", denial.text());
            }
        }
        // It is a refusal by a rule: of the yes that is not given, what it takes away is kept.
        let ruling = ask(&rules, Some(narrow), RoleAnswer::Granted(grant(Role::User)), Role::Admin);
        assert_eq!(
            (refused(&ruling.judgement), &ruling.effect),
            (Some(Reason::PolicyChanged), &Effect::Erase)
        );
        let ruling = ask(&rules, None, RoleAnswer::Granted(grant(Role::User)), Role::Admin);
        assert_eq!(refused(&ruling.judgement), None, "nothing was told");
    }
}

/// What sshd is told beforehand is never a reason as long as nothing but role and address was not known then.
#[test]
fn what_the_rules_themselves_told_is_never_too_much() {
    let (mut let_in, mut narrow) = (0, 0);
    for number in 0..FEWER_CASES {
        let mut case = case(number);
        let early = Scene { role: None, from: None, ..case.scene.clone() };
        let told = early.with(&case.policy, |access| access.forwarding(&early.circumstances(), false));
        case.facts.told = Some(told);
        let ruling = case.by_rules();
        assert_ne!(refused(&ruling.judgement), Some(Reason::PolicyChanged), "case {number}");
        if refused(&ruling.judgement).is_none() {
            let_in += 1;
            narrow += u32::from(told != Forwarding::ALL);
        }
    }
    assert!(let_in > 1_800 && narrow > 700, "{let_in} {narrow}: it shows nothing");
}
