//! Whether PAM asks us, early enough, for our users and for nobody else.

use super::Finding;
use crate::attach::interactive::Interactive;
use crate::attach::pam_edit::{
    EXEC_WORDS, GATE_CONTROL, HELPER, auth_gate_control, gate_arguments, step_up_lines,
};
use crate::attach::pam_stack::{Rule, phase, service_text, statements};
use crate::attach::place::Root;
use crate::attach::plan::{self, Mode};
use crate::attach::ready;

const ATTACH: &str = "run `nightlatch attach`";

pub(super) fn examine(root: &Root, interactive: Interactive, observing: bool) -> Vec<Finding> {
    let file = |name: &str| service_text(root, name);
    let mut findings = Vec::new();
    for (service, check) in plan::SERVICES.into_iter().zip(["pam.sshd", "pam.sudo", "pam.sudo_i"]) {
        if file(service).is_some() {
            findings.push(asks_us(check, service, "account", &phase(service, "account", &file)));
        } else if service == "sshd" {
            findings.push(Finding::fail(
                check,
                "/etc/pam.d/sshd does not exist",
                "install openssh-server with PAM",
            ));
        }
    }
    match interactive {
        Interactive::Nothing => {}
        Interactive::Reason => {
            findings.push(asks_us("pam.reason", "sshd", "auth", &phase("sshd", "auth", &file)));
        }
        Interactive::StepUp => findings.push(step_up(&phase("sshd", "auth", &file))),
    }
    let sessions = phase("sshd", "session", &file);
    findings.push(super::session::judge(&sessions, observing));
    findings.push(home(&sessions));
    let mode = if observing { Mode::Observe } else { Mode::Enforce };
    let missing = ready::missing_modules(root, mode);
    findings.push(if missing.is_empty() {
        Finding::ok("pam.modules", "every module of our lines is installed")
    } else {
        let seen = format!("{} missing: PAM refuses everybody, local users too", missing.join(", "));
        Finding::fail(
            "pam.modules",
            seen,
            "install `libpam-modules` (Debian) or `pam`, or `nightlatch detach`",
        )
    });
    findings
}

/// Whether a line keeps everybody but our users from the next.
pub(super) fn is_gate(rule: &Rule) -> bool {
    rule.module_name() == "pam_succeed_if.so"
        && (rule.control == GATE_CONTROL || (rule.kind == "auth" && rule.control == auth_gate_control(1)))
        && rule.arguments.join(" ") == gate_arguments()
}

/// Judges one phase of a service, includes laid open.
pub(super) fn asks_us(check: &'static str, service: &str, kind: &str, rules: &[Rule]) -> Finding {
    let fail = |seen: String| Finding::fail(check, seen, ATTACH);
    let at = rules.iter().position(|rule| rule.arguments.iter().any(|word| word == HELPER));
    let Some(at) = at else {
        return fail(format!("the {kind} phase of {service} does not ask nightlatch"));
    };
    let gated = at.checked_sub(1).and_then(|before| rules.get(before)).is_some_and(is_gate);
    if !gated {
        return fail(format!(
            "{service}: our line has no gate before it ({GATE_CONTROL} pam_succeed_if.so {}): local users depend on nightlatch",
            gate_arguments()
        ));
    }
    let (before, ours) = (rules.get(..at.saturating_sub(1)).unwrap_or_default(), rules.get(at));
    let has = |word: &&&str| ours.is_some_and(|rule| rule.arguments.iter().any(|given| given == **word));
    if let Some(word) = EXEC_WORDS.iter().find(|word| !has(word)) {
        return fail(format!("{service}: our line lacks `{word}`"));
    }
    if ours.is_some_and(|rule| rule.control != "requisite") {
        return fail(format!(
            "{service}: our line is not `requisite`, so what follows it may still let people in"
        ));
    }
    if let Some(rule) = before.iter().find(|rule| rule.module_name() == "pam_unix.so") {
        return fail(format!(
            "{service}: `{}` stands before our line and refuses locked records",
            rule.module
        ));
    }
    match before.iter().find(|rule| rule.may_skip()) {
        Some(rule) => fail(format!(
            "{service}: `{kind} {} {}` before our line may pass it by",
            rule.control, rule.module
        )),
        None => {
            Finding::ok(check, format!("the {kind} phase of {service} asks nightlatch, for our uids only"))
        }
    }
}

/// Whether the lines of a sign-in at the prompt stand as attach writes them, before anything that may pass them by: as
/// often as one of them is changed, a way in without the sign-in or a lock-out comes of it.
fn step_up(rules: &[Rule]) -> Finding {
    const CHECK: &str = "pam.step_up";
    let ours: Vec<Rule> = statements(&step_up_lines()).into_iter().map(|(_, rule)| rule).collect();
    let Some(at) = rules.windows(ours.len()).position(|window| window == ours) else {
        return Finding::fail(
            CHECK,
            "the auth phase of sshd does not ask for a sign-in as it should",
            ATTACH,
        );
    };
    match rules.get(..at).unwrap_or_default().iter().find(|rule| rule.may_skip()) {
        Some(rule) => {
            let seen =
                format!("sshd: `auth {} {}` before our lines may pass them by", rule.control, rule.module);
            Finding::fail(CHECK, seen, ATTACH)
        }
        None => Finding::ok(CHECK, "the auth phase of sshd asks for a sign-in, of our uids only"),
    }
}

fn home(rules: &[Rule]) -> Finding {
    const CHECK: &str = "pam.home";
    let Some(at) = rules.iter().rposition(|rule| rule.module_name() == "pam_mkhomedir.so") else {
        let any = rules.iter().any(|rule| rule.module_name().contains("mkhomedir"));
        return if any {
            Finding::ok(CHECK, "homes are made by another module")
        } else {
            Finding::fail(CHECK, "nobody makes homes: people start in /", ATTACH)
        };
    };
    let gated = at.checked_sub(1).and_then(|before| rules.get(before)).is_some_and(is_gate);
    let seen = if gated { "homes are made at the first login" } else { "homes are made for all users" };
    Finding::ok(CHECK, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::doctor::State;
    use crate::attach::pam_edit::{Wanted, attach};

    const SSHD: &str =
        "account required pam_nologin.so\n@include common-account\nsession required pam_loginuid.so\n";
    const COMMON: &str = "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\n";

    fn judge(text: &str) -> Finding {
        let file = |name: &str| match name {
            "sshd" => Some(text.to_owned()),
            "common-account" => Some(COMMON.to_owned()),
            _ => None,
        };
        asks_us("pam.sshd", "sshd", "account", &phase("sshd", "account", &file))
    }

    fn attached() -> String {
        attach("sshd", SSHD, Wanted { interactive: Interactive::Nothing, session: true }).unwrap()
    }

    #[test]
    fn what_attach_writes_is_sound() {
        let finding = judge(&attached());
        assert_eq!(finding.state, State::Ok, "{finding:?}");
        let session = phase("sshd", "session", &|_| Some(attached()));
        assert_eq!(home(&session).state, State::Ok);
        assert_eq!(home(&[]).state, State::Fail);
    }

    #[test]
    fn each_change_to_the_lines_of_the_prompt_is_named() {
        let wanted = Wanted { interactive: Interactive::StepUp, session: true };
        let good = attach("sshd", SSHD, wanted).unwrap();
        let judge =
            |text: &str| step_up(&phase("sshd", "auth", &|name| (name == "sshd").then(|| text.to_owned())));
        assert_eq!(judge(&good).state, State::Ok, "{good}");
        for (text, word) in [
            (SSHD.to_owned(), "does not ask"),
            (good.replace("default=3", "default=1"), "does not ask"),
            (good.replace("step-up shown", "step-up over"), "does not ask"),
            (good.replace("default=die", "default=ignore"), "does not ask"),
            (good.replace(" expose_authtok", ""), "does not ask"),
            (good.replace("1879048192", "1000"), "does not ask"),
            (format!("auth sufficient pam_rootok.so\n{good}"), "may pass them by"),
        ] {
            let finding = judge(&text);
            assert_eq!(finding.state, State::Fail, "{text}");
            assert!(finding.seen.contains(word), "{word} in {}", finding.seen);
        }
    }

    #[test]
    fn each_weakening_is_named() {
        let good = attached();
        let end = format!("{COMMON}{good}");
        for (text, word) in [
            (SSHD.to_owned(), "does not ask"),
            (good.replace("user_unknown=ignore ", ""), "no gate"),
            (good.replace("1879048192", "1000"), "no gate"),
            (good.replace(" seteuid", ""), "lacks `seteuid`"),
            (good.replace(" stdout", ""), "lacks `stdout`"),
            (good.replace("account requisite", "account optional"), "not `requisite`"),
            (end, "before our line"),
            (format!("account sufficient pam_localuser.so\n{good}"), "may pass it by"),
        ] {
            let finding = judge(&text);
            assert_eq!(finding.state, State::Fail, "{text}");
            assert!(finding.seen.contains(word), "{word} in {}", finding.seen);
        }
    }
}
