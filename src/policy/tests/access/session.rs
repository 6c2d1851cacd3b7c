//! The length of a session, and the two steps in the order of a judgement.

use std::num::NonZeroU32;

use nightlatch_model::{Answer, Reason, Role};
use nightlatch_policy::{
    AccessRules, Denial, Effect, Facts, GraceRule, Judgement, Limits, LoginRequest, Moment, NodeFacts,
    Outcome, Permit, Refused, RoleAnswer, RuleEffect, Ruled, Rules, Ruling, Service, Verdict, decide, judge,
};

use crate::given::{NOW, good, grant, now, secs, yes};
use crate::world::{Plain, SERVICES, policy};

const LONGEST: i64 = 3_600;

/// Alice's session, which began so many seconds ago, by a rule that allows an hour.
struct Session {
    request: LoginRequest,
    facts: Facts,
    rules: Rules,
    policy: Vec<Plain>,
}

fn began(ago: Option<i64>) -> Session {
    let (mut request, mut facts, rules) = good();
    request.service = Service::Live;
    facts.began = ago.map(|ago| NOW.plus(-ago));
    let limits = Limits { max_session: NonZeroU32::new(3_600), ..Limits::default() };
    Session {
        request,
        facts,
        rules,
        policy: vec![Plain { limits, ..Plain::new("hour", RuleEffect::Permit) }],
    }
}

impl Session {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn ask_at(&self, now: Moment) -> Ruling {
        let Self { request, facts, rules, .. } = self;
        let (policy, node) = (policy(&self.policy), NodeFacts::default());
        let access = AccessRules { policy: &policy, node: &node, offsets: &[] };
        decide(Some(&yes(Role::Admin, secs(60))), request, facts, rules, GraceRule::default(), access, now)
    }

    fn verdict(&self) -> Result<Permit, Denial> {
        match self.ask_at(now()).judgement.verdict {
            Verdict::Permit(permit) => Ok(permit),
            Verdict::Denial(denial) => Err(denial),
        }
    }

    /// In how many seconds the permit ends.
    fn left(&self) -> Result<i64, Reason> {
        self.verdict().map(|permit| permit.until().since(NOW)).map_err(|denial| denial.reason())
    }
}

#[test]
fn a_session_is_counted_from_its_beginning() {
    // The certificate ends in an hour.
    for (ago, left) in [(0, Ok(3_600)), (1, Ok(3_599)), (3_599, Ok(1)), (3_600, Err(())), (3_601, Err(()))] {
        assert_eq!(began(Some(ago)).left(), left.map_err(|()| Reason::SessionOver), "{ago}");
    }
    let admin = began(Some(3_000)).verdict().unwrap();
    assert_eq!((admin.until(), admin.admin_until()), (NOW.plus(600), Some(NOW.plus(600))));
    let long = began(Some(5_000)).with(|s| s.policy[0].limits.max_session = NonZeroU32::new(u32::MAX));
    assert_eq!(long.left(), Ok(3_600));
    for service in [Service::Ssh, Service::Sudo, Service::Other] {
        let fresh = began(None).with(|s| {
            s.request.service = service;
            s.facts.credential_end = Some(NOW.plus(9_000));
        });
        assert_eq!(fresh.left(), Ok(LONGEST), "one that is to begin");
    }
}

/// Judged every ten minutes, it ends in the second that was told at first.
#[test]
fn judging_a_session_again_does_not_lengthen_it() {
    let session = began(Some(0)).with(|s| s.facts.credential_end = Some(NOW.plus(50_000)));
    let mut ended = None;
    for second in (0..=7_200).step_by(600) {
        let up = now().since_boot + secs(u64::try_from(second).unwrap());
        let later = Moment { wall: NOW.plus(second), since_boot: up, ..now() };
        match session.ask_at(later).judgement.verdict {
            Verdict::Permit(permit) => assert_eq!(permit.until(), NOW.plus(LONGEST)),
            Verdict::Denial(denial) => {
                assert_eq!(denial.reason(), Reason::SessionOver);
                ended.get_or_insert(second);
            }
        }
    }
    assert_eq!(ended, Some(LONGEST));
}

#[test]
fn the_length_is_the_reason_even_where_the_credential_ends_with_it() {
    for ends in [-1, 0, 1] {
        let over = began(Some(LONGEST)).with(|s| s.facts.credential_end = Some(NOW.plus(ends)));
        assert_eq!(over.left(), Err(Reason::SessionOver));
        let denial = over.verdict().unwrap_err();
        assert_eq!(denial.answer(), Answer::Denial);
        // Without rules it is a definite no where the credential has ended, and else a yes like the kept one.
        let want = if ends <= 0 { Effect::Erase } else { Effect::Nothing };
        assert_eq!(over.ask_at(now()).effect, want, "{ends}: the role still stands");
        assert!(denial.text().contains("rule `hour`"), "{}", denial.text());
    }
    let not_yet = began(Some(LONGEST - 1)).with(|s| s.facts.credential_end = Some(NOW));
    assert_eq!(not_yet.left(), Err(Reason::CertExpired));
}

/// Only the rule that permits sets a length.
#[test]
fn a_rule_that_does_not_permit_sets_no_length() {
    let other = |change: fn(&mut Plain)| {
        began(Some(5_000)).with(|s| {
            change(&mut s.policy[0]);
            s.policy.push(Plain::new("rest", RuleEffect::Permit));
        })
    };
    assert_eq!(other(|_| ()).left(), Err(Reason::SessionOver));
    assert_eq!(other(|rule| rule.role = Some(Role::User)).left(), Ok(3_600));
    assert_eq!(other(|rule| rule.device = true).left(), Ok(3_600));
    let refused = other(|rule| (rule.device, rule.effect) = (true, RuleEffect::StepUp));
    assert_eq!(refused.left(), Err(Reason::StepUp));
    let no_role = other(|_| ()).with(|s| s.facts.roles = RoleAnswer::NotGranted(Refused::NoAssignment));
    assert_eq!((no_role.left(), no_role.ask_at(now()).effect), (Err(Reason::SessionOver), Effect::Erase));
}

fn steps(judgement: &Judgement) -> Vec<(&'static str, Outcome)> {
    judgement.steps.iter().map(|step| (step.rule, step.outcome)).collect()
}

/// Every set of six: the rules refuse, the session is over, the credential is, not admitted, no role, a user.
#[test]
fn the_first_step_that_fails_decides() {
    for service in SERVICES {
        for set in 0_u8..64 {
            let [refused, over, ended, not_admitted, no_role, user] =
                [0, 1, 2, 3, 4, 5].map(|bit| set & (1 << bit) != 0);
            let (mut request, mut facts, rules) = good();
            request.service = service;
            facts.began = Some(NOW.plus(if over { -LONGEST } else { 1 - LONGEST }));
            facts.credential_end = Some(NOW.plus(if ended { 0 } else { 9_000 }));
            facts.admitted = !not_admitted;
            facts.roles = match (no_role, user) {
                (true, _) => RoleAnswer::NotGranted(Refused::NoAssignment),
                (false, true) => RoleAnswer::Granted(grant(Role::User)),
                (false, false) => RoleAnswer::Granted(grant(Role::Admin)),
            };
            let trace = "what each rule did".to_owned();
            let limits = Limits { max_session: NonZeroU32::new(3_600), ..Limits::default() };
            facts.access = if refused {
                Ruled::Refuses { rule: None, reason: Reason::PolicyNoRule, missing: vec![], trace }
            } else {
                Ruled::Permits { rule: "hour".into(), limits, closes: None, trace }
            };
            // A rule that refuses sets no length.
            let expected = [
                (not_admitted, Reason::NoAdmit),
                (over && !refused, Reason::SessionOver),
                (ended, Reason::CertExpired),
                (no_role, Reason::NoVmRole),
                (user && service == Service::Sudo, Reason::NoAdminRole),
                (refused, Reason::PolicyNoRule),
            ];
            let judgement = judge(&request, &facts, &rules, NOW);
            let found = match &judgement.verdict {
                Verdict::Denial(denial) => Some(denial.reason()),
                Verdict::Permit(_) => None,
            };
            let want = expected.iter().find(|(fails, _)| *fails).map(|(_, reason)| *reason);
            assert_eq!(found, want, "{service:?} {set:06b}");
            let steps = steps(&judgement);
            let outcome = |rule| steps.iter().find(|(name, _)| *name == rule).unwrap().1;
            let session = match (refused, over) {
                (true, _) => Outcome::Skip,
                (false, true) => Outcome::Fail(Reason::SessionOver),
                (false, false) => Outcome::Pass,
            };
            assert_eq!(outcome("session"), session, "{service:?} {set:06b}");
            let access = match (no_role, refused) {
                (true, _) => Outcome::Skip,
                (false, true) => Outcome::Fail(Reason::PolicyNoRule),
                (false, false) => Outcome::Pass,
            };
            assert_eq!(outcome("access rules"), access, "{service:?} {set:06b}");
            assert_eq!(judgement.steps.last().unwrap().input, "what each rule did");
        }
    }
}

#[test]
fn without_rules_both_steps_are_skipped() {
    for ago in [None, Some(0), Some(9_000_000)] {
        let session = began(ago).with(|s| s.policy.clear());
        let steps = steps(&session.ask_at(now()).judgement);
        assert!(
            steps.contains(&("session", Outcome::Skip)) && steps.contains(&("access rules", Outcome::Skip))
        );
        assert_eq!(session.left(), Ok(3_600));
    }
}
