//! From a text to what kind of text it is: `<guid-1>`, `<address-2>`, `<base64url 342 chars>`.
//!
//! The same text gets the same placeholder everywhere in one recording, so that a reader sees which
//! values are equal and never what they are. Only words from closed lists, or of closed forms that
//! hold nothing this machine told about itself, are let through as they stand. When in doubt, a
//! placeholder.

use std::collections::BTreeMap;

use nightlatch_model::Guid;
use nightlatch_policy::ActionSet;

use crate::entra::clouds::Cloud;

/// The shortest text that is searched for in what is let through, in bytes: shorter ones are
/// everywhere.
const MIN_GUARDED_BYTES: usize = 3;
/// The same for the parts of a text between dots and dashes.
const MIN_GUARDED_PART_BYTES: usize = 4;
/// The longest word of a closed form, in bytes.
const MAX_WORD_BYTES: usize = 64;
/// The shortest run that is taken for an encoding and not for a word, in bytes.
const MIN_ENCODED_BYTES: usize = 24;
/// Parts of names that say nothing about whose they are, and that public schemas use as well.
const COMMON_LABELS: [&str; 19] = [
    "com",
    "net",
    "org",
    "onmicrosoft",
    "microsoft",
    "microsoftonline",
    "azure",
    "windows",
    "local",
    "internal",
    "name",
    "group",
    "resource",
    "cluster",
    "managed",
    "node",
    "nodepool",
    "pool",
    "vmss",
];
/// Words of public schemas: let through as member names even where a person is called so.
const SCHEMA_WORDS: [&str; 33] = [
    "value",
    "keys",
    "key",
    "kty",
    "kid",
    "alg",
    "use",
    "n",
    "e",
    "x5c",
    "x5t",
    "x5t#S256",
    "nextLink",
    "error",
    "code",
    "message",
    "name",
    "id",
    "scope",
    "compute",
    "network",
    "resource",
    "location",
    "accessDecision",
    "decisionReason",
    "actionId",
    "isDataAction",
    "roleAssignment",
    "denyAssignment",
    "timeToLiveInMs",
    "condition",
    "principalId",
    "roleDefinitionId",
];
/// Sentences that the product's own readers look for in a refusal.
const PHRASES: [&str; 4] = [
    "Caller does not have RBAC permission",
    "Multiple user assigned identities exist",
    "does not have authorization to perform action",
    "Identity not found",
];

/// Gives out placeholders and remembers for whom.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    known: BTreeMap<(&'static str, String), usize>,
    guarded: Vec<String>,
}

impl Scrubber {
    /// Nothing that is let through may contain this text, or a part of it that names somebody.
    pub(super) fn guard(&mut self, text: &str) {
        let text = text.trim().to_ascii_lowercase();
        let parts =
            text.split(|c: char| !c.is_ascii_alphanumeric()).map(|part| (part, MIN_GUARDED_PART_BYTES));
        for (part, least) in std::iter::once((text.as_str(), MIN_GUARDED_BYTES)).chain(parts) {
            let plain = part.len() >= least && !part.bytes().all(|b| b.is_ascii_digit());
            if plain && !COMMON_LABELS.contains(&part) && !self.guarded.iter().any(|have| have == part) {
                self.guarded.push(part.to_owned());
            }
        }
    }

    /// Whether a text holds nothing that is guarded.
    fn is_clean(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        !self.guarded.iter().any(|guarded| text.contains(&**guarded))
    }

    fn numbered(&mut self, kind: &'static str, text: &str) -> usize {
        let next = self.known.keys().filter(|(have, _)| *have == kind).count() + 1;
        *self.known.entry((kind, text.to_ascii_lowercase())).or_insert(next)
    }

    fn placeholder(&mut self, kind: &'static str, text: &str) -> String {
        format!("<{kind}-{}>", self.numbered(kind, text))
    }

    /// A word of a closed form from public code: versions, names of algorithms and of systems.
    pub(super) fn word(&mut self, text: &str) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+' | b'~' | b' ');
        let short = !text.is_empty() && text.len() <= MAX_WORD_BYTES && text.bytes().all(plain);
        if short
            && self.is_clean(text)
            && guid_in(text).is_none()
            && text.parse::<std::net::IpAddr>().is_err()
        {
            text.to_owned()
        } else {
            self.text(text)
        }
    }

    /// The name of a certificate's option: public vocabulary of `name@domain` form (PROTOCOL.certkeys).
    /// The domains of Microsoft and OpenSSH are let through whoever the person is.
    pub(super) fn option_name(&mut self, name: &str) -> String {
        let (local, domain) = name.split_once('@').unwrap_or((name, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let vendor = ["microsoft.com", "openssh.com"]
            .iter()
            .any(|vendor| domain == *vendor || domain.strip_suffix(vendor).is_some_and(|d| d.ends_with('.')));
        let short = name.len() <= MAX_WORD_BYTES && local.bytes().all(plain) && domain.bytes().all(plain);
        let clean = !local.is_empty() && self.is_clean(local) && (vendor || self.is_clean(domain));
        if short && clean && guid_in(name).is_none() {
            name.to_owned()
        } else {
            self.placeholder("option", name)
        }
    }

    /// The name of a JSON member.
    pub(super) fn member(&mut self, name: &str) -> String {
        let plain = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'@' | b'.' | b'$' | b'-');
        let short = !name.is_empty() && name.len() <= 40 && name.bytes().all(plain);
        if SCHEMA_WORDS.contains(&name) || (short && self.is_clean(name)) {
            return name.to_owned();
        }
        if guid_in(name).is_some() { self.text(name) } else { self.placeholder("member", name) }
    }

    /// A text under a member: some members hold words of a public list, which are let through.
    pub(super) fn under(&mut self, member: &str, text: &str) -> String {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let word = !text.is_empty() && text.len() <= 40 && text.bytes().all(is_word);
        match member {
            "access_token" | "refresh_token" | "id_token" | "client_assertion" => {
                if is_jwt(text) {
                    "<jwt>".to_owned()
                } else {
                    "<opaque token>".to_owned()
                }
            }
            "accessDecision" | "azEnvironment" | "osType" | "kty" | "alg" | "use" | "token_type" | "code"
            | "error" | "suberror"
                if word && self.is_clean(text) && guid_in(text).is_none() =>
            {
                text.to_owned()
            }
            "e" if text == "AQAB" => text.to_owned(),
            "provider"
                if text
                    .strip_prefix("Microsoft.")
                    .is_some_and(|n| n.bytes().all(|b| b.is_ascii_alphabetic())) =>
            {
                text.to_owned()
            }
            "actionId" if is_login_action(text) => text.to_owned(),
            "message" | "error_description" => phrases(text),
            _ => self.text(text),
        }
    }

    /// What kind of text it is.
    pub(super) fn text(&mut self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        if let Some(guid) = whole_guid(text) {
            let number = self.numbered("guid", &guid.to_string());
            let spelled = match (text.len() == 32, text.bytes().any(|b| b.is_ascii_uppercase())) {
                (true, _) => " undashed",
                (false, true) => " upper",
                (false, false) => "",
            };
            return format!("<guid-{number}{spelled}>");
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return "<digits>".to_owned();
        }
        if is_jwt(text) {
            return "<jwt>".to_owned();
        }
        if text.parse::<std::net::IpAddr>().is_ok() {
            return self.placeholder("ip", text);
        }
        if text.starts_with("-----BEGIN ") {
            return "<pem>".to_owned();
        }
        if let Some(kind) = ssh_line(text) {
            return format!("<ssh key line, {kind}>");
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return if is_public_host(text) { text.to_owned() } else { self.placeholder("url", text) };
        }
        if starts_ignoring_case(text, "/subscriptions/") || starts_ignoring_case(text, "/providers/") {
            return self.arm_id(text);
        }
        if is_address(text) {
            let kind = if text.contains("#EXT#") { "guest-address" } else { "address" };
            let own = text.replace("#EXT#", "");
            let number = self.numbered(kind, text);
            let spelled = if own.bytes().any(|b| b.is_ascii_uppercase()) { " mixed case" } else { "" };
            return format!("<{kind}-{number}{spelled}>");
        }
        if let Some(encoding) = encoding(text) {
            return encoding;
        }
        self.placeholder("text", text)
    }

    /// An ARM id with its public skeleton (RFC-like words of Azure) and placeholders for the rest.
    fn arm_id(&mut self, id: &str) -> String {
        const WORDS: [&str; 4] = ["subscriptions", "resourceGroups", "providers", "managementGroups"];
        let mut out = String::new();
        let mut next_is_type = true;
        for segment in id.split('/').skip(1) {
            out.push('/');
            let word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(segment));
            let letters = segment.bytes().all(|b| b.is_ascii_alphabetic());
            let namespace = segment.strip_prefix("Microsoft.").or_else(|| segment.strip_prefix("microsoft."));
            let is_namespace = namespace.is_some_and(|n| n.bytes().all(|b| b.is_ascii_alphabetic()));
            if is_namespace && out.to_ascii_lowercase().ends_with("/providers/") {
                out.push_str(segment);
                next_is_type = true;
                continue;
            }
            if next_is_type && (word || (letters && self.is_clean(segment))) {
                out.push_str(segment);
            } else if whole_guid(segment).is_some() || segment.bytes().all(|b| b.is_ascii_digit()) {
                let kind = self.text(segment);
                out.push_str(&kind);
            } else {
                let name = self.placeholder("text", segment);
                out.push_str(&name);
            }
            // `/providers/Namespace` has no value of its own.
            next_is_type = !next_is_type || segment.eq_ignore_ascii_case("providers");
        }
        out
    }
}

/// The GUID that a text is, with or without dashes.
pub(super) fn whole_guid(text: &str) -> Option<Guid> {
    if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let cut = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        return format!("{}-{}-{}-{}-{}", cut(0, 8), cut(8, 12), cut(12, 16), cut(16, 20), cut(20, 32))
            .parse()
            .ok();
    }
    if text.len() == 36 { text.to_ascii_lowercase().parse().ok() } else { None }
}

/// A GUID anywhere in a text.
pub(super) fn guid_in(text: &str) -> Option<Guid> {
    (0..text.len()).find_map(|at| text.get(at..at + 36).and_then(whole_guid))
}

/// Whether a text is a JSON Web Token, or begins like one.
pub(super) fn is_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.matches('.').count() >= 2
}

fn is_login_action(text: &str) -> bool {
    [ActionSet::azure(), ActionSet::arc()]
        .iter()
        .any(|set| set.user.iter().chain(&set.admin).any(|action| action.eq_ignore_ascii_case(text)))
}

/// A host of Azure's own clouds, without anything behind it.
fn is_public_host(text: &str) -> bool {
    let bare = text.trim_end_matches('/');
    Cloud::ALL
        .into_iter()
        .map(Cloud::endpoints)
        .any(|ends| [ends.login, ends.arm, ends.graph, ends.pdp_audience].iter().any(|host| host == bare))
}

fn phrases(text: &str) -> String {
    let mut found: Vec<String> =
        PHRASES.iter().filter(|phrase| text.contains(**phrase)).map(|phrase| (*phrase).to_owned()).collect();
    if let Some(rest) = text.split("AADSTS").nth(1) {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).take(8).collect();
        if !digits.is_empty() {
            found.push(format!("AADSTS{digits}"));
        }
    }
    if found.is_empty() { "<sentence>".to_owned() } else { format!("<sentence: {}>", found.join("; ")) }
}

fn starts_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// `name@domain`, whatever stands in the name.
pub(super) fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    !local.is_empty() && domain.contains('.') && !text.contains(char::is_whitespace)
}

fn ssh_line(text: &str) -> Option<&'static str> {
    const TYPES: [&str; 5] =
        ["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
    let (kind, rest) = text.split_once(' ')?;
    let known = TYPES.into_iter().find(|known| *known == kind)?;
    rest.starts_with("AAAA").then_some(known)
}

fn encoding(text: &str) -> Option<String> {
    let body = text.trim_end_matches('=');
    let padded = if body.len() < text.len() { ", padded" } else { "" };
    let len = text.len();
    if len < MIN_ENCODED_BYTES {
        return None;
    }
    // A long name is no encoding: those have capitals, small letters and digits.
    let has = |kind: fn(&u8) -> bool| text.as_bytes().iter().any(kind);
    let random = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    let all = |extra: &[u8]| body.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b));
    if padded.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Some(format!("<hex {len} chars>"))
    } else if random && all(b"") {
        Some(format!("<base64 of either alphabet {len} chars{padded}>"))
    } else if random && all(b"-_") {
        Some(format!("<base64url {len} chars{padded}>"))
    } else if random && all(b"+/") {
        Some(format!("<base64 {len} chars{padded}>"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_get_equal_placeholders_and_nothing_shows() {
        let mut scrub = Scrubber::default();
        assert_eq!(scrub.text("a11ce000-0000-4000-8000-000000000001"), "<guid-1>");
        assert_eq!(scrub.text("a11ce0000000400080000000000000ff"), "<guid-2 undashed>");
        assert_eq!(scrub.text("A11CE000-0000-4000-8000-000000000001"), "<guid-1 upper>");
        assert_eq!(scrub.text("Alice@contoso.com"), "<address-1 mixed case>");
        assert_eq!(scrub.text("alice@contoso.com"), "<address-1>");
        assert_eq!(scrub.text("bob_x.com#EXT#@contoso.onmicrosoft.com"), "<guest-address-1>");
        assert_eq!(scrub.text("10.1.2.3"), "<ip-1>");
        assert_eq!(scrub.text("westeurope"), "<text-1>");
        assert_eq!(scrub.text("eyJ0.eyJh.c2ln"), "<jwt>");
        assert_eq!(scrub.text(&"Aa1-".repeat(10)), "<base64url 40 chars>");
        assert_eq!(
            scrub.text(
                "/subscriptions/a11ce000-0000-4000-8000-000000000001/resourceGroups/payroll/providers/Microsoft.Compute/virtualMachineScaleSets/payroll-vmss/virtualMachines/0"
            ),
            "/subscriptions/<guid-1>/resourceGroups/<text-2>/providers/Microsoft.Compute/virtualMachineScaleSets/<text-3>/virtualMachines/<digits>"
        );
    }

    #[test]
    fn what_is_let_through_holds_nothing_guarded() {
        let mut scrub = Scrubber::default();
        scrub.guard("alice.smith@contoso.com");
        assert_eq!(scrub.option_name("oid@entra.microsoft.com"), "oid@entra.microsoft.com");
        assert_eq!(scrub.option_name("alice@entra.microsoft.com"), "<option-1>");
        assert_eq!(scrub.option_name("x@contoso.com"), "<option-2>");
        assert_eq!(scrub.option_name("x@evilmicrosoft.com"), "x@evilmicrosoft.com");
        assert_eq!(scrub.member("contosoPayroll"), "<member-1>");
        assert_eq!(scrub.member("value"), "value");
        assert_eq!(scrub.under("code", "AuthorizationFailed"), "AuthorizationFailed");
        assert_eq!(scrub.under("code", "smith"), "<text-1>");
        assert_eq!(scrub.under("message", "AADSTS50076: Hello alice"), "<sentence: AADSTS50076>");
        assert_eq!(scrub.under("access_token", "s3cret"), "<opaque token>");
        assert_eq!(scrub.word("OpenSSH_9.2p1 Debian-2+deb12u3"), "OpenSSH_9.2p1 Debian-2+deb12u3");
        assert_eq!(scrub.word("OpenSSH_9.2p1 contoso"), "<text-2>");
    }
}
