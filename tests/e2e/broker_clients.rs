//! Clients that others wrote, unmodified, on a node of ours: SDKs in two languages, Azure CLI and kubectl. Each
//! finds the broker by the environment variables that it knows already.

use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_world::{interop, wait_until};
use serde_json::{Value, json};

use crate::broker::{ADDON_ID, AKS, IMDS_SOCKET, LOOPBACK, OTHER, Stage, VAULT, line_of, stage};

const PYTHON: &str = "/opt/interop/sdk/bin/python";
const BRIDGE: &str = "/opt/interop/drivers/bridge.py";
const SDK: &str = "svc-sdk";
const KUBE: &str = "svc-kube";

impl Stage {
    /// What goes into the environment of `unit`, so that it may use the loopback door.
    fn identity_header(&self, unit: &str) -> String {
        let said = self.node.shell(&format!("nightlatch token header --unit {unit}")).unwrap();
        said.trim().to_owned()
    }

    /// A program that speaks App Service's protocol to the loopback door.
    fn by_app_service(&self, unit: &str, user: &str, words: &[&str]) -> (i32, Value) {
        let service =
            self.node.service(unit, user).env("PYTHONDONTWRITEBYTECODE", "1").env("HOME", "/nonexistent");
        let service = service
            .env("IDENTITY_ENDPOINT", &format!("http://{LOOPBACK}/msi/token"))
            .env("IDENTITY_HEADER", &self.identity_header(unit));
        line_of(&service.run(words).unwrap(), self)
    }

    /// A program that speaks IMDS' protocol, over a bridge to the socket.
    fn by_imds(&self, unit: &str, user: &str, words: &[&str]) -> (i32, Value) {
        let service =
            self.node.service(unit, user).env("PYTHONDONTWRITEBYTECODE", "1").env("HOME", "/nonexistent");
        let service = service.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:{port}");
        let words = [&[PYTHON, BRIDGE, IMDS_SOCKET, "--"], words].concat();
        line_of(&service.run(&words).unwrap(), self)
    }
}

/// The driver, whose identity it asks for, and whose client id the token must name.
const SELECTORS: [(&str, &str, &str); 3] = [
    ("--client-id", world::KUBELET_CLIENT, world::KUBELET_CLIENT),
    ("--object-id", world::ADDON_OID, world::ADDON_CLIENT),
    ("--resource-id", ADDON_ID, world::ADDON_CLIENT),
];

#[test]
fn azure_identity_and_msal_get_tokens_by_app_service() {
    let stage = stage();
    let driver = [PYTHON, "/opt/interop/drivers/identity_clients.py"];
    let (code, said) = stage.by_app_service(
        "sdk.service",
        SDK,
        &[&driver[..], &["--expect-client", world::KUBELET_CLIENT]].concat(),
    );
    assert_eq!(
        (code, &said["tokens"]),
        (0, &json!(1)),
        "five clients share one token: {said}\n{}",
        stage.journal()
    );
    for (selector, id, client) in SELECTORS {
        let words = [&driver[..], &[selector, id, "--expect-client", client]].concat();
        let (code, said) = stage.by_app_service("sdk.service", SDK, &words);
        assert_eq!(code, 0, "{selector}: {said}\n{}", stage.journal());
    }
}

#[test]
fn azure_identity_and_msal_get_tokens_by_imds() {
    let stage = stage();
    let driver = [PYTHON, "/opt/interop/drivers/identity_clients.py"];
    let (code, said) = stage.by_imds(
        "sdk.service",
        SDK,
        &[&driver[..], &["--expect-client", world::KUBELET_CLIENT]].concat(),
    );
    assert_eq!(
        (code, &said["tokens"]),
        (0, &json!(1)),
        "five clients share one token: {said}\n{}",
        stage.journal()
    );
    for (selector, id, client) in SELECTORS {
        let words = [&driver[..], &[selector, id, "--expect-client", client]].concat();
        let (code, said) = stage.by_imds("sdk.service", SDK, &words);
        assert_eq!(code, 0, "{selector}: {said}\n{}", stage.journal());
    }
}

/// On a server with the Arc agent the libraries speak to it first, unless they are told of another: the file that
/// the challenge names is the unit's own, in its own mount namespace.
#[test]
fn azure_identity_and_msal_get_tokens_by_arc() {
    let stage = stage();
    let unit = "sdk.service";
    let header = stage.identity_header(unit);
    stage
        .node
        .shell(&format!(
            "install -d -m 0755 /run/arc-sdk && printf %s '{header}' > /run/arc-sdk/nightlatch.key && \
             chown {SDK} /run/arc-sdk/nightlatch.key && chmod 0400 /run/arc-sdk/nightlatch.key"
        ))
        .unwrap();
    let service = stage
        .node
        .service(unit, SDK)
        .property("TemporaryFileSystem=/var/opt")
        .property("BindReadOnlyPaths=/run/arc-sdk:/var/opt/azcmagent/tokens")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", "/nonexistent")
        .env("IMDS_ENDPOINT", &format!("http://{LOOPBACK}"))
        .env("IDENTITY_ENDPOINT", &format!("http://{LOOPBACK}/metadata/identity/oauth2/token"));
    let words =
        [PYTHON, "/opt/interop/drivers/identity_clients.py", "--expect-client", world::KUBELET_CLIENT];
    let (code, said) = line_of(&service.run(&words).unwrap(), &stage);
    assert_eq!((code, &said["tokens"]), (0, &json!(1)), "{said}\n{}", stage.journal());
    stage.node.shell("rm -r /run/arc-sdk").unwrap();
}

/// What a developer sees of a refusal is what the SDK prints.
#[test]
fn an_sdk_shows_its_user_the_rule_that_refused() {
    let stage = stage();
    let driver = [PYTHON, "/opt/interop/drivers/identity_clients.py", "--resource"];
    for (resource, rule) in [(VAULT, "default"), ("https://database.windows.net", "never-the-database")] {
        let words = [&driver[..], &[resource, "--refused", rule]].concat();
        for (way, (code, said)) in [
            ("App Service", stage.by_app_service("other.service", OTHER, &words)),
            ("IMDS", stage.by_imds("other.service", OTHER, &words)),
        ] {
            assert_eq!(code, 0, "{way}: {said}\n{}", stage.journal());
        }
    }
}

#[test]
fn the_loopback_door_wants_the_header_of_that_unit() {
    let stage = stage();
    let ask = |user: &str, header: Option<&str>, more: &[&str]| {
        let target = format!("http://{LOOPBACK}/msi/token?api-version=2019-08-01&resource={VAULT}");
        let shown = header.map(|header| format!("X-IDENTITY-HEADER: {header}"));
        let mut words =
            vec!["curl", "--silent", "--max-time", "20", "--write-out", "\n%{http_code}", target.as_str()];
        words.extend(shown.iter().flat_map(|header| ["--header", header.as_str()]));
        words.extend_from_slice(more);
        let done = stage.node.service("sdk.service", user).run(&words).unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
        (status.to_owned(), body.to_owned())
    };
    let header = stage.identity_header("sdk.service");
    assert_eq!(ask(SDK, Some(&header), &[]).0, "200", "{}", stage.journal());
    let mut forged = header.clone();
    let last = if forged.ends_with('0') { '1' } else { '0' };
    forged.pop();
    forged.push(last);
    for (user, header, more) in [
        (SDK, None, &[][..]),
        (SDK, Some(forged.as_str()), &[]),
        (SDK, Some("sdk.service"), &[]),
        // A right header in the hands of somebody whom no rule names.
        ("nobody", Some(header.as_str()), &[]),
        (SDK, Some(header.as_str()), &["--header", "X-Forwarded-For: 10.0.0.1"]),
        (SDK, Some(header.as_str()), &["--header", "Host: attacker.example"]),
    ] {
        let (status, body) = ask(user, header, more);
        assert!(
            ["400", "401", "403"].contains(&status.as_str()),
            "{user} {header:?} {more:?}: {status} {body}"
        );
        assert!(!body.contains("access_token"), "{body}");
    }
}

/// A caller that is gone when it is looked up reads as uid 0 in the kernel's table (polkit CVE-2021-3560 was of
/// this class): it must be nobody, or the rule for root would serve it.
#[test]
fn past_bug_row_43_a_caller_that_hung_up_is_not_root() {
    let stage = stage();
    let database = "https://database.windows.net";
    let (host, port) = LOOPBACK.split_once(':').unwrap();
    let script = format!(
        "import socket, struct, sys\n\
         for _ in range(200):\n\
         \x20   s = socket.create_connection(('{host}', {port}))\n\
         \x20   s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n\
         \x20   s.sendall(('GET /msi/token?api-version=2019-08-01&resource={database}&client_id={} HTTP/1.1\\r\\n'\n\
         \x20             'Host: localhost\\r\\nX-IDENTITY-HEADER: ' + sys.argv[1] + '\\r\\n\\r\\n').encode())\n\
         \x20   s.close()\n",
        world::KUBELET_CLIENT
    );
    // Other stories ask for this resource as the node's root; the daemon starts with nothing kept.
    stage.restart();
    let before = stage.imds_asked(database);
    let header = stage.identity_header("dead.service");
    let done = stage.node.service("dead.service", OTHER).run(&["python3", "-c", &script, &header]).unwrap();
    assert!(done.status.success(), "{done:?}");
    // A question after all of them: whatever they started has been decided by then.
    let (code, _) = stage.grpc("sdk.service", SDK, "GetToken", &json!({"resource": VAULT}));
    assert_eq!(code, 0, "{}", stage.journal());
    assert_eq!(stage.imds_asked(database), before);
}

#[test]
fn azure_cli_gets_a_token_and_writes_none_down() {
    let stage = stage();
    stage.node.lend(&interop("az").unwrap(), "az").unwrap();
    let ca = "/etc/ssl/certs/ca-certificates.crt";
    let python = "/opt/interop/az/bin/python";
    let run = |name: &str, user: &str, more: &[&str]| {
        let unit = format!("{name}.service");
        let folder = format!("/run/{name}");
        let service = stage
            .node
            .service(&unit, user)
            .property(&format!("RuntimeDirectory={name}"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("REQUESTS_CA_BUNDLE", ca)
            .env("IDENTITY_ENDPOINT", &format!("http://{LOOPBACK}/msi/token"))
            .env("IDENTITY_HEADER", &stage.identity_header(&unit));
        let words = [
            &[python, "/opt/interop/drivers/az_cli.py", "--config", &folder][..],
            &["--tenant", world::TENANT, "--subscription", world::SUBSCRIPTION],
            more,
        ];
        let done = service.run(&words.concat()).unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let (code, line) = line_of(&done, &stage);
        assert_eq!(code, 0, "{name}: {line}{said}\n{}", stage.journal());
        line
    };
    let seen = run("az-seeded", SDK, &["--client-id", world::KUBELET_CLIENT]);
    assert_eq!(seen["az"]["client_id"], world::KUBELET_CLIENT);
    let seen = run("az-login", SDK, &["--login", "--client-id", world::KUBELET_CLIENT]);
    assert_eq!(seen["az"]["oid"], world::KUBELET_OID);
    run("az-refused", OTHER, &["--refused", "default"]);
}

#[test]
fn kubectl_reaches_a_cluster_by_the_exec_plugin() {
    let stage = stage();
    // Other stories ask for this resource too; the daemon starts with nothing kept.
    stage.restart();
    let before = stage.imds_asked(AKS);
    let plugin =
        ["--", "/usr/bin/nightlatch", "kubelogin", "get-token", "--login", "msi", "--server-id", AKS];
    for (version, parallel) in [("v1", "2"), ("v1beta1", "2")] {
        let words =
            [&["kubectl_exec.py", "--api-version", version, "--parallel", parallel], &plugin[..]].concat();
        let said = stage.driver("kube.service", KUBE, &words);
        assert_eq!((&said["requests"], said["tokens"].as_array().unwrap().len()), (&json!(2), 1), "{said}");
        assert_eq!((&said["aud"], &said["oid"]), (&json!(AKS), &json!(world::KUBELET_OID)), "{said}");
    }
    assert_eq!(stage.imds_asked(AKS) - before, 1, "four kubectl, one question");
    let words = [&["kubectl_exec.py", "--refused", "default"], &plugin[..]].concat();
    stage.driver("other.service", OTHER, &words);
}

/// Kubeconfigs as `az aks get-credentials` wrote them over the years: converted, each logs in.
#[test]
fn kubeconfigs_of_all_years_are_converted_and_log_in() {
    let stage = stage();
    let files = [
        "auth-provider-mode-0",
        "auth-provider-mode-absent",
        "auth-provider-mode-1",
        "exec-devicecode",
        "exec-devicecode-v1",
        "exec-msi",
    ];
    for name in files {
        let file = format!("/tmp/{name}.yaml");
        stage
            .node
            .shell(&format!("cp /opt/interop/drivers/kubeconfigs/{name}.yaml {file} && chown {KUBE} {file}"))
            .unwrap();
        let convert =
            ["nightlatch", "kubelogin", "convert-kubeconfig", "--kubeconfig", &file, "--login", "msi"];
        let done = stage.node.exec_as(KUBE, &convert).unwrap();
        assert!(done.status.success(), "{name}: {done:?}");
        // What kubelogin would take as the person's client is no identity of the node.
        let said = stage.driver("kube.service", KUBE, &["kubectl_exec.py", "--kubeconfig", &file]);
        assert_eq!((&said["aud"], &said["requests"]), (&json!(AKS), &json!(1)), "{name}: {said}");
        stage.node.shell(&format!("rm {file}")).unwrap();
    }
}

/// An Arc-enabled cluster wants a request that is signed with the key its token is bound to.
#[test]
fn the_kubeconfig_of_an_arc_cluster_is_converted_and_logs_in() {
    let stage = stage();
    let (file, app) = ("/tmp/aksarc.yaml", "svc-app");
    let lay = format!("cp /opt/interop/drivers/kubeconfigs/aksarc.yaml {file} && chown {app} {file}");
    stage.node.shell(&lay).unwrap();
    let convert = ["nightlatch", "kubelogin", "convert-kubeconfig", "--kubeconfig", file, "--login", "spn"];
    let convert = [&convert[..], &["--client-id", world::CI_PIPELINE_APP]].concat();
    let done = stage.node.exec_as(app, &convert).unwrap();
    assert!(done.status.success(), "{done:?}");
    let said = stage.driver("app.service", app, &["kubectl_exec.py", "--kubeconfig", file]);
    assert_eq!((&said["u"], &said["requests"]), (&json!(world::ARC_CLUSTER), &json!(1)), "{said}");
    assert_eq!(said["aud"], "6256c85f-0aad-4d50-b960-e6e9b21efe35", "{said}");
    stage.node.shell(&format!("rm {file}")).unwrap();
}

#[test]
fn azure_identity_for_rust_gets_a_token_by_app_service() {
    let stage = stage();
    stage.node.lend(&interop("rust").unwrap(), "rust").unwrap();
    let client = "/opt/interop/rust/nightlatch-interop-rust-client";
    let (code, said) = stage.by_app_service("sdk.service", SDK, &[client, VAULT]);
    assert_eq!(
        (code, &said["jwt_parts"], &said["kept"]),
        (0, &json!(3), &json!(true)),
        "{said}\n{}",
        stage.journal()
    );
    let (code, said) =
        stage.by_app_service("sdk.service", SDK, &[client, VAULT, "client-id", world::KUBELET_CLIENT]);
    assert_eq!(code, 0, "{said}");
    let service = stage.node.service("other.service", OTHER);
    let service = service
        .env("IDENTITY_ENDPOINT", &format!("http://{LOOPBACK}/msi/token"))
        .env("IDENTITY_HEADER", &stage.identity_header("other.service"));
    let refused = service.run(&[client, VAULT]).unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("default"), "{words}");
}

/// The door is there before the daemon: a program that starts first waits instead of failing.
#[test]
fn a_program_that_starts_before_the_daemon_waits() {
    let stage = stage();
    stage.node.shell("systemctl stop nightlatchd.service").unwrap();
    let said =
        stage.driver("backup.service", crate::broker::BACKUP, &["curl_imds.py", IMDS_SOCKET, "--granted"]);
    assert!(said["granted"]["plain"]["uti"].is_string(), "{said}");
    wait_until("the daemon", Duration::from_secs(15), || {
        stage.node.exec(&["nightlatch", "status"]).is_ok_and(|done| done.status.success())
    })
    .unwrap();
}
