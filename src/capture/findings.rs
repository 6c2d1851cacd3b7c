//! What a recording means for the configuration: one finding for each thing that was assumed.
//! Works on the recording alone, so that whoever gets one sent reads the same.

use std::fmt;

use serde_json::Value;

use super::FORMAT;

/// The longest `trust.max_lifetime` that can be set, in seconds: a withdrawal is remembered for so long.
const LONGEST_LIFETIME: u64 = 30 * 86_400;
/// The longest life of a certificate that is taken without configuration, in seconds.
const DEFAULT_MAX_LIFETIME: u64 = 4 * 3600;
/// The oldest sshd that is supported.
const OLDEST_SSHD: (u32, u32) = (8, 9);

/// What a finding asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As it was assumed.
    Holds,
    /// Something is to be configured or granted.
    Set,
    /// Nothing can be configured: report it with the recording.
    Unsupported,
    /// Could not be seen.
    NotSeen,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::Set => "set",
            Self::Unsupported => "not supported, report it",
            Self::NotSeen => "not seen",
        })
    }
}

/// One thing that was assumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is about: a configuration key where there is one.
    pub about: &'static str,
    /// What it asks for.
    pub verdict: Verdict,
    /// What was seen.
    pub text: String,
    /// The line for the configuration file, under its table.
    pub line: Option<String>,
}

fn finding(about: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding { about, verdict, text: text.into(), line: None }
}

fn set(about: &'static str, text: impl Into<String>, line: impl Into<String>) -> Finding {
    Finding { about, verdict: Verdict::Set, text: text.into(), line: Some(line.into()) }
}

/// All findings of a recording; none says that it is not a recording of this form.
#[must_use]
pub fn findings(recording: &Value) -> Vec<Finding> {
    if text(recording, "/format") != FORMAT {
        return Vec::new();
    }
    let mut found = vec![ca_keys(recording)];
    certificate(recording, &mut found);
    found.push(token(recording));
    for (about, at) in
        [("login.roles_from = \"pdp\"", "/pdp"), ("login.roles_from = \"checkaccess\"", "/checkaccess")]
    {
        found.push(roles(recording, about, at));
    }
    machine(recording, &mut found);
    found
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, at: &str) -> &'a [Value] {
    value.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_true(value: &Value, at: &str) -> bool {
    value.pointer(at) == Some(&Value::Bool(true))
}

/// The service that this machine has.
fn service(recording: &Value) -> Option<(&'static str, &Value)> {
    ["himds", "imds"].into_iter().find_map(|name| {
        let service = recording.get(name)?;
        service.get("instance").map(|_| (name, service))
    })
}

fn ca_keys(recording: &Value) -> Finding {
    let file = "ca = [\"file\"]   # and the keys as OpenSSH lines in /etc/nightlatch/ca.pub";
    let Some((name, service)) = service(recording) else {
        return set("trust.ca", "this machine has neither IMDS nor himds: pin the keys", file);
    };
    let Some(answer) = service.get("ca_keys") else {
        return finding("trust.ca", Verdict::NotSeen, format!("{name} was not asked for keys"));
    };
    let status = answer.get("status").and_then(Value::as_u64);
    match (text(answer, "/reader"), status) {
        ("accepts", _) => {
            let count = list(answer, "/public_keys").len();
            finding(
                "trust.ca",
                Verdict::Holds,
                format!("{name} publishes {count} keys in the form that is read"),
            )
        }
        (_, Some(200..=299)) => {
            let body = answer.get("body").unwrap_or(&Value::Null);
            let text = format!(
                "the keys of {name} {}; until that is read, pin them: trust.ca = [\"file\"]",
                stand(body)
            );
            finding("trust.ca", Verdict::Unsupported, text)
        }
        (_, Some(status)) => {
            set("trust.ca", format!("{name} publishes no keys here (status {status}): pin them"), file)
        }
        (_, None) => finding("trust.ca", Verdict::NotSeen, format!("{name} did not answer about keys")),
    }
}

/// How keys stand in a document that the reader does not take.
fn stand(body: &Value) -> String {
    if let Some(kind) = body.get("not_json").and_then(Value::as_str) {
        return format!("come as {kind}, which is not read");
    }
    let entries = match body {
        Value::Array(entries) => Some(entries),
        Value::Object(members) => match members.get("keys") {
            Some(keys) => keys.as_array(),
            None => {
                let under = members.iter().find(|(_, value)| value.is_array()).map(|(name, _)| name.clone());
                return under.map_or_else(
                    || "are in no list".to_owned(),
                    |name| format!("stand under `{name}`, not under `keys`"),
                );
            }
        },
        _ => None,
    };
    let Some(entry) = entries.and_then(|entries| entries.first()) else { return "are in no list".to_owned() };
    match entry {
        Value::Object(members) => {
            let names: Vec<&str> = members.keys().map(String::as_str).collect();
            format!(
                "have the members {}, not kty, n and e of an RSA key of 2048 to 8192 bits",
                names.join(", ")
            )
        }
        Value::String(kind) => format!("are texts of the kind {kind}, not OpenSSH lines"),
        _ => "are of no known kind".to_owned(),
    }
}

fn certificate(recording: &Value, found: &mut Vec<Finding>) {
    let Some(cert) = recording.get("certificate").filter(|cert| !cert.is_null()) else {
        found.push(finding("certificate", Verdict::NotSeen, "no certificate was given: add --cert FILE"));
        return;
    };
    let reader = text(cert, "/reader");
    if reader != "accepts" {
        found.push(finding(
            "certificate",
            Verdict::Unsupported,
            format!("the certificate is refused: {reader}"),
        ));
        return;
    }
    found.push(finding("certificate", Verdict::Holds, "the parser takes it"));
    let critical: Vec<&str> =
        list(cert, "/critical_options").iter().map(|option| text(option, "/name")).collect();
    if !critical.is_empty() {
        let text = format!("it has critical options: {}", critical.join(", "));
        found.push(finding("certificate", Verdict::Unsupported, text));
    }
    let principals = list(cert, "/principals").len();
    if principals != 1 {
        let text = format!("it names {principals} principals; exactly one is admitted");
        found.push(finding("certificate", Verdict::Unsupported, text));
    }
    match cert.get("lifetime_s").and_then(Value::as_u64) {
        Some(life) if life > LONGEST_LIFETIME => {
            let text = format!("it lives {life} s, longer than can be taken");
            found.push(finding("trust.max_lifetime", Verdict::Unsupported, text));
        }
        Some(life) if life > DEFAULT_MAX_LIFETIME => {
            let line = format!("max_lifetime = \"{}h\"", life.div_ceil(3600));
            found.push(set("trust.max_lifetime", format!("it lives {life} s, longer than is taken"), line));
        }
        Some(_) => found.push(finding("trust.max_lifetime", Verdict::Holds, "it lives as long as is taken")),
        None => found.push(finding("trust.max_lifetime", Verdict::Unsupported, "it lives for ever")),
    }
    let keys_are_read =
        service(recording).is_some_and(|(_, service)| text(service, "/ca_keys/reader") == "accepts");
    if keys_are_read && !is_true(cert, "/authority_is_published") {
        let text = "its authority's key is not among those that are published: pin it";
        found.push(set(
            "trust.ca_file",
            text,
            "ca = [\"imds\", \"file\"]   # the key as an OpenSSH line in ca_file",
        ));
    }
    found.push(extension(recording, cert, Id::Person));
    found.push(extension(recording, cert, Id::Tenant));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Person,
    Tenant,
}

fn extension(recording: &Value, cert: &Value, id: Id) -> Finding {
    let (about, key, assumed, own, other) = match id {
        Id::Person => (
            "identity.oid_extension",
            "oid_extension",
            text(recording, "/assumed/oid_extension"),
            "the person's object id",
            "the node's tenant",
        ),
        Id::Tenant => (
            "identity.tid_extension",
            "tid_extension",
            text(recording, "/assumed/tid_extension"),
            "the node's tenant",
            "the person's object id",
        ),
    };
    let what = if id == Id::Person { "object id" } else { "tenant id" };
    let extensions = list(cert, "/extensions");
    let is_guid = |e: &Value| {
        let bytes = text(e, "/form") == "raw bytes" && text(e, "/value") == "<16 bytes>";
        text(e, "/value").starts_with("<guid-") || bytes
    };
    let readable = |e: &Value| text(e, "/form") == "nested string";
    let form = |e: &Value| text(e, "/form").to_owned();
    if let Some(e) = extensions.iter().find(|e| text(e, "/name") == assumed) {
        let is = text(e, "/is");
        return if !is_guid(e) {
            finding(
                about,
                Verdict::Unsupported,
                format!("`{assumed}` holds {}, not a GUID", text(e, "/value")),
            )
        } else if !readable(e) {
            let text = format!("`{assumed}` holds the {what} as {}, not as a nested string", form(e));
            finding(about, Verdict::Unsupported, text)
        } else if is == own {
            finding(about, Verdict::Holds, format!("`{assumed}` holds {own}"))
        } else if !is.is_empty() || (id == Id::Tenant && is_true(recording, "/tenant_is_known")) {
            finding(about, Verdict::Unsupported, format!("`{assumed}` holds an id that is not {own}"))
        } else if id == Id::Person && is_true(recording, "/person_is_given") {
            finding(
                about,
                Verdict::Unsupported,
                format!("`{assumed}` holds an id that is not {own}: is --person the holder?"),
            )
        } else {
            finding(about, Verdict::Holds, format!("`{assumed}` holds a GUID; whose was not said"))
        };
    }
    // Surest first: known to be the id; then a GUID that is at least not known to be another one.
    let is_own = |e: &&Value| is_guid(e) && text(e, "/is") == own;
    let may_be = |e: &&Value| is_guid(e) && text(e, "/is") != other && text(e, "/is").is_empty();
    let known = extensions.iter().find(is_own);
    let candidate = known.or_else(|| {
        let mut all = extensions.iter().filter(may_be);
        let only = all.next()?;
        all.next().is_none().then_some(only)
    });
    match candidate {
        Some(e) if readable(e) => {
            let name = text(e, "/name");
            set(
                about,
                format!("`{assumed}` is not there; `{name}` holds the {what}"),
                format!("{key} = \"{name}\""),
            )
        }
        Some(e) => {
            let text =
                format!("`{}` holds the {what} as {}, not as a nested string", text(e, "/name"), form(e));
            finding(about, Verdict::Unsupported, text)
        }
        None if id == Id::Person => set(
            "identity.map_file",
            "no extension can be told to hold the object id: list the people",
            "map_file = \"/etc/nightlatch/identities.toml\"",
        ),
        None => set(
            "trust.ca",
            "no extension can be told to hold the tenant id: only a pinned key speaks for the tenant",
            "ca = [\"file\"]",
        ),
    }
}

fn token(recording: &Value) -> Finding {
    let about = "node identity";
    let Some((name, service)) = service(recording) else {
        return set(about, "no metadata service: hand over a federated token", "token_file = \"…\"");
    };
    match text(service, "/token_for_pdp/reader") {
        "accepts" => finding(about, Verdict::Holds, format!("{name} gives a token for CheckAccess")),
        "several identities" => set(
            "node.client_id",
            "this machine has several managed identities: name one",
            "client_id = \"…\"",
        ),
        "" => finding(about, Verdict::NotSeen, format!("{name} was not asked for a token")),
        "does not understand" | "challenge not accepted" => {
            finding(about, Verdict::Unsupported, format!("the token answer of {name} is not understood"))
        }
        word => set(
            about,
            format!("{name} gives no token ({word}): attach an identity"),
            "token_file = \"…\"   # or a managed identity",
        ),
    }
}

fn roles(recording: &Value, about: &'static str, at: &str) -> Finding {
    let Some(answer) = recording.pointer(at).filter(|answer| !answer.is_null()) else {
        return finding(
            about,
            Verdict::NotSeen,
            "not asked: add --person OID; region and resource id must be known",
        );
    };
    let html = !text(answer, "/body/not_json").is_empty();
    match text(answer, "/reader") {
        word @ ("granted" | "not granted") => {
            finding(about, Verdict::Holds, format!("the answer is understood: {word}"))
        }
        "this node may not ask" => set(
            about,
            "the node's identity lacks the right",
            "# grant it `Connected Cluster Managed Identity CheckAccess Reader`, for v2 at the subscription",
        ),
        "scope unknown" => {
            set("node.resource_id", "Azure does not know this resource", "resource_id = \"…\"")
        }
        "throttled" => finding(about, Verdict::NotSeen, "throttled: run it again later"),
        "does not understand" => finding(about, Verdict::Unsupported, "the answer is not understood"),
        _ if html => set("node.region", "what answers there is not the service", "region = \"…\""),
        _ => finding(about, Verdict::NotSeen, "no answer that says anything"),
    }
}

fn machine(recording: &Value, found: &mut Vec<Finding>) {
    let version = text(recording, "/machine/sshd").strip_prefix("OpenSSH_").unwrap_or_default();
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found.push(if version == (0, 0) {
        finding("sshd", Verdict::NotSeen, "its version is not known")
    } else if version < OLDEST_SSHD {
        finding(
            "sshd",
            Verdict::Unsupported,
            format!("OpenSSH {}.{} is older than 8.9", version.0, version.1),
        )
    } else {
        finding("sshd", Verdict::Holds, format!("OpenSSH {}.{}", version.0, version.1))
    });
    if is_true(recording, "/machine/aadsshlogin/sshd_config") {
        let text = "aadsshlogin's Match block stands in sshd_config and would win";
        found.push(set("sshd", text, "# remove the extension AADSSHLoginForLinux first"));
    }
}
