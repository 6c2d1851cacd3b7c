//! What may stand below `[broker]`: which identities the token broker has, and how it is reached. Each
//! field's doc is its manual. What an identity needs is checked here, where the line is known.

use std::net::SocketAddr;
use std::path::PathBuf;

use nightlatch_model::{Guid, TenantId};
use serde::{Deserialize, Deserializer, de};

use super::file::Cloud;

/// The longest name of an identity, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// The name that the signed-in person's identity has; the policy knows it by the same word.
const PERSON: &str = "person";

/// `[broker]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// Whether programs may ask for tokens. Default: when an identity is configured here or the node has
    /// a managed identity.
    pub enabled: Option<bool>,
    /// The folder of the policy. Default `/etc/nightlatch/broker.d`.
    pub policy_dir: Option<PathBuf>,
    /// Where the broker listens for programs that cannot use a socket file, such as `127.0.0.1:40399`.
    /// Default: nowhere.
    #[serde(deserialize_with = "loopback")]
    pub loopback: Option<SocketAddr>,
    /// Whether people may sign in with a code on another device. Default false.
    pub device_code: Option<bool>,
    /// How people sign in.
    pub sign_in: SignIn,
    /// The identities; a drop-in that names some replaces those of the files before it.
    pub identity: Vec<BrokerIdentity>,
}

/// `[broker.sign_in]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignIn {
    /// Your own public client application. Default: none; nobody can sign in.
    pub client_id: Option<Guid>,
    /// What is consented to at sign-in. Default: the sign-in itself.
    pub scopes: Option<Vec<String>>,
}

/// How an identity gets its tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerIdentityKind {
    /// A managed identity of the machine, from the instance metadata service.
    Managed,
    /// The identity of an Arc-enabled server.
    Arc,
    /// An application with a client secret.
    Secret,
    /// An application with a certificate.
    Certificate,
    /// An application or user-assigned identity that trusts an outside issuer's token.
    Federated,
    /// The person's own `az login`; only `nightlatch token get` has it.
    AzureCli,
    /// An application that exchanges the signed-in person's token for one further on.
    OnBehalfOf,
}

/// `[[broker.identity]]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct BrokerIdentity {
    /// The name in the policy and on the command line: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Where its tokens come from.
    pub kind: BrokerIdentityKind,
    /// The tenant. Default: `tenant`.
    pub tenant: Option<TenantId>,
    /// The application, or which managed identity. Needed for applications.
    pub client_id: Option<Guid>,
    /// Which managed identity, by its object id.
    pub object_id: Option<Guid>,
    /// Which user-assigned managed identity, by its ARM id.
    pub resource_id: Option<String>,
    /// The client secret, alone in a file that others cannot read.
    pub secret_file: Option<PathBuf>,
    /// Private key and certificate in PEM form, with the chain where it is sent.
    pub certificate_file: Option<PathBuf>,
    /// Show Entra the whole chain, for applications that are registered by subject name and issuer.
    /// Default false.
    pub send_chain: Option<bool>,
    /// The token of the outside issuer, read again at each use.
    pub token_file: Option<PathBuf>,
    /// An https proxy of the cluster that exchanges the token (AKS identity bindings). Default: none.
    pub token_proxy: Option<String>,
    /// The authority of that proxy's certificate. Default: those of the system.
    pub token_proxy_ca_file: Option<PathBuf>,
    /// The name in that proxy's certificate. Default: the host of `token_proxy`.
    pub token_proxy_sni: Option<String>,
    /// The cloud. Default: `cloud`.
    pub cloud: Option<Cloud>,
}

/// An identity as it stands in the file, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    kind: BrokerIdentityKind,
    tenant: Option<TenantId>,
    client_id: Option<Guid>,
    object_id: Option<Guid>,
    resource_id: Option<String>,
    secret_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    send_chain: Option<bool>,
    token_file: Option<PathBuf>,
    token_proxy: Option<String>,
    token_proxy_ca_file: Option<PathBuf>,
    token_proxy_sni: Option<String>,
    cloud: Option<Cloud>,
}

impl TryFrom<Written> for BrokerIdentity {
    type Error = String;

    fn try_from(it: Written) -> Result<Self, String> {
        check(&it).map_err(|why| format!("identity `{}`: {why}", printable(&it.name)))?;
        Ok(Self {
            name: it.name,
            kind: it.kind,
            tenant: it.tenant,
            client_id: it.client_id,
            object_id: it.object_id,
            resource_id: it.resource_id,
            secret_file: it.secret_file,
            certificate_file: it.certificate_file,
            send_chain: it.send_chain,
            token_file: it.token_file,
            token_proxy: it.token_proxy,
            token_proxy_ca_file: it.token_proxy_ca_file,
            token_proxy_sni: it.token_proxy_sni,
            cloud: it.cloud.filter(|cloud| *cloud != Cloud::Auto),
        })
    }
}

fn check(it: &Written) -> Result<(), String> {
    use BrokerIdentityKind as Kind;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if it.name.is_empty() || it.name.len() > MAX_NAME_BYTES || !it.name.bytes().all(plain) {
        return Err(format!("a name has 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` or `.`"));
    }
    if it.name == PERSON {
        return Err("this name belongs to whoever signed in; choose another".to_owned());
    }
    let set = [
        ("object_id", it.object_id.is_some()),
        ("resource_id", it.resource_id.is_some()),
        ("client_id", it.client_id.is_some()),
        ("tenant", it.tenant.is_some()),
        ("secret_file", it.secret_file.is_some()),
        ("certificate_file", it.certificate_file.is_some()),
        ("send_chain", it.send_chain.is_some()),
        ("token_file", it.token_file.is_some()),
        ("token_proxy", it.token_proxy.is_some()),
        ("token_proxy_ca_file", it.token_proxy_ca_file.is_some()),
        ("token_proxy_sni", it.token_proxy_sni.is_some()),
        ("cloud", it.cloud.is_some()),
    ];
    let (needed, allowed): (&[&str], &[&str]) = match it.kind {
        Kind::Managed => (&[], &["client_id", "object_id", "resource_id"]),
        Kind::Arc => (&[], &["resource_id"]),
        Kind::Secret => (&["client_id", "secret_file"], &["tenant", "cloud"]),
        Kind::Certificate => (&["client_id", "certificate_file"], &["tenant", "cloud", "send_chain"]),
        Kind::Federated => (
            &["client_id", "token_file"],
            &["tenant", "cloud", "token_proxy", "token_proxy_ca_file", "token_proxy_sni"],
        ),
        Kind::OnBehalfOf => (
            &["client_id"],
            &["tenant", "cloud", "secret_file", "certificate_file", "send_chain", "token_file"],
        ),
        Kind::AzureCli => {
            return Err(
                "nightlatchd runs no programs, so it has no Azure CLI to ask: leave this identity out \
                        and use `nightlatch token get --identity azure-cli`, which runs az as who calls it"
                    .to_owned(),
            );
        }
    };
    if let Some((key, _)) = set.iter().find(|(key, there)| !there && needed.contains(key)) {
        return Err(format!("`{key}` is missing"));
    }
    if let Some((key, _)) =
        set.iter().find(|(key, there)| *there && !needed.contains(key) && !allowed.contains(key))
    {
        return Err(format!("`{key}` means nothing for this kind; take it out"));
    }
    let several = |keys: &[&str]| set.iter().filter(|(key, there)| *there && keys.contains(key)).count();
    if it.kind == Kind::Managed && several(&["client_id", "object_id", "resource_id"]) > 1 {
        return Err("name the managed identity once: `client_id`, `object_id` or `resource_id`".to_owned());
    }
    if it.kind == Kind::OnBehalfOf && several(&["secret_file", "certificate_file", "token_file"]) != 1 {
        return Err("give one of `secret_file`, `certificate_file` and `token_file`".to_owned());
    }
    if let Some(id) = &it.resource_id
        && (!id.starts_with('/') || !id.bytes().all(|b| b.is_ascii_graphic()))
    {
        return Err("`resource_id` is no ARM id: it begins with `/subscriptions/`".to_owned());
    }
    match &it.token_proxy {
        Some(url) => check_proxy(url),
        None if it.token_proxy_ca_file.is_some() || it.token_proxy_sni.is_some() => {
            Err("`token_proxy_ca_file` and `token_proxy_sni` need `token_proxy`".to_owned())
        }
        None => Ok(()),
    }
}

/// A proxy sees the token that stands for the identity, so a plain one, or one with a password in its
/// address, is a mistake.
fn check_proxy(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let plain = rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'@' | b'?' | b'#' | b'\\'));
    if rest.is_empty() || rest.starts_with('/') || !plain {
        return Err("`token_proxy` is an address such as https://HOST:PORT, without user, query or fragment"
            .to_owned());
    }
    Ok(())
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(MAX_NAME_BYTES).collect()
}

fn loopback<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    let address: Option<SocketAddr> = text.parse().ok();
    match address {
        Some(address) if address.ip().is_loopback() && address.port() != 0 => Ok(Some(address)),
        _ => Err(de::Error::custom("not a loopback address with a port, such as `127.0.0.1:40399`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const ID: &str = "8d6e7a10-0000-4000-8000-000000000001";

    fn read(text: &str) -> Result<Broker, String> {
        toml::from_str::<Config>(text).map(|config| config.broker).map_err(|cause| cause.to_string())
    }

    fn identity(lines: &str) -> Result<BrokerIdentity, String> {
        let broker = read(&format!("[[broker.identity]]\nname = \"a\"\n{lines}"))?;
        Ok(broker.identity[0].clone())
    }

    #[test]
    fn every_kind_has_what_it_needs_and_nothing_else() {
        let app = format!("client_id = \"{ID}\"\n");
        for good in [
            "kind = \"managed\"".to_owned(),
            format!("kind = \"managed\"\n{app}"),
            "kind = \"managed\"\nresource_id = \"/subscriptions/s\"".to_owned(),
            "kind = \"arc\"".to_owned(),
            format!(
                "kind = \"secret\"\n{app}secret_file = \"/s\"\ntenant = \"{ID}\"\ncloud = \"AzureChinaCloud\""
            ),
            format!("kind = \"certificate\"\n{app}certificate_file = \"/c\"\nsend_chain = true"),
            format!("kind = \"federated\"\n{app}token_file = \"/t\""),
            format!(
                "kind = \"federated\"\n{app}token_file = \"/t\"\ntoken_proxy = \"https://p:1/x\"\ntoken_proxy_sni = \"n\""
            ),
            format!("kind = \"on-behalf-of\"\n{app}certificate_file = \"/c\""),
        ] {
            assert!(identity(&good).is_ok(), "{good}: {:?}", identity(&good));
        }
        for (bad, word) in [
            ("kind = \"secret\"".to_owned(), "`client_id` is missing"),
            (format!("kind = \"secret\"\n{app}"), "`secret_file` is missing"),
            (
                format!("kind = \"federated\"\n{app}token_file = \"/t\"\nsecret_file = \"/s\""),
                "means nothing",
            ),
            (format!("kind = \"arc\"\n{app}"), "`client_id` means nothing"),
            (format!("kind = \"managed\"\n{app}object_id = \"{ID}\""), "name the managed identity once"),
            (format!("kind = \"on-behalf-of\"\n{app}"), "give one of"),
            ("kind = \"managed\"\nresource_id = \"u\"".to_owned(), "no ARM id"),
            (
                format!("kind = \"federated\"\n{app}token_file = \"/t\"\ntoken_proxy_sni = \"n\""),
                "need `token_proxy`",
            ),
            ("kind = \"managed\"\nsecret = \"plain text\"".to_owned(), "unknown field `secret`"),
            ("kind = \"ldap\"".to_owned(), "unknown variant"),
        ] {
            let said = identity(&bad).unwrap_err();
            assert!(said.contains(word), "{bad}: {said}");
        }
        for proxy in
            ["http://p", "https://", "https:///x", "https://u:p@h", "https://h?x", "https://h#x", "h"]
        {
            let lines = format!("kind = \"federated\"\n{app}token_file = \"/t\"\ntoken_proxy = \"{proxy}\"");
            assert!(identity(&lines).unwrap_err().contains("https://HOST:PORT"), "{proxy}");
        }
    }

    #[test]
    fn the_azure_cli_is_no_source_of_the_daemon() {
        let said = identity("kind = \"azure-cli\"").unwrap_err();
        assert!(said.contains("runs no programs") && said.contains("nightlatch token get"), "{said}");
    }

    #[test]
    fn names_and_addresses_are_checked_with_their_line() {
        for name in ["", "person", "a b", "ä", &"a".repeat(65)] {
            let text = format!("[[broker.identity]]\nname = \"{name}\"\nkind = \"arc\"\n");
            assert!(read(&text).unwrap_err().contains("line 1"), "{name}");
        }
        let broker = read("[broker]\nloopback = \"127.0.0.1:40399\"\ndevice_code = true\n").unwrap();
        assert_eq!((broker.loopback.unwrap().port(), broker.device_code), (40_399, Some(true)));
        for address in ["0.0.0.0:1", "10.0.0.1:80", "127.0.0.1", "127.0.0.1:0", "localhost:1"] {
            let said = read(&format!("[broker]\nloopback = \"{address}\"\n")).unwrap_err();
            assert!(said.contains("not a loopback address") && said.contains("line 2"), "{said}");
        }
        assert!(read("[broker]\nsign_in = { client_id = \"x\" }\n").is_err());
        assert!(read("[broker]\nport = 1\n").unwrap_err().contains("unknown field"));
    }
}
