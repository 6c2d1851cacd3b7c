//! What the daemon works with, from the configuration and from what the machine says.

use super::*;

const NODE: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/MC_x/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/0";

fn machine() -> Machine {
    Machine {
        tenant: "11111111-2222-3333-4444-555555555555".parse().ok(),
        cloud: Some(Cloud::AzureUSGovernment),
        resource_id: Some(NODE.into()),
        region: Some("eastus".into()),
        client_id: None,
        is_guessed: false,
        kind: Some(Kind::Aks),
    }
}

#[test]
fn on_azure_no_file_is_needed_and_observing_is_the_default() {
    let settings = Settings::resolve(Config::default(), &machine()).unwrap();
    assert_eq!(settings.mode, Mode::Observe);
    assert_eq!(settings.cloud, Cloud::AzureUSGovernment);
    assert_eq!(settings.roles_from, RoleBackEnd::Pdp);
    assert_eq!(settings.scopes.len(), 1);
    assert_eq!(settings.gate().wait, MAX_UPSTREAM_WAIT);
}

/// Vault CVE-2024-7594 and its kin: nothing that decides who may log in has a permissive default.
#[test]
fn past_bug_row_26_without_a_tenant_or_a_scope_it_does_not_start() {
    let resolve = |config, machine| Settings::resolve(config, &machine).unwrap_err();
    assert_eq!(resolve(Config::default(), Machine::default()), SettingsError::NoTenant);
    let nowhere = Machine { resource_id: None, ..machine() };
    assert_eq!(resolve(Config::default(), nowhere), SettingsError::NoScope);
}

/// An autoscaled node whose IMDS does not answer at its first boot: with the cluster's id alone it would miss what
/// somebody has at the machine, and rules about its resource group.
#[test]
fn a_machine_that_does_not_know_its_own_id_does_not_pass_for_one_that_has_none() {
    let cluster = NODE.split("/providers").next().unwrap();
    let settings = |more: &str, kind: Option<Kind>, id: Option<&str>| {
        let text = format!("[node]\ncluster_id = \"{cluster}\"\n{more}");
        let machine = Machine { resource_id: id.map(str::to_owned), kind, ..machine() };
        Settings::resolve(toml::from_str(&text).unwrap(), &machine)
    };
    let node = |settings: Result<Settings, SettingsError>| settings.unwrap().node();
    for kind in [Kind::Aks, Kind::Vm, Kind::ArcVm] {
        let refused = settings("", Some(kind), None).unwrap_err();
        assert_eq!(refused, SettingsError::NoNodeId, "{kind:?}");
        // Whoever says that roles are given at the cluster alone is believed; for the rules it is half known.
        let here = node(settings("[login]\nrole_scopes = [\"cluster\"]", Some(kind), None));
        assert_eq!((here.resources.len(), here.is_half_known), (1, true), "{kind:?}");
    }
    for kind in [Kind::AksArc, Kind::Plain] {
        let here = node(settings("", Some(kind), None));
        assert_eq!((here.resources.len(), here.is_half_known), (1, false), "{kind:?}");
    }
    // A VM whose IMDS was silent at its first boot, and whose kind nobody wrote down.
    let text = format!("[node]\ncluster_id = \"{cluster}\"");
    let silent = Machine { resource_id: None, kind: Some(Kind::Plain), is_guessed: true, ..machine() };
    assert!(node(Settings::resolve(toml::from_str(&text).unwrap(), &silent)).is_half_known);
    // Where roles count changes nothing about where the machine is.
    for more in ["", "[login]\nrole_scopes = [\"cluster\"]", "[login]\nrole_scopes = [\"node\"]"] {
        let here = node(settings(more, Some(Kind::Aks), Some(NODE)));
        assert_eq!((here.resources.len(), here.is_half_known), (2, false), "{more}");
    }
}

#[test]
fn times_outside_their_limits_are_named() {
    for (text, key) in [
        ("rejudge = \"1s\"", "login.rejudge"),
        ("[trust]\nmax_lifetime = \"31d\"", "trust.max_lifetime"),
        ("grace_user = \"25h\"", "login.grace_user"),
        ("grace_admin = \"2d\"", "login.grace_admin"),
        ("end_grace = \"2h\"", "login.end_grace"),
    ] {
        let config: Config = toml::from_str(&format!("[login]\n{text}\n")).unwrap();
        let refused = Settings::resolve(config, &machine()).unwrap_err().to_string();
        assert!(refused.contains(key) && refused.contains("must lie between"), "{refused}");
    }
    let settings = Settings::resolve(Config::default(), &machine()).unwrap();
    assert_eq!(settings.rejudge.as_secs(), 60);
    assert_eq!((settings.grace.user().as_secs(), settings.grace.admin().as_secs()), (3_600, 0));
}

#[test]
fn an_id_that_is_none_is_named() {
    let mut config = Config::default();
    config.node.cluster_id = Some("my-cluster".into());
    let refused = Settings::resolve(config, &machine()).unwrap_err();
    assert!(refused.to_string().contains("node.cluster_id"), "{refused}");
    let mut config = Config::default();
    config.login.domains = Some(vec!["Contoso.com".into()]);
    assert!(matches!(Settings::resolve(config, &machine()), Err(SettingsError::BadDomain(_))));
}
