//! What sshd itself does with a hook's output and a certificate, pinned row by row with a scripted hook.
//!
//! The product relies on each of these facts; several need output that the product never prints. When a
//! row fails on a new OpenSSH, the product's assumptions are to be looked at, not the row.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a failed assumption of a test is a failed test"
)]

mod rig;

use std::time::Duration;

use nightlatch_world::CertificateSpec;
use rig::{RSA_CERTIFICATE, Row, is_for_certificate, rig};

/// A line that lets `principal` in, with nothing else said.
fn line_for(row: &Row, principal: &str) -> String {
    format!("cert-authority,principals=\"{principal}\" {}\n", row.ca_key())
}

#[test]
fn row_01_bare_authority_wants_the_login_name_as_principal() {
    let row = Row::new("row01");
    row.take(&CertificateSpec::for_principal("somebody@contoso.com"));
    row.hook_prints(&format!("cert-authority {}\n", row.ca_key()));
    let calls = row.assert_refused();
    assert!(calls.iter().any(is_for_certificate), "{calls:?}");
    assert!(row.sshd_journal().contains("name is not a listed principal"));
}

#[test]
fn row_02_principals_option_admits_and_the_hook_runs_twice() {
    let row = Row::new("row02");
    row.take(&CertificateSpec::for_principal("other-name@contoso.com"));
    row.hook_prints(&line_for(&row, "other-name@contoso.com"));
    row.assert_in();
    let calls = row.calls();
    assert_eq!(calls.len(), 2, "once for the probe, once for the signature: {calls:?}");
    let certificate = std::fs::read_to_string(row.person.certificate_path()).unwrap();
    let uid = rig().node.shell(&format!("id -u {}", row.user)).unwrap();
    for call in &calls {
        assert_eq!(format!("{} {}", call.key_type, call.key), certificate);
        assert_eq!(call.uid, uid.trim());
    }
    assert_eq!(calls[0].monitor, calls[1].monitor, "one connection is one parent");
}

#[test]
fn row_03_plain_key_bypasses_the_certificate_and_its_end() {
    let row = Row::new("row03");
    row.take(&CertificateSpec { validity: "-2h:-1h".to_owned(), ..row.spec() });
    row.hook_prints(&format!("{}\n", row.person.public_key().unwrap()));
    row.assert_in();
}

#[test]
fn row_04_certificate_line_itself_is_refused() {
    let row = Row::new("row04");
    row.take(&row.spec());
    let certificate = std::fs::read_to_string(row.person.certificate_path()).unwrap();
    row.hook_prints(&format!("{certificate}\n"));
    row.assert_refused();
}

#[test]
fn row_05_expired_certificate_is_refused_after_the_hook() {
    let row = Row::new("row05");
    row.take(&CertificateSpec { validity: "-2h:-1h".to_owned(), ..row.spec() });
    row.hook_prints(&line_for(&row, &row.user));
    assert!(row.assert_refused().iter().any(is_for_certificate));
    assert!(row.sshd_journal().contains("Certificate invalid: expired"));
}

#[test]
fn row_06_certificate_of_the_future_is_refused_after_the_hook() {
    let row = Row::new("row06");
    row.take(&CertificateSpec { validity: "+1h:+2h".to_owned(), ..row.spec() });
    row.hook_prints(&line_for(&row, &row.user));
    assert!(row.assert_refused().iter().any(is_for_certificate));
    assert!(row.sshd_journal().contains("Certificate invalid: not yet valid"));
}

#[test]
fn row_07_no_principals_and_a_bare_authority_is_anybody_before_10_3() {
    let row = Row::new("row07");
    row.take(&CertificateSpec { principals: Vec::new(), ..row.spec() });
    row.hook_prints(&format!("cert-authority {}\n", row.ca_key()));
    if rig().openssh() < (10, 3) {
        row.assert_in();
    } else {
        row.assert_refused();
    }
}

#[test]
fn row_08_no_principals_never_meet_the_principals_option() {
    let row = Row::new("row08");
    row.take(&CertificateSpec { principals: Vec::new(), ..row.spec() });
    row.hook_prints(&line_for(&row, &row.user));
    row.assert_refused();
}

#[test]
fn row_09_another_authority_is_refused() {
    let row = Row::new("row09");
    let certificate = rig().stranger.sign(&row.person, &row.spec()).unwrap();
    row.person.take_certificate(&certificate).unwrap();
    row.hook_prints(&line_for(&row, &row.user));
    assert!(row.assert_refused().iter().any(is_for_certificate), "the hook had not seen it");
}

#[test]
fn row_10_sha1_signature_is_refused_before_the_hook() {
    let row = Row::new("row10");
    row.take(&CertificateSpec { signature: "ssh-rsa", ..row.spec() });
    row.hook_prints(&line_for(&row, &row.user));
    let calls = row.assert_refused();
    assert!(!calls.iter().any(is_for_certificate), "{calls:?}");
}

#[test]
fn row_11_unknown_critical_option_is_refused_and_unknown_extension_ignored() {
    let row = Row::new("row11");
    row.hook_prints(&line_for(&row, &row.user));
    row.take(&CertificateSpec { options: vec!["extension:oid@example.com=1".to_owned()], ..row.spec() });
    row.assert_in();
    row.take(&CertificateSpec { options: vec!["critical:oid@example.com=1".to_owned()], ..row.spec() });
    row.assert_refused();
}

#[test]
fn row_12_bare_authority_admits_the_login_name() {
    let row = Row::new("row12");
    row.take(&row.spec());
    row.hook_prints(&format!("cert-authority {}\n", row.ca_key()));
    row.assert_in();
}

#[test]
fn row_13_host_certificate_is_refused_before_the_hook() {
    let row = Row::new("row13");
    row.take(&CertificateSpec { host: true, ..row.spec() });
    row.hook_prints(&line_for(&row, &row.user));
    let calls = row.assert_refused();
    assert!(!calls.iter().any(is_for_certificate), "{calls:?}");
}

#[test]
fn row_14_principals_are_compared_byte_by_byte() {
    let row = Row::new("row14");
    row.take(&CertificateSpec::for_principal("Row14@Contoso.com"));
    row.hook_prints(&line_for(&row, "Row14@Contoso.com"));
    row.assert_in();
    row.hook_prints(&line_for(&row, "row14@contoso.com"));
    row.assert_refused();
}

#[test]
fn row_15_name_unknown_to_nss_never_reaches_the_hook() {
    let row = Row::without_account("row15");
    row.take(&row.spec());
    row.hook_prints(&line_for(&row, &row.user));
    let outcome = row.login();
    assert!(outcome.is_refused(), "{outcome:?}");
    assert_eq!(row.calls().len(), 0);
    assert!(row.sshd_journal().contains("Invalid user row15@contoso.com"));
}

#[test]
fn row_16_silence_makes_the_client_offer_the_plain_key() {
    let row = Row::new("row16");
    row.take(&row.spec());
    let calls = row.assert_refused();
    let types: Vec<&str> = calls.iter().map(|call| call.key_type.as_str()).collect();
    assert_eq!(types, [RSA_CERTIFICATE, "ssh-rsa"]);
}

#[test]
fn row_17_expiry_time_of_the_past_is_refused() {
    let row = Row::new("row17");
    row.take(&row.spec());
    row.hook_prints(&format!("expiry-time=\"20200101000000\",{}", line_for(&row, &row.user)));
    assert!(row.assert_refused().iter().any(is_for_certificate));
}

#[test]
fn row_18_the_closed_grammars_line_admits() {
    let row = Row::new("row18");
    row.take(&row.spec());
    // The UTC suffix is understood from 9.1 on.
    let zone = if rig().openssh() < (9, 1) { "" } else { "Z" };
    let expiry = format!("expiry-time=\"20991231235959{zone}\"");
    row.hook_prints(&format!(
        "restrict,pty,cert-authority,principals=\"{}\",{expiry} {}\n",
        row.user,
        row.ca_key()
    ));
    row.assert_in();
    let with_terminal = row.login_with(&["-tt"]);
    assert!(with_terminal.is_in() && !with_terminal.stderr.contains("PTY allocation"), "{with_terminal:?}");
}

#[test]
fn row_19_certificate_without_pty_logs_in_without_terminal() {
    let row = Row::new("row19");
    row.take(&CertificateSpec { options: vec!["no-pty".to_owned()], ..row.spec() });
    row.hook_prints(&line_for(&row, &row.user));
    row.assert_in();
    // A client that insists gives up by itself; the refusal was of the terminal, not of the login.
    let outcome = row.login_with(&["-tt"]);
    assert!(outcome.stderr.contains("PTY allocation request failed") && !outcome.is_refused(), "{outcome:?}");
}

#[test]
fn row_20_several_authorities_may_be_printed() {
    let row = Row::new("row20");
    row.take(&row.spec());
    let stranger = rig().stranger.public_key().unwrap();
    let user = &row.user;
    row.hook_prints(&format!("cert-authority,principals=\"{user}\" {stranger}\n{}", line_for(&row, user)));
    row.assert_in();
}

#[test]
fn row_21_from_option_that_does_not_match_is_refused() {
    let row = Row::new("row21");
    row.take(&row.spec());
    row.hook_prints(&format!("from=\"127.0.0.0/8\",{}", line_for(&row, &row.user)));
    row.assert_in();
    row.hook_prints(&format!("from=\"192.0.2.0/24\",{}", line_for(&row, &row.user)));
    row.assert_refused();
}

#[test]
fn row_22_junk_before_the_good_line_is_skipped() {
    let row = Row::new("row22");
    row.take(&row.spec());
    row.hook_prints(&format!("{}\n{}", "x".repeat(9_000), line_for(&row, &row.user)));
    row.assert_in();
}

#[test]
fn row_24_good_line_with_a_failed_hook_is_refused() {
    let row = Row::new("row24");
    row.take(&row.spec());
    row.hook_prints(&line_for(&row, &row.user));
    row.set("exit", "3");
    assert!(row.assert_refused().iter().any(is_for_certificate));
}

#[test]
fn row_25_slow_hook_costs_its_latency_twice() {
    let row = Row::new("row25");
    row.take(&row.spec());
    row.hook_prints(&line_for(&row, &row.user));
    row.set("delay", "0.7");
    let outcome = row.assert_in();
    assert!(outcome.elapsed >= Duration::from_millis(1_400), "{outcome:?}");
    assert_eq!(row.calls().len(), 2);
}

#[test]
fn row_26_connection_token_ends_every_key_login_before_9_4() {
    // The rig's Match block for this row's user has %C among the hook's arguments.
    let row = Row::new("percent-c");
    row.take(&row.spec());
    row.hook_prints(&line_for(&row, &row.user));
    let outcome = row.login();
    if rig().openssh() < (9, 4) {
        assert_eq!(outcome.status, 255, "{outcome:?}");
        assert!(!outcome.stderr.contains("Permission denied"), "closed, not refused: {outcome:?}");
        assert_eq!(row.calls().len(), 0);
        assert!(row.sshd_journal().contains("unknown key %C"));
    } else {
        assert!(outcome.is_in(), "{outcome:?}");
    }
}

#[test]
fn hook_gets_a_bare_environment_and_no_stderr() {
    let row = Row::new("bare");
    row.take(&row.spec());
    row.hook_prints(&line_for(&row, &row.user));
    row.set("environment", "");
    row.assert_in();
    let path = format!("/run/facts/{}/environment", row.user);
    let text = String::from_utf8(rig().node.read_file(&path).unwrap()).unwrap();
    let allowed = ["PATH=", "USER=", "LOGNAME=", "HOME=", "LANG=", "PWD=", "SHLVL=", "_="];
    let variables = text.lines().filter(|line| line.contains('='));
    assert_eq!(
        variables.filter(|line| !allowed.iter().any(|name| line.starts_with(name))).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
    assert!(text.contains("USER=facts-hook\n") && text.contains("LOGNAME=facts-hook\n"), "{text}");
    assert_eq!(text.lines().filter(|line| *line == "/dev/null").count(), 2, "stdin and stderr: {text}");
}

#[test]
fn wrong_keys_cost_one_run_each() {
    let row = Row::new("many");
    row.take(&row.spec());
    row.hook_prints(&line_for(&row, &row.user));
    let wrong: Vec<_> =
        (0..3).map(|_| nightlatch_world::Person::with_key(rig().node.image(), "ed25519").unwrap()).collect();
    let paths: Vec<String> = wrong.iter().map(|person| person.key_path().display().to_string()).collect();
    let options: Vec<&str> = paths.iter().flat_map(|path| ["-i", path.as_str()]).collect();
    // The certificate is offered first and wins; without it the wrong keys are tried one by one.
    row.person.drop_certificate();
    let outcome = row.login_with(&options);
    assert!(outcome.is_refused(), "{outcome:?}");
    let types: Vec<String> = row.calls().into_iter().map(|call| call.key_type).collect();
    assert_eq!(types.iter().filter(|name| *name == "ssh-ed25519").count(), 3, "{types:?}");
    assert_eq!(types.iter().filter(|name| *name == "ssh-rsa").count(), 1, "{types:?}");
}

#[test]
fn multiplexed_sessions_run_no_hook() {
    let row = Row::new("muxed");
    row.take(&row.spec());
    row.hook_prints(&line_for(&row, &row.user));
    let folder = tempfile::tempdir().unwrap();
    let path = format!("ControlPath={}/mux", folder.path().display());
    let node = &rig().node;
    let mut master = node
        .ssh_command(&row.person, &row.user, &["-o", "ControlMaster=yes", "-o", &path, "-N"], &[])
        .unwrap();
    let mut master = master.spawn().unwrap();
    let mux = folder.path().join("mux");
    nightlatch_world::wait_until("the control socket", Duration::from_secs(30), || mux.exists()).unwrap();
    assert_eq!(row.calls().len(), 2);
    for _ in 0..3 {
        let outcome = row.login_with(&["-o", "ControlMaster=no", "-o", &path]);
        assert!(outcome.is_in(), "{outcome:?}");
    }
    assert_eq!(row.calls().len(), 2, "a further session over the same connection asked the hook");
    let end = row.login_with(&["-o", &path, "-O", "exit"]);
    assert!(end.is_in(), "{end:?}");
    master.wait().unwrap();
}
