//! What the flags of `get-token` and the environment come to.
//!
//! kubelogin lets the environment beat a flag that was given, so that a stray AZURE_CLIENT_ID rewires a
//! cluster's access; here the flag counts, and it is said. No secret is taken, from neither.

use std::time::Duration;

use clap::ValueEnum;

use super::options::Options;
use crate::cli::azure_cli::DEFAULT_LIMIT;
use crate::config::Span;

/// The variables with a secret that kubelogin would sign an application in with.
const SECRET_VARIABLES: [&str; 4] = [
    "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AAD_SERVICE_PRINCIPAL_CLIENT_CERTIFICATE",
    "AZURE_CLIENT_CERTIFICATE_PATH",
];
/// The same with `--use-azurerm-env-vars`.
const ARM_SECRET_VARIABLES: [&str; 2] = ["ARM_CLIENT_SECRET", "ARM_CLIENT_CERTIFICATE_PATH"];

/// How kubelogin would sign in; what the broker makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub(super) enum Login {
    /// The person, signing in with a code where nobody is signed in.
    Devicecode,
    /// The person, signing in with the browser where nobody is signed in.
    Interactive,
    /// An application that the broker holds the credential of.
    Spn,
    /// Not supported: Entra's password grant.
    Ropc,
    /// A managed identity.
    Msi,
    /// The caller's own `az` sign-in.
    Azurecli,
    /// The caller's own `azd` sign-in.
    Azd,
    /// The identity that the broker federates.
    Workloadidentity,
    /// Not supported: a pipeline's service connection.
    Azurepipelines,
}

impl Login {
    /// The mode of a word; none is devicecode, as with kubelogin.
    fn read(word: Option<&str>) -> Result<Self, String> {
        let Some(word) = word else { return Ok(Self::Devicecode) };
        let modes = "devicecode, interactive, spn, msi, workloadidentity, azurecli or azd";
        match Self::from_str(word, true) {
            Ok(Self::Ropc | Self::Azurepipelines) => {
                Err(format!("--login {word} is not supported; use {modes}"))
            }
            Ok(login) => Ok(login),
            Err(_) => Err(format!("`{word}` is no login mode; --login and AAD_LOGIN_METHOD take {modes}")),
        }
    }

    /// kubelogin's word.
    pub(super) fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What counts after flags and environment were put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effective {
    pub(super) login: Login,
    pub(super) client_id: Option<String>,
    pub(super) tenant_id: Option<String>,
    /// The ARM id of a managed identity; counts before `client_id`.
    pub(super) resource_id: Option<String>,
    /// The cluster of a signed request; none for a bearer token.
    pub(super) u: Option<String>,
    /// How long `az` or `azd` may take.
    pub(super) limit: Duration,
    /// Sentences about what was passed over.
    pub(super) notes: Vec<String>,
}

impl Options {
    /// Puts flags and environment together; `env` looks a variable up.
    ///
    /// # Errors
    /// A sentence about the first combination that cannot be meant.
    pub(super) fn effective(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Effective, String> {
        if self.server_id.as_deref().unwrap_or_default().is_empty() {
            return Err(
                "server-id is required: --server-id takes the application id of the API server".to_owned()
            );
        }
        if let Some(flag) = self.secret_flag() {
            return Err(format!(
                "{flag} is not taken: the broker holds credentials, so that no command line shows them; \
                 configure the identity under [[broker.identity]] and name it with --client-id"
            ));
        }
        let mut notes = Vec::new();
        let mut choose = |flag: &Option<String>, name: &str, variables: &[&str]| {
            if self.disable_environment_override {
                return flag.clone();
            }
            // The later variable wins over the earlier, as with kubelogin.
            let found =
                variables.iter().rev().find_map(|v| env(v).filter(|t| !t.is_empty()).map(|t| (*v, t)));
            match (flag, found) {
                (Some(flag), Some((variable, value))) if *flag != value => {
                    notes.push(format!("--{name} counts; {variable} is in the environment and passed over"));
                    Some(flag.clone())
                }
                (Some(flag), _) => Some(flag.clone()),
                (None, found) => found.map(|(_, value)| value),
            }
        };
        let arm = self.use_azurerm_env_vars;
        let client: &[&str] =
            if arm { &["ARM_CLIENT_ID"] } else { &["AAD_SERVICE_PRINCIPAL_CLIENT_ID", "AZURE_CLIENT_ID"] };
        let tenant: &[&str] = if arm { &["ARM_TENANT_ID"] } else { &["AZURE_TENANT_ID"] };
        let client_id = choose(&self.client_id, "client-id", client);
        let tenant_id = choose(&self.tenant_id, "tenant-id", tenant);
        let timeout = choose(&self.timeout, "timeout", &["AZURE_CLI_TIMEOUT"]);
        let word = choose(&self.login.map(Login::word), "login", &["AAD_LOGIN_METHOD"]);
        let login = Login::read(word.as_deref())?;
        let resource_id = self.managed_identity(login, &mut notes)?;
        let u = self.signed_request(login, &mut notes)?;
        self.passed_over(login, env, &mut notes);
        Ok(Effective {
            login,
            client_id,
            tenant_id,
            resource_id,
            u,
            limit: limit(timeout.as_deref())?,
            notes,
        })
    }

    /// `--identity-resource-id`, where it means something.
    fn managed_identity(&self, login: Login, notes: &mut Vec<String>) -> Result<Option<String>, String> {
        let Some(id) = &self.identity_resource_id else { return Ok(None) };
        if login != Login::Msi {
            notes.push(format!(
                "--identity-resource-id belongs to --login msi; not used with {}",
                login.word()
            ));
            return Ok(None);
        }
        if self.client_id.is_some() {
            return Err(
                "--client-id and --identity-resource-id both name the managed identity; give one".to_owned()
            );
        }
        Ok(Some(id.clone()))
    }

    /// The `u` claim of a proof-of-possession token; both flags are needed, and an identity that can sign.
    fn signed_request(&self, login: Login, notes: &mut Vec<String>) -> Result<Option<String>, String> {
        if !self.pop_enabled {
            if self.pop_claims.is_some() {
                notes.push("--pop-claims is not used: --pop-enabled is not there".to_owned());
            }
            return Ok(None);
        }
        if matches!(login, Login::Azurecli | Login::Azd) {
            return Err(format!(
                "--pop-enabled needs an identity of the broker; --login {} gives bearer tokens only",
                login.word()
            ));
        }
        if self.legacy {
            return Err("--pop-enabled and --legacy exclude each other: a signed request has no `spn:` \
                        audience"
                .to_owned());
        }
        // Only `u` is used from the claims, as with kubelogin.
        let claims = self.pop_claims.as_deref().unwrap_or_default();
        let u = claims.split(',').find_map(|pair| pair.trim().strip_prefix("u=")).filter(|u| !u.is_empty());
        u.map(|u| Some(u.to_owned()))
            .ok_or_else(|| "a signed request needs --pop-claims u=ARM-ID-OF-THE-CLUSTER".to_owned())
    }

    /// What kubelogin would have used and this does not.
    fn passed_over(&self, login: Login, env: &dyn Fn(&str) -> Option<String>, notes: &mut Vec<String>) {
        let program = matches!(login, Login::Azurecli | Login::Azd);
        if login == Login::Spn && !self.disable_environment_override {
            let names = if self.use_azurerm_env_vars { &ARM_SECRET_VARIABLES[..] } else { &SECRET_VARIABLES };
            let there = |name: &&&str| env(name).is_some_and(|value| !value.is_empty());
            if let Some(name) = names.iter().find(there) {
                notes.push(format!(
                    "{name} is in the environment and not used: the broker signs in with the credential of \
                     its own configuration"
                ));
            }
        }
        if self.federated_token_file.is_some() {
            notes.push(
                "--federated-token-file is not read: the broker reads the file of its [[broker.identity]]"
                    .to_owned(),
            );
        }
        if self.subscription.is_some() && login != Login::Azurecli {
            notes.push(format!("--subscription belongs to --login azurecli; not used with {}", login.word()));
        } else if self.subscription.is_some() && self.tenant_id.is_some() {
            notes.push("--subscription counts and --tenant-id does not: az takes one of them".to_owned());
        }
        if self.legacy && program {
            notes.push(format!("--legacy is not used: {} gets the audience without `spn:`", login.word()));
        }
    }

    /// A flag whose secret belongs to the broker.
    const fn secret_flag(&self) -> Option<&'static str> {
        if self.client_secret.is_some() {
            Some("--client-secret")
        } else if self.client_certificate.is_some() || self.client_certificate_password.is_some() {
            Some("--client-certificate")
        } else if self.password.is_some() || self.username.is_some() {
            Some("--username and --password")
        } else {
            None
        }
    }
}

fn limit(text: Option<&str>) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let seconds =
        Span::parse(text).and_then(|span| u64::try_from(span.0).ok()).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        format!(
            "`{text}` is no time limit; --timeout and AZURE_CLI_TIMEOUT take a length of time such as 60s"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::options::tests::options;
    use super::*;

    const SERVER: [&str; 2] = ["--server-id", "s"];

    fn with(words: &[&str]) -> Options {
        options(&[&SERVER, words].concat())
    }

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_flag_beats_the_environment_and_it_is_said() {
        let env = |name: &str| match name {
            "AZURE_CLIENT_ID" => Some("stray".to_owned()),
            "AAD_SERVICE_PRINCIPAL_CLIENT_ID" => Some("older".to_owned()),
            "AAD_LOGIN_METHOD" => Some("msi".to_owned()),
            "AZURE_CLI_TIMEOUT" => Some("5s".to_owned()),
            _ => None,
        };
        let given = with(&["--client-id", "mine", "--login", "spn", "--timeout", "1m30s"]);
        let given = given.effective(&env).unwrap();
        assert_eq!((given.login, given.client_id.as_deref()), (Login::Spn, Some("mine")));
        assert_eq!((given.notes.len(), given.limit.as_secs()), (3, 90), "{:?}", given.notes);
        let found = with(&[]).effective(&env).unwrap();
        assert_eq!((found.login, found.client_id.as_deref()), (Login::Msi, Some("stray")));
        assert_eq!((found.notes.len(), found.limit.as_secs()), (0, 5));
        let alone = with(&["--disable-environment-override"]).effective(&env).unwrap();
        assert_eq!((alone.login, alone.client_id), (Login::Devicecode, None));
        let arm = |name: &str| (name == "ARM_CLIENT_ID").then(|| "arm".to_owned());
        let arm = with(&["--use-azurerm-env-vars"]).effective(&arm).unwrap();
        assert_eq!(arm.client_id.as_deref(), Some("arm"));
    }

    #[test]
    fn each_wrong_combination_has_its_sentence() {
        let said = |words: &[&str]| with(words).effective(&none).unwrap_err();
        assert!(options(&[]).effective(&none).unwrap_err().starts_with("server-id is required"));
        let rows: [(&[&str], &str); 12] = [
            (&["--client-secret", "x"], "--client-secret is not taken"),
            (&["--client-certificate", "x"], "--client-certificate is not taken"),
            (&["--username", "x"], "--username and --password is not taken"),
            (&["--login", "ropc"], "--login ropc is not supported"),
            (&["--login", "azurepipelines"], "--login azurepipelines is not supported"),
            (&["--pop-enabled"], "--pop-claims u="),
            (&["--pop-enabled", "--pop-claims", "host=x"], "--pop-claims u="),
            (&["--pop-enabled", "--pop-claims", "u="], "--pop-claims u="),
            (&["--pop-enabled", "--pop-claims", "u=/a", "--login", "azurecli"], "bearer tokens only"),
            (&["--pop-enabled", "--pop-claims", "u=/a", "--legacy"], "exclude each other"),
            (&["-l", "msi", "--client-id", "a", "--identity-resource-id", "/b"], "give one"),
            (&["--timeout", "soon"], "`soon` is no time limit"),
        ];
        for (words, part) in rows {
            assert!(said(words).contains(part), "{words:?}: {}", said(words));
        }
        let word = with(&[]).effective(&|_| Some("magic".to_owned())).unwrap_err();
        assert!(word.contains("`magic` is no login mode"), "{word}");
        assert!(!said(&["--client-secret", "hunter2"]).contains("hunter2"));
    }

    #[test]
    fn what_is_passed_over_is_said() {
        let notes =
            |words: &[&str], env: &dyn Fn(&str) -> Option<String>| with(words).effective(env).unwrap().notes;
        let secret = |name: &str| (name == "AZURE_CLIENT_SECRET").then(|| "hunter2".to_owned());
        let said = notes(&["-l", "spn"], &secret);
        assert!(said.len() == 1 && said[0].starts_with("AZURE_CLIENT_SECRET"), "{said:?}");
        assert!(!said[0].contains("hunter2"));
        assert_eq!(notes(&["-l", "msi"], &secret), [""; 0]);
        assert_eq!(notes(&["-l", "spn", "--disable-environment-override"], &secret), [""; 0]);
        let rows: [(&[&str], &str); 6] = [
            (&["--pop-claims", "u=/a"], "--pop-enabled is not there"),
            (&["-l", "spn", "--identity-resource-id", "/b"], "belongs to --login msi"),
            (&["-l", "msi", "--subscription", "s"], "belongs to --login azurecli"),
            (&["-l", "azurecli", "--subscription", "s", "-t", "t"], "az takes one of them"),
            (&["-l", "azurecli", "--legacy"], "--legacy is not used"),
            (&["-l", "workloadidentity", "--federated-token-file", "/f"], "is not read"),
        ];
        for (words, part) in rows {
            let said = notes(words, &none);
            assert!(said.len() == 1 && said[0].contains(part), "{words:?}: {said:?}");
        }
    }

    #[test]
    fn the_identity_and_the_cluster_are_taken_from_where_they_stand() {
        let msi = with(&["-l", "msi", "--identity-resource-id", "/b"]).effective(&none).unwrap();
        assert_eq!(msi.resource_id.as_deref(), Some("/b"));
        let pop = with(&["--pop-enabled", "--pop-claims", "host=x, u=/a,y=z"]).effective(&none).unwrap();
        assert_eq!(pop.u.as_deref(), Some("/a"));
    }
}
