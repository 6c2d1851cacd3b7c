//! Variables that lead the Azure SDKs past the broker. Values that may hold a secret are not printed.

use std::net::Ipv4Addr;

use super::{Finding, HIMDS, Variables, fail, ok, warn};

/// What a proxy must not stand before: the metadata service and the broker's loopback door.
const DIRECT: [Ipv4Addr; 2] = [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::LOCALHOST];
/// Where a proxy comes from; programs read one case, the other, or both.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// Where the exceptions stand.
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// What an application signs in with, without the broker (EnvironmentCredential of the Azure SDKs).
const CREDENTIALS: [&str; 3] = ["AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_PASSWORD"];
/// Names that AZURE_TOKEN_CREDENTIALS may give to DefaultAzureCredential, beside `dev` and `prod`, and that leave
/// managed identities out.
const WITHOUT_US: [&str; 10] = [
    "environmentcredential",
    "workloadidentitycredential",
    "azureclicredential",
    "azuredeveloperclicredential",
    "azurepowershellcredential",
    "visualstudiocredential",
    "visualstudiocodecredential",
    "interactivebrowsercredential",
    "sharedtokencachecredential",
    "brokercredential",
];
/// Where the two variables come from.
const BOTH: &str =
    "set both, as `nightlatch token header --unit UNIT -o env` prints them for root, or neither";
const OURS: &str = "ManagedIdentityCredential";

/// Looks at the environment; `himds` says whether Azure Arc's agent is on this machine.
pub(super) fn examine(variables: Variables<'_>, himds: bool) -> Vec<Finding> {
    let chain = variables("AZURE_TOKEN_CREDENTIALS");
    let pinned = chain.as_deref().is_some_and(|names| names.eq_ignore_ascii_case(OURS));
    let mut findings = Vec::new();
    findings.extend(chain.as_deref().and_then(chosen));
    if !pinned {
        findings.extend(credentials(variables));
    }
    findings.extend(endpoints(variables, himds));
    findings.extend(proxy(variables));
    if findings.is_empty() {
        findings.push(ok("environment", "nothing in it leads the Azure SDKs past the broker"));
    }
    findings
}

fn chosen(names: &str) -> Option<Finding> {
    const CHECK: &str = "environment.chain";
    let set = format!("set AZURE_TOKEN_CREDENTIALS={OURS}");
    let lower = names.trim().to_ascii_lowercase();
    if lower == "prod" || lower.eq_ignore_ascii_case(OURS) {
        return None;
    }
    if lower == "dev" || WITHOUT_US.contains(&lower.as_str()) {
        let seen = format!(
            "AZURE_TOKEN_CREDENTIALS={lower} leaves managed identities out, and the broker with them"
        );
        return Some(warn(CHECK, seen, set));
    }
    Some(fail(
        CHECK,
        "AZURE_TOKEN_CREDENTIALS is no word that the Azure SDKs know; they refuse to start",
        set,
    ))
}

/// DefaultAzureCredential tries the environment and a federated token before a managed identity.
fn credentials(variables: Variables<'_>) -> Vec<Finding> {
    const CHECK: &str = "environment.credential";
    let mut findings = Vec::new();
    if let Some(name) = CREDENTIALS.iter().find(|name| variables(name).is_some()) {
        findings.push(warn(
            CHECK,
            format!("{name} is set: DefaultAzureCredential takes it before the broker"),
            format!("unset it, or set AZURE_TOKEN_CREDENTIALS={OURS}"),
        ));
    }
    if variables("AZURE_FEDERATED_TOKEN_FILE").is_some() {
        findings.push(warn(
            CHECK,
            "AZURE_FEDERATED_TOKEN_FILE is set: DefaultAzureCredential exchanges it before the broker is asked",
            format!("where the broker is meant, set AZURE_TOKEN_CREDENTIALS={OURS}"),
        ));
    }
    if findings.is_empty() && variables("AZURE_CLIENT_ID").is_some() {
        findings.push(ok(
            CHECK,
            "AZURE_CLIENT_ID is set: DefaultAzureCredential asks for the managed identity with that client id",
        ));
    }
    findings
}

/// How the SDKs find where tokens come from: IDENTITY_ENDPOINT first, then Arc's agent, then IMDS.
fn endpoints(variables: Variables<'_>, himds: bool) -> Vec<Finding> {
    const CHECK: &str = "environment.endpoint";
    let set = |name: &str| variables(name).is_some();
    let mut findings = Vec::new();
    let both = match (set("IDENTITY_ENDPOINT"), set("IDENTITY_HEADER")) {
        (true, false) => {
            findings.push(fail(
                CHECK,
                "IDENTITY_ENDPOINT is set without IDENTITY_HEADER: the SDKs take this machine for another kind",
                BOTH,
            ));
            false
        }
        (false, true) => {
            findings.push(fail(
                CHECK,
                "IDENTITY_HEADER is set without IDENTITY_ENDPOINT, and counts for nothing",
                BOTH,
            ));
            false
        }
        (both, _) => both,
    };
    if set("MSI_ENDPOINT") && !both {
        findings.push(warn(
            CHECK,
            "MSI_ENDPOINT is set: the SDKs speak the protocol of Cloud Shell or Azure ML, not the broker's",
            "unset it; the broker is found by IDENTITY_ENDPOINT and IDENTITY_HEADER",
        ));
    }
    if set("AZURE_POD_IDENTITY_AUTHORITY_HOST") && !both {
        findings.push(warn(
            CHECK,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST is set: the SDKs for Go and Rust ignore it and ask 169.254.169.254",
            "use IDENTITY_ENDPOINT and IDENTITY_HEADER, which all SDKs honour",
        ));
    }
    if himds && !both {
        findings.push(warn(
            CHECK,
            format!("{HIMDS} is there: the SDKs ask Azure Arc's agent before anything but IDENTITY_ENDPOINT"),
            "where the broker is meant, set IDENTITY_ENDPOINT and IDENTITY_HEADER",
        ));
    }
    findings
}

fn proxy(variables: Variables<'_>) -> Option<Finding> {
    const CHECK: &str = "environment.proxy";
    let proxy = PROXIES.iter().find(|name| variables(name).is_some())?;
    let lists: Vec<(&str, String)> =
        EXCEPTIONS.iter().filter_map(|name| Some((*name, variables(name)?))).collect();
    // Where both cases are set, programs differ in which one counts: each must do.
    let missing = |list: &str| DIRECT.iter().any(|host| !excepted(list, *host));
    let seen = match lists.iter().find(|(_, list)| missing(list)) {
        Some((name, _)) => format!("{proxy} is set, and {name} lacks 169.254.169.254 or 127.0.0.1"),
        None if lists.is_empty() => format!("{proxy} is set without NO_PROXY"),
        None => return None,
    };
    Some(warn(
        CHECK,
        format!("{seen}: requests for tokens would go to the proxy"),
        "add 169.254.169.254,127.0.0.1,localhost to NO_PROXY and no_proxy",
    ))
}

/// Whether a list of exceptions names an address: by itself, by a range, or by `*`.
fn excepted(list: &str, host: Ipv4Addr) -> bool {
    list.split([',', ' ']).map(str::trim).any(|entry| {
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, bits.parse().ok()),
            None => (entry, Some(32_u32)),
        };
        let within = |range: Ipv4Addr, bits: u32| {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            bits <= 32 && (range.to_bits() & mask) == (host.to_bits() & mask)
        };
        entry == "*" || address.parse().ok().zip(bits).is_some_and(|(range, bits)| within(range, bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::doctor::State;

    fn of(pairs: &[(&str, &str)], himds: bool) -> Vec<Finding> {
        let variables =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        examine(&variables, himds)
    }

    #[track_caller]
    fn only(pairs: &[(&str, &str)], state: State, part: &str) {
        let findings = of(pairs, false);
        assert!(
            findings.len() == 1 && findings[0].state == state && findings[0].seen.contains(part),
            "{pairs:?}: {findings:?}"
        );
        assert_eq!(findings[0].remedy.is_empty(), state == State::Ok, "{findings:?}");
        for (_, value) in pairs.iter().filter(|(_, value)| value.contains("hunter2")) {
            assert!(!format!("{findings:?}").contains(value));
        }
    }

    #[test]
    fn an_empty_environment_is_fine() {
        only(&[], State::Ok, "nothing in it");
    }

    #[test]
    fn a_credential_in_the_environment_beats_the_broker_unless_the_chain_is_pinned() {
        only(&[("AZURE_CLIENT_SECRET", "hunter2")], State::Warn, "AZURE_CLIENT_SECRET is set");
        only(&[("AZURE_CLIENT_CERTIFICATE_PATH", "/c")], State::Warn, "AZURE_CLIENT_CERTIFICATE_PATH is set");
        only(&[("AZURE_PASSWORD", "hunter2")], State::Warn, "AZURE_PASSWORD is set");
        only(&[("AZURE_FEDERATED_TOKEN_FILE", "/t")], State::Warn, "AZURE_FEDERATED_TOKEN_FILE");
        only(&[("AZURE_CLIENT_ID", "c")], State::Ok, "AZURE_CLIENT_ID");
        let pinned =
            [("AZURE_CLIENT_SECRET", "hunter2"), ("AZURE_TOKEN_CREDENTIALS", "managedidentitycredential")];
        only(&pinned, State::Ok, "nothing in it");
        let prod = [("AZURE_CLIENT_SECRET", "hunter2"), ("AZURE_TOKEN_CREDENTIALS", "prod")];
        only(&prod, State::Warn, "AZURE_CLIENT_SECRET is set");
    }

    #[test]
    fn a_chain_without_managed_identities_is_named() {
        only(&[("AZURE_TOKEN_CREDENTIALS", "dev")], State::Warn, "leaves managed identities out");
        only(&[("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")], State::Warn, "azureclicredential");
        only(&[("AZURE_TOKEN_CREDENTIALS", "Prod")], State::Ok, "nothing");
        only(&[("AZURE_TOKEN_CREDENTIALS", "hunter2")], State::Fail, "no word that the Azure SDKs know");
    }

    #[test]
    fn half_a_redirect_leads_astray() {
        let both = [("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token"), ("IDENTITY_HEADER", "hunter2")];
        only(&both[..1], State::Fail, "IDENTITY_ENDPOINT is set without");
        only(&both[1..], State::Fail, "IDENTITY_HEADER is set without");
        only(&both, State::Ok, "nothing in it");
        let host = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
        only(&[host], State::Warn, "Go and Rust");
        only(&[host, both[0], both[1]], State::Ok, "nothing in it");
        only(&[("MSI_ENDPOINT", "http://127.0.0.1:1")], State::Warn, "MSI_ENDPOINT");
        let arc = of(&[], true);
        assert!(
            arc.len() == 1 && arc[0].state == State::Warn && arc[0].seen.contains("Arc's agent"),
            "{arc:?}"
        );
        assert_eq!(of(&both, true)[0].state, State::Ok);
    }

    #[test]
    fn a_proxy_needs_its_exceptions() {
        let proxy = ("HTTPS_PROXY", "http://user:hunter2@proxy:3128");
        only(&[proxy], State::Warn, "HTTPS_PROXY is set without NO_PROXY");
        let list = |list| [proxy, ("NO_PROXY", list)];
        for good in ["169.254.169.254,127.0.0.1", "*", "169.254.0.0/16, 127.0.0.0/8", "0.0.0.0/0"] {
            only(&list(good), State::Ok, "nothing in it");
        }
        for bad in ["127.0.0.1,localhost", "169.254.169.254", "169.254.169.0/33,127.0.0.1", "10.0.0.0/8", ","]
        {
            only(&list(bad), State::Warn, "NO_PROXY lacks");
        }
        let [a, b] = list("*");
        only(&[a, b, ("no_proxy", "localhost")], State::Warn, "no_proxy lacks");
        only(&[("NO_PROXY", "")], State::Ok, "nothing in it");
    }
}
