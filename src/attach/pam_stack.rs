//! Reading a PAM service as pam.d(5) describes it.

use super::place::Root;

/// One line of a service file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `auth`, `account`, `password`, `session`, or `@include`.
    pub kind: String,
    /// `required`, `include`, `[success=1 default=ignore]`; empty for `@include`.
    pub control: String,
    /// The module, or the file that is included.
    pub module: String,
    /// The module's arguments.
    pub arguments: Vec<String>,
}

impl Rule {
    /// The module without its folder.
    #[must_use]
    pub fn module_name(&self) -> &str {
        self.module.rsplit('/').next().unwrap_or(&self.module)
    }

    /// The service file that this line includes.
    #[must_use]
    pub fn included(&self) -> Option<&str> {
        let includes = self.kind == "@include" || matches!(self.control.as_str(), "include" | "substack");
        includes.then_some(self.module.as_str())
    }

    /// How many of the rules behind it the line may pass by: all of them where it may end the phase
    /// with a yes.
    #[must_use]
    pub fn reach(&self) -> usize {
        let inside = self.control.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let Some(inside) = inside else {
            return if self.control == "sufficient" { usize::MAX } else { 0 };
        };
        let actions = inside.split_whitespace().filter_map(|pair| pair.split_once('='));
        let far = |action: &str| if action == "done" { usize::MAX } else { action.parse().unwrap_or(0) };
        actions.map(|(_, action)| far(action)).max().unwrap_or(0)
    }

    /// Whether the line may end the phase with a yes, or jump, so that what follows is not reached.
    #[must_use]
    pub fn may_skip(&self) -> bool {
        if self.control == "sufficient" {
            return true;
        }
        let Some(inside) = self.control.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
            return false;
        };
        inside.split_whitespace().any(|pair| {
            let action = pair.split_once('=').map_or("", |(_, action)| action);
            action == "done" || action.parse::<u32>().is_ok()
        })
    }
}

/// Reads one line; `None` for comments and empty lines. Lines that end in `\` are joined by the caller.
#[must_use]
pub fn rule(line: &str) -> Option<Rule> {
    let line = line.split('#').next().unwrap_or("").trim();
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let kind = kind.trim_start_matches('-').to_ascii_lowercase();
    if kind == "@include" {
        return Some(Rule { kind, control: String::new(), module: rest.to_owned(), arguments: Vec::new() });
    }
    let (control, rest) = if rest.starts_with('[') {
        let (inside, rest) = rest.split_once(']')?;
        let words: Vec<&str> = inside.trim_start_matches('[').split_whitespace().collect();
        (format!("[{}]", words.join(" ")), rest)
    } else {
        let (control, rest) = rest.split_once(char::is_whitespace)?;
        (control.to_ascii_lowercase(), rest)
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Rule { kind, control, module: words.next()?, arguments: words.collect() })
}

/// The statements of a text: (start byte, rule), lines that end in `\` joined.
pub fn statements(text: &str) -> Vec<(usize, Rule)> {
    let mut found = Vec::new();
    let mut at = 0_usize;
    let mut start = 0_usize;
    let mut joined = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if joined.is_empty() {
            start = at;
        }
        at = at.saturating_add(line.len());
        if let Some(open) = bare.strip_suffix('\\') {
            joined.push_str(open);
            joined.push(' ');
            continue;
        }
        joined.push_str(bare);
        if let Some(rule) = rule(&joined) {
            found.push((start, rule));
        }
        joined.clear();
    }
    found
}

/// The text of a service file of the machine, by its name or its path.
#[must_use]
pub fn service_text(root: &Root, name: &str) -> Option<String> {
    let path = if name.starts_with('/') { name.to_owned() } else { format!("/etc/pam.d/{name}") };
    root.text(&path).ok().flatten()
}

/// One phase of a service with its includes laid open; `file` answers the text of a service file.
pub fn phase(service: &str, kind: &str, file: &dyn Fn(&str) -> Option<String>) -> Vec<Rule> {
    let mut rules = Vec::new();
    open(service, kind, 0, file, &mut rules);
    rules
}

fn open(
    service: &str,
    kind: &str,
    depth: usize,
    file: &dyn Fn(&str) -> Option<String>,
    rules: &mut Vec<Rule>,
) {
    /// Deeper than anybody nests them; a file that includes itself ends here.
    const MAX_DEPTH: usize = 16;
    let Some(text) = file(service) else { return };
    for (_, rule) in statements(&text) {
        if rule.kind != kind && rule.kind != "@include" {
            continue;
        }
        match rule.included() {
            Some(inner) if depth < MAX_DEPTH => open(inner, kind, depth.saturating_add(1), file, rules),
            Some(_) => {}
            None => rules.push(rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let gate =
            rule("account [success=ignore  default=1] /lib/security/pam_succeed_if.so quiet uid >= 5 # x");
        let gate = gate.unwrap();
        assert_eq!(
            (gate.control.as_str(), gate.module_name()),
            ("[success=ignore default=1]", "pam_succeed_if.so")
        );
        assert_eq!(gate.arguments, ["quiet", "uid", ">=", "5"]);
        assert!(gate.may_skip());
        assert_eq!(rule("-session optional pam_systemd.so").unwrap().kind, "session");
        assert_eq!(rule("@include common-account").unwrap().included(), Some("common-account"));
        assert_eq!(rule("account include system-account").unwrap().included(), Some("system-account"));
        assert!(rule("# account required x.so").is_none() && rule("").is_none());
        assert!(!rule("account required pam_nologin.so").unwrap().may_skip());
        assert!(rule("account sufficient pam_localuser.so").unwrap().may_skip());
    }

    #[test]
    fn how_far_a_line_may_leap() {
        for (line, reach) in [
            ("session required x.so", 0),
            ("session optional x.so", 0),
            ("session sufficient x.so", usize::MAX),
            ("session [success=done default=ignore] x.so", usize::MAX),
            ("session [success=1 new_authtok_reqd=3 default=ignore] x.so", 3),
            ("session [success=ok default=die] x.so", 0),
        ] {
            assert_eq!(rule(line).unwrap().reach(), reach, "{line}");
        }
    }

    #[test]
    fn joined_lines_are_one_statement() {
        let all = statements("#%PAM-1.0\naccount required \\\n  pam_x.so a\nsession optional pam_y.so\n");
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].0, all[0].1.module.as_str()), (10, "pam_x.so"));
    }

    #[test]
    fn includes_are_laid_open_in_place() {
        let file = |name: &str| {
            let text = match name {
                "sshd" => "account required a.so\n@include common-account\naccount include more\n",
                "common-account" => "account required b.so\nauth required no.so\n",
                "more" => "account required c.so\naccount include more\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let names: Vec<String> =
            phase("sshd", "account", &file).into_iter().map(|rule| rule.module).collect();
        assert_eq!(&names[..3], ["a.so", "b.so", "c.so"]);
        assert!(names.len() < 40);
    }
}
