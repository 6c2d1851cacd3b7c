//! What is allowed in a rule, and likely a mistake.

use nightlatch_page::{Page, Warning};
use nightlatch_policy::{AccessRule, DoorKind, ProofKind, Require, RuleEffect, Where, Who};

use super::compile::only_entra;
use super::file::RuleText;

/// Looks at one rule, with those before it.
pub(super) fn rule(
    page: &Page<'_>,
    text: &RuleText,
    rule: &AccessRule,
    before: &[AccessRule],
    warnings: &mut Vec<Warning>,
) {
    let at = text.name.span().start;
    let mut warn = |at: usize, words: String| warnings.push(page.warning(at, &rule.name, words));
    if let Some(first) = before.iter().find(|earlier| decides_for_all(earlier)) {
        warn(at, format!("it is never reached: `{}` before it decides for everybody", first.name));
    }
    if rule.effect == RuleEffect::Deny && rule.who.groups.is_some() {
        warn(
            at,
            "certificates without a `groups` claim cannot show that they are not meant, and are refused as well"
                .into(),
        );
    }
    let takes_entra = rule.proof.as_ref().is_none_or(|kinds| kinds.contains(&ProofKind::Entra));
    if rule.effect == RuleEffect::Deny && rule.who.guests.is_some() && takes_entra {
        warn(
            at,
            "Entra's own certificates do not say who is a guest: everybody who brings one is refused; write \
             `proof = [\"openpubkey\"]` beside it to leave them to the other rules"
                .into(),
        );
    }
    if rule.require.wants_claims() && only_entra(rule) {
        warn(
            at,
            "Entra's own certificates carry no claims: this is shown only where `login.step_up_prompt` is on"
                .into(),
        );
    }
    if rule.limits.forward.is_some() && (rule.who.role.is_some() || rule.network.is_some()) {
        warn(
            at,
            "sshd is told of forwardings before role and address are known: a way is open only where every rule that \
             could turn out to decide allows it"
                .into(),
        );
    }
    if rule.require.acrs.len() > 1 {
        warn(
            at,
            "one sign-in shows one authentication context at a time: few people will have all of these"
                .into(),
        );
    }
    let sudo_alone =
        rule.doors.as_ref().is_some_and(|doors| doors.iter().all(|door| *door == DoorKind::Sudo));
    if sudo_alone && (rule.limits.max_session.is_some() || rule.limits.forward.is_some()) {
        warn(at, "`max_session` and `forward` mean nothing for `sudo`".into());
    }
    if rule.effect == RuleEffect::Permit && rule.network.is_some() && rule.doors.is_none() {
        let only_loopback = text
            .network
            .iter()
            .flat_map(|list| list.get_ref())
            .all(|word| word.get_ref().starts_with("127.") || word.get_ref().starts_with("::1"));
        if only_loopback {
            warn(at, "every login that is relayed on the node itself comes from this address".into());
        }
    }
}

/// The labels that a rule asks for, with what is to be said on a node that has none of this name.
pub(super) fn labels(page: &Page<'_>, text: &RuleText) -> Vec<(String, Warning)> {
    let Some(place) = &text.place else { return Vec::new() };
    let warning = |label: &String| {
        let words = format!(
            "this node has no label `{label}` (`node.labels`): the rule is about no login here; is it spelled right?"
        );
        (label.clone(), page.warning(place.span().start, text.name.get_ref(), words))
    };
    place.get_ref().labels.iter().flat_map(|labels| labels.keys()).map(warning).collect()
}

/// Whether nothing behind a rule is ever reached.
fn decides_for_all(rule: &AccessRule) -> bool {
    let anybody = rule.who == Who::default() && rule.place == Where::default();
    let anyhow =
        rule.when.is_none() && rule.network.is_none() && rule.proof.is_none() && rule.doors.is_none();
    // A step-up rule refuses whom it does not let in; a permit rule leaves them to the next.
    let all = rule.effect != RuleEffect::Permit || rule.require == Require::default();
    anybody && anyhow && all
}
