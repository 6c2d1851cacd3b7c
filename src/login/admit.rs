//! May this certificate be offered at all? What sshd's hook is told, from local facts alone.
//!
//! The input comes from a stranger who has proven nothing. So: no network, no role, no write, a
//! bounded amount of work, and an answer that is not a login. PAM account decides later.

use std::sync::Arc;

use nightlatch_jwt::KeySet;
use nightlatch_model::{Civil, LoginName, ObjectId, Reason, TenantId, Timestamp};
use nightlatch_policy::{AccessRules, Circumstances, Forwarding, Outcome, ProofKind, Service, SignIn, Step};
use nightlatch_sshcert::{CertError, CertKind, Certificate, KeyType};
use nightlatch_wire::line::{AdmitLine, Expiry, LineOptions};

use super::identity::{Extensions, IdentityMap};
use super::local::LocalNames;
use super::openpubkey::{self, ProofRules};
use super::trust::{Authority, Handle, KeySource, Revocations, TrustStore};
use super::verified::Verified;

/// What the administrator laid down about certificates.
#[derive(Debug, Clone)]
pub struct AdmitRules {
    /// The one tenant.
    pub tenant: TenantId,
    /// The domains that may log in; all when empty.
    pub domains: Vec<String>,
    /// The longest life of a certificate, in seconds.
    pub max_lifetime: i64,
    /// Which extensions carry the ids.
    pub extensions: Extensions,
    /// Which proofs in self-signed certificates are taken; none where OpenPubkey is off.
    pub openpubkey: Option<ProofRules>,
    /// What a session may do beside a terminal.
    pub options: LineOptions,
    /// Whether a sign-in at the prompt may follow, after sshd was told what a session may do.
    pub step_up_prompt: bool,
    /// Turns a time into the node's own, for an sshd before 9.1, which reads no UTC; none prints UTC.
    pub local_time: Option<fn(Timestamp) -> Civil>,
}

/// What this node knows about authorities, names and revocations at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The CA keys.
    pub trust: &'a TrustStore,
    /// What was taken back.
    pub revoked: &'a Revocations,
    /// The local accounts.
    pub local: &'a LocalNames,
    /// The administrator's table of people.
    pub map: &'a IdentityMap,
    /// Signatures that were computed before.
    pub verified: &'a Verified,
    /// The keys that Entra signs tokens with.
    pub token_keys: &'a KeySet,
    /// The access rules, of which only the forwardings are asked here.
    pub access: AccessRules<'a>,
}

/// A certificate that may be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The login name.
    pub name: LoginName,
    /// The line for sshd.
    pub line: String,
    /// The tenant, checked.
    pub tid: TenantId,
    /// The person, when the certificate or the map says so.
    pub oid: Option<ObjectId>,
    /// Where the object id came from.
    pub identity_source: &'static str,
    /// The beginning of the certificate.
    pub begins: Timestamp,
    /// The end of the certificate.
    pub ends: Timestamp,
    /// By what it is known when it is taken back.
    pub handle: Handle,
    /// Whether its holder is a guest of the tenant, where it says so.
    pub guest: Option<bool>,
    /// What it says of the sign-in behind it.
    pub sign_in: SignIn,
    /// What the line allows.
    pub forwarding: Forwarding,
}

/// The answer to the hook, with every rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Every rule in order; those after the first failure are skipped.
    pub steps: Arc<[Step]>,
    /// Admitted, or the first rule that failed.
    pub result: Result<Box<Admitted>, Reason>,
}

/// Every rule of [`admit`], in order.
const RULES: [&str; 14] = [
    "login name",
    "local accounts",
    "domain",
    "certificate form",
    "certificate kind",
    "authority",
    "signature",
    "validity",
    "lifetime",
    "critical options",
    "principal",
    "revocation",
    "tenant",
    "line",
];

/// The marks of the rules that were looked at.
pub(super) struct Trail(Vec<Step>);

impl Trail {
    /// Leaves the next rule's mark; an error ends the walk.
    pub(super) fn mark<T>(&mut self, input: String, result: Result<T, Reason>) -> Result<T, Reason> {
        let rule = RULES.get(self.0.len()).copied().unwrap_or("line");
        let outcome = result.as_ref().err().map_or(Outcome::Pass, |reason| Outcome::Fail(*reason));
        self.0.push(Step { rule, input, outcome });
        result
    }

    fn finish(mut self) -> Vec<Step> {
        for rule in RULES.iter().skip(self.0.len()) {
            self.0.push(Step { rule, input: String::new(), outcome: Outcome::Skip });
        }
        self.0
    }
}

/// What sshd handed over, as text.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// `%u`
    pub user: &'a str,
    /// `%t`
    pub key_type: &'a str,
    /// `%k`; empty when it was too large to pass on.
    pub key: &'a str,
    /// The true length of `%k`.
    pub key_len: usize,
}

/// Judges an offer. Pure: the same offer, facts and time give the same answer.
#[must_use]
pub fn admit(offered: Offered<'_>, rules: &AdmitRules, known: Known<'_>, now: Timestamp) -> Admission {
    let mut trail = Trail(Vec::with_capacity(RULES.len()));
    let result = walk(&mut trail, offered, rules, known, now).map(Box::new);
    Admission { steps: trail.finish().into(), result }
}

fn walk(
    trail: &mut Trail,
    offered: Offered<'_>,
    rules: &AdmitRules,
    known: Known<'_>,
    now: Timestamp,
) -> Result<Admitted, Reason> {
    let name = check_name(trail, offered.user, rules, known.local)?;
    let certificate = check_form(trail, offered)?;
    if openpubkey::is_one(&certificate) {
        return openpubkey::walk(trail, &certificate, name, rules, known, now);
    }
    let source = check_authority(trail, &certificate, known, now)?;
    check_times(trail, &certificate, rules, now)?;
    check_options(trail, &certificate)?;
    let principal = check_principal(trail, &certificate, &name)?;
    let revoked = known.revoked.covers(&certificate);
    let input = format!("serial {}, key id {}", certificate.serial(), clean(&certificate.key_id()));
    trail.mark(input, if revoked { Err(Reason::CertRevoked) } else { Ok(()) })?;
    let tid = check_tenant(trail, &certificate, source, rules)?;
    let (oid, identity_source) = person(&certificate, &name, rules, known.map);
    let begins = Timestamp(i64::try_from(certificate.valid_after()).unwrap_or(i64::MAX));
    let ends = Timestamp(i64::try_from(certificate.valid_before()).unwrap_or(i64::MAX));
    let sign_in = SignIn {
        proof: ProofKind::Entra,
        issued: begins,
        auth_time: None,
        amr: None,
        acrs: None,
        device: None,
        groups: None,
        prompted: None,
    };
    let options = options_for(rules, known.access, oid, None, &sign_in, now);
    let line = line_for(trail, &certificate, principal, ends, rules, options)?;
    Ok(Admitted {
        name,
        line,
        tid,
        oid,
        identity_source,
        begins,
        ends,
        handle: Handle {
            serial: Some(certificate.serial()),
            fingerprint: certificate.subject_key().fingerprint(),
            key_id: clean(&certificate.key_id()),
        },
        guest: None,
        sign_in,
        forwarding: told(options),
    })
}

/// What sshd is told, in the words of the access rules.
pub(super) const fn told(options: LineOptions) -> Forwarding {
    Forwarding { port: options.port_forwarding, agent: options.agent_forwarding, x11: options.x11_forwarding }
}

/// What a session may do beside a terminal: what the node allows, as far as every access rule does that could turn out to
/// decide. The role and the address are not known yet.
pub(super) fn options_for(
    rules: &AdmitRules,
    access: AccessRules<'_>,
    oid: Option<ObjectId>,
    guest: Option<bool>,
    sign_in: &SignIn,
    now: Timestamp,
) -> LineOptions {
    let about = Circumstances {
        service: Service::Ssh,
        oid,
        role: None,
        guest,
        sign_in: Some(sign_in),
        from: None,
        began: None,
        now,
    };
    let allowed = access.forwarding(&about, rules.step_up_prompt);
    LineOptions {
        port_forwarding: rules.options.port_forwarding && allowed.port,
        agent_forwarding: rules.options.agent_forwarding && allowed.agent,
        x11_forwarding: rules.options.x11_forwarding && allowed.x11,
    }
}

/// The one line for sshd: this principal, this end, the certificate's authority.
pub(super) fn line_for(
    trail: &mut Trail,
    certificate: &Certificate,
    principal: &str,
    ends: Timestamp,
    rules: &AdmitRules,
    options: LineOptions,
) -> Result<String, Reason> {
    let ca = certificate.ca_key();
    let expiry =
        rules.local_time.map_or_else(|| Expiry::utc(ends.civil()), |local| Expiry::local(local(ends)));
    let line = expiry
        .and_then(|ends| AdmitLine::new(options, principal, ends, ca.key_type().name(), &ca.to_base64()));
    let line = trail.mark(clean(principal), line.map_err(|_| Reason::PrincipalAlphabet))?;
    Ok(line.to_string())
}

fn check_name(
    trail: &mut Trail,
    user: &str,
    rules: &AdmitRules,
    local: &LocalNames,
) -> Result<LoginName, Reason> {
    let name = trail.mark(clean(user), LoginName::parse(user).map_err(|_| Reason::NameNotAllowed))?;
    let shadows = local.shadows(&name);
    trail.mark(clean(user), if shadows { Err(Reason::LocalName) } else { Ok(()) })?;
    let allowed = rules.domains.is_empty()
        || name.domain().is_none_or(|domain| rules.domains.iter().any(|allowed| allowed == domain));
    let input = name.domain().unwrap_or("a service principal").to_owned();
    trail.mark(input, if allowed { Ok(()) } else { Err(Reason::DomainNotAllowed) })?;
    Ok(name)
}

fn check_form(trail: &mut Trail, offered: Offered<'_>) -> Result<Certificate, Reason> {
    let input = format!("{}, {} bytes", clean(offered.key_type), offered.key_len);
    let parsed = if KeyType::from_cert_name(offered.key_type.as_bytes()).is_err()
        && !offered.key_type.contains("-cert-v0")
    {
        Err(Reason::NotACertificate)
    } else if offered.key_len > offered.key.len() {
        Err(Reason::CertTooLarge)
    } else {
        Certificate::from_openssh(offered.key_type, offered.key).map_err(reason_of)
    };
    let certificate = trail.mark(input, parsed)?;
    let user = certificate.kind() == CertKind::User;
    let input = if user { "user" } else { "host" };
    trail.mark(input.into(), if user { Ok(()) } else { Err(Reason::CertTypeHost) })?;
    Ok(certificate)
}

fn check_authority(
    trail: &mut Trail,
    certificate: &Certificate,
    known: Known<'_>,
    now: Timestamp,
) -> Result<KeySource, Reason> {
    let ca = certificate.ca_key();
    let verdict = if certificate.is_self_signed() {
        Err(Reason::CaUnknown)
    } else {
        match known.trust.authority(ca, known.revoked, now) {
            Authority::Trusted(key) => Ok(key),
            Authority::Revoked => Err(Reason::CaRevoked),
            Authority::Unknown => Err(Reason::CaUnknown),
            Authority::NoKeys => Err(Reason::CaKeysUnknown),
        }
    };
    let trusted = trail.mark(ca.fingerprint(), verdict)?;
    let input = certificate.signature_algorithm().name().to_owned();
    trail.mark(input, known.verified.check(certificate).map_err(reason_of))?;
    Ok(trusted.source)
}

fn check_times(
    trail: &mut Trail,
    certificate: &Certificate,
    rules: &AdmitRules,
    now: Timestamp,
) -> Result<(), Reason> {
    let at = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (begins, ends) = (at(certificate.valid_after()), at(certificate.valid_before()));
    let verdict = if now.0 < begins {
        Err(Reason::CertNotYetValid)
    } else if now.0 >= ends {
        Err(Reason::CertExpired)
    } else {
        Ok(())
    };
    let shown = |seconds: i64| {
        if seconds > 253_402_300_799 { "for ever".into() } else { Timestamp(seconds).to_string() }
    };
    trail.mark(format!("{} to {}, now {now}", shown(begins), shown(ends)), verdict)?;
    let life = ends.saturating_sub(begins);
    let verdict = if life > rules.max_lifetime { Err(Reason::CertLifetime) } else { Ok(()) };
    trail.mark(format!("{life} s of at most {} s", rules.max_lifetime), verdict)
}

/// A critical option is a demand; none is understood.
pub(super) fn check_options(trail: &mut Trail, certificate: &Certificate) -> Result<(), Reason> {
    let odd = certificate.unknown_critical_options(&[]).next().map(clean);
    let result = odd.as_ref().map_or(Ok(()), |_| Err(Reason::CriticalOption));
    trail.mark(odd.unwrap_or_else(|| "none".into()), result)
}

fn check_principal<'a>(
    trail: &mut Trail,
    certificate: &'a Certificate,
    name: &LoginName,
) -> Result<&'a str, Reason> {
    let verdict = match certificate.principals() {
        [] => Err(Reason::NoPrincipal),
        [principal] => match LoginName::fold(principal) {
            Err(_) => Err(Reason::PrincipalAlphabet),
            Ok(folded) if folded == *name => Ok(principal.as_str()),
            Ok(_) => Err(Reason::WrongPrincipal),
        },
        [_, _, ..] => Err(Reason::ManyPrincipals),
    };
    let shown: Vec<String> = certificate.principals().iter().take(4).map(|text| clean(text)).collect();
    trail.mark(shown.join(" | "), verdict)
}

fn check_tenant(
    trail: &mut Trail,
    certificate: &Certificate,
    source: KeySource,
    rules: &AdmitRules,
) -> Result<TenantId, Reason> {
    let named = certificate.extension_text(&rules.extensions.tid);
    let verdict = match named {
        Ok(Some(text)) => match text.parse::<TenantId>() {
            Ok(tid) if tid == rules.tenant => Ok(tid),
            _ => Err(Reason::TenantMismatch),
        },
        // Whether Entra's authority is one for all tenants is not public. Only a key that the
        // administrator pinned speaks for this tenant by itself.
        Ok(None) if source == KeySource::File => Ok(rules.tenant),
        Ok(None) => Err(Reason::TenantMismatch),
        Err(_) => Err(Reason::CertMalformed),
    };
    let input = match named {
        Ok(Some(text)) => clean(text),
        Ok(None) => format!("not in the certificate; key from {source:?}"),
        Err(_) => "unreadable".into(),
    };
    trail.mark(input, verdict)
}

fn person(
    certificate: &Certificate,
    name: &LoginName,
    rules: &AdmitRules,
    map: &IdentityMap,
) -> (Option<ObjectId>, &'static str) {
    let named = certificate.extension_text(&rules.extensions.oid).ok().flatten();
    match named {
        Some(text) => (text.parse().ok(), "certificate"),
        None => map.get(name).map_or((None, "nowhere"), |oid| (Some(oid), "map")),
    }
}

/// The reason of the closed list that stands for a certificate error.
#[must_use]
pub fn reason_of(cause: CertError) -> Reason {
    cause.reason_word().parse().unwrap_or(Reason::CertMalformed)
}

/// Text from outside, made fit for a journal field or a terminal: printable ASCII, at most 200
/// characters, everything else as `?`.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().take(200).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}
