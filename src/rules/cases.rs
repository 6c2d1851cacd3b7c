//! Cases beside the rules: who comes, how, and what must come of it. They are run like unit tests.

use std::collections::BTreeMap;

use core::net::IpAddr;
use nightlatch_model::{Guid, ObjectId, Reason, Role, Span, Timestamp};
use nightlatch_page::{Page, PolicyError, Words};
use nightlatch_policy::{
    AccessPolicy, AccessRules, Circumstances, NodeFacts, ProofKind, Ruled, Service, SignIn,
};
use serde::Deserialize;
use toml::Spanned;

use super::file::{DoorText, ProofText, RoleText};
use super::{Zones, offsets};

/// The most cases in all files together.
pub const MAX_CASES: usize = 10_000;
/// Who comes where a case names nobody.
const SOMEBODY: [u8; 16] = [0xaa; 16];
/// When they come where a case names no time: a Wednesday at noon, UTC.
const NOON: Timestamp = Timestamp(1_767_787_200);
/// What a file should look like.
const FORM: &str =
    "a file holds `[[case]]` tables, each with `name` and `expect` (`permit`, or the reason of a refusal)";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CasesFile {
    #[serde(default)]
    case: Vec<CaseText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: Spanned<String>,
    expect: Spanned<String>,
    rule: Option<String>,
    service: Option<DoorText>,
    role: Option<RoleText>,
    user: Option<Spanned<String>>,
    groups: Option<Words>,
    guest: Option<bool>,
    from: Option<Spanned<String>>,
    at: Option<Spanned<String>>,
    proof: Option<ProofText>,
    prompt: Option<bool>,
    amr: Option<Vec<String>>,
    acrs: Option<Vec<String>>,
    device: Option<bool>,
    auth_age: Option<Spanned<String>>,
    age: Option<Spanned<String>>,
    #[serde(default)]
    node: NodeText,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeText {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    resource: Vec<String>,
}

/// One case.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Where it stands: file and line.
    pub place: String,
    /// The reason of the refusal that must come; `None` is a permit.
    expect: Option<Reason>,
    /// The rule that must decide, where the case says it.
    rule: Option<String>,
    service: Service,
    role: Role,
    oid: ObjectId,
    guest: Option<bool>,
    from: Option<IpAddr>,
    at: Timestamp,
    sign_in: SignIn,
    node: NodeFacts,
}

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
pub enum CaseResult {
    /// What was expected.
    Held,
    /// Something else.
    Differs {
        /// What was expected, in words.
        expected: String,
        /// What came, in words.
        came: String,
        /// What each rule did.
        trace: String,
    },
}

/// Reads the cases of some files.
///
/// # Errors
/// The first thing that is wrong, with file, line and what to write instead.
pub fn cases(files: &[(String, String)]) -> Result<Vec<Case>, PolicyError> {
    let mut all = Vec::new();
    for (file, text) in files {
        let page = Page { file, text };
        for text in page.read::<CasesFile>(FORM)?.case {
            if all.len() >= MAX_CASES {
                let hint = "run them in several folders";
                return Err(page.error(text.name.span().start, format!("more than {MAX_CASES} cases"), hint));
            }
            all.push(case(&page, &text)?);
        }
    }
    Ok(all)
}

fn case(page: &Page<'_>, text: &CaseText) -> Result<Case, PolicyError> {
    let parsed = |text: &Spanned<String>, hint: &'static str| {
        let at = text.span().start;
        move |()| page.error(at, "this value is not understood", hint)
    };
    let expect = match text.expect.get_ref().as_str() {
        "permit" => None,
        word => Some(word.parse::<Reason>().map_err(parsed(
            &text.expect,
            "write `permit`, or a reason such as `policy_denied`, `policy_no_rule`, `step_up` or `evidence_missing`",
        ))?),
    };
    let oid = match &text.user {
        None => ObjectId(Guid::from_bytes(SOMEBODY)),
        Some(user) => {
            user.get_ref().parse().map_err(|_| parsed(user, "write the object id of a person")(()))?
        }
    };
    let from = match &text.from {
        None => None,
        Some(from) => Some(
            from.get_ref().parse().map_err(|_| parsed(from, "write an address such as `10.1.2.3`")(()))?,
        ),
    };
    let at = match &text.at {
        None => NOON,
        Some(at) => Timestamp::from_rfc3339(at.get_ref())
            .ok_or_else(|| parsed(at, "write it in UTC, as `2026-11-30T09:15:00Z`")(()))?,
    };
    let before = |age: &Option<Spanned<String>>| match age {
        None => Ok(None),
        Some(age) => Span::parse(age.get_ref())
            .map(|span| Some(at.plus(-span.0)))
            .ok_or_else(|| parsed(age, "write a length of time such as `10min`")(())),
    };
    let form = |text: &str| text.parse::<Guid>().map_err(|_| "write the object id of a group");
    let sign_in = SignIn {
        proof: match text.proof {
            None | Some(ProofText::Entra) => ProofKind::Entra,
            Some(ProofText::Openpubkey) => ProofKind::OpenPubkey,
        },
        issued: before(&text.age)?.unwrap_or(at),
        auth_time: before(&text.auth_age)?,
        amr: text.amr.clone(),
        acrs: text.acrs.clone(),
        device: text.device.unwrap_or(false).then(|| Guid::from_bytes(SOMEBODY)),
        groups: text.groups.as_ref().map(|list| page.words(list, form)).transpose()?,
        prompted: (text.prompt == Some(true)).then_some(at),
    };
    let claims =
        text.amr.is_some() || text.acrs.is_some() || text.auth_age.is_some() || text.groups.is_some();
    if !sign_in.has_claims() && (claims || sign_in.device.is_some()) {
        let hint = "write `proof = \"openpubkey\"`, or `prompt = true` for somebody who signs in at the prompt as well";
        let what = "a certificate of Entra's has no such claims";
        return Err(page.error(text.name.span().start, what, hint));
    }
    if sign_in.proof == ProofKind::Entra && sign_in.device.is_some() {
        let hint = "write `proof = \"openpubkey\"`: a code may be typed on any device";
        return Err(page.error(text.name.span().start, "a sign-in at the prompt shows no device", hint));
    }
    Ok(Case {
        name: text.name.get_ref().clone(),
        place: format!("`{}`, line {}", page.file, page.line(text.name.span().start)),
        expect,
        rule: text.rule.clone(),
        service: if text.service == Some(DoorText::Sudo) { Service::Sudo } else { Service::Ssh },
        role: if matches!(text.role, Some(RoleText::Admin)) { Role::Admin } else { Role::User },
        oid,
        guest: text.guest,
        from,
        at,
        sign_in,
        node: NodeFacts {
            labels: text.node.labels.clone(),
            resources: text.node.resource.clone(),
            is_half_known: false,
        },
    })
}

impl Case {
    /// Tries the case on these rules.
    #[must_use]
    pub fn run(&self, policy: &AccessPolicy, zones: &dyn Zones) -> CaseResult {
        let offsets = offsets(policy, zones, self.at);
        let access = AccessRules { policy, node: &self.node, offsets: &offsets };
        let ruled = access.rule(&Circumstances {
            service: self.service,
            oid: Some(self.oid),
            role: Some(self.role),
            guest: self.guest,
            sign_in: Some(&self.sign_in),
            from: self.from,
            began: None,
            now: self.at,
        });
        let (rule, reason, trace) = match ruled {
            Ruled::NoPolicy => (None, None, String::new()),
            Ruled::Permits { rule, trace, .. } => (Some(rule), None, trace),
            Ruled::Refuses { rule, reason, trace, .. } => (rule, Some(reason), trace),
        };
        let by_rule = self.rule.is_none() || self.rule.as_deref() == rule.as_deref();
        if reason == self.expect && by_rule {
            return CaseResult::Held;
        }
        CaseResult::Differs {
            expected: told(self.expect, self.rule.as_deref()),
            came: told(reason, rule.as_deref()),
            trace,
        }
    }
}

fn told(reason: Option<Reason>, rule: Option<&str>) -> String {
    let outcome = reason.map_or("permit", Reason::word);
    rule.map_or_else(|| outcome.to_owned(), |rule| format!("{outcome} by `{rule}`"))
}
