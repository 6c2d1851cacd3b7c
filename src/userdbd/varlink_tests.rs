//! The words on the wire: what nss-systemd and userdbctl send, and what they must get.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use nightlatch_model::{ADMIN_GID, MAX_ACCOUNTS, Timestamp, UID_LOW, uid_of};

use super::*;

const SERVICE: &str = "io.nightlatch.UserDatabase";

struct Stage {
    _folder: tempfile::TempDir,
    answerer: Answerer,
}

fn stage(accounts: &Value) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (snapshot, passwd) = (folder.path().join("snapshot.json"), folder.path().join("passwd"));
    let whole = json!({
        "version": 1, "tenant": "11111111-2222-3333-4444-555555555555", "domains": [], "shell": "/bin/bash",
        "accounts": accounts,
    });
    fs::write(&snapshot, whole.to_string()).unwrap();
    fs::write(&passwd, "root:x:0:0::/root:/bin/sh\n").unwrap();
    let source = Source::new(snapshot, passwd, Arc::new(|_: &str| {}));
    let now: Now = Arc::new(|| Timestamp(1_000_000));
    Stage { _folder: folder, answerer: Answerer::new(source, SERVICE, now) }
}

fn people() -> Value {
    json!([
        { "name": "alice@contoso.com", "uid": UID_LOW, "admin": true, "unlocked_until": 1_000_001 },
        { "name": "bob@contoso.com", "uid": UID_LOW + 1, "admin": true, "unlocked_until": 1_000_001 },
        { "name": "carol@contoso.com", "uid": UID_LOW + 2, "admin": false, "unlocked_until": null },
    ])
}

impl Stage {
    fn raw(&self, message: &str) -> io::Result<Vec<Value>> {
        let mut answers = Vec::new();
        self.answerer.answer(message.as_bytes(), &mut |bytes| {
            let (end, text) = bytes.split_last().unwrap();
            assert_eq!((*end, text.contains(&0)), (0, false), "one NUL, at the end");
            answers.push(serde_json::from_slice(text).unwrap());
            Ok(())
        })?;
        Ok(answers)
    }

    fn ask(&self, method: &str, parameters: Value, more: bool) -> Vec<Value> {
        let mut parameters = parameters;
        parameters["service"] = json!(SERVICE);
        let call =
            json!({ "method": format!("{INTERFACE}.{method}"), "parameters": parameters, "more": more });
        self.raw(&call.to_string()).unwrap()
    }

    fn error(&self, method: &str, parameters: Value, more: bool) -> String {
        let answers = self.ask(method, parameters, more);
        assert_eq!(answers.len(), 1);
        answers[0]["error"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_user_record_says_exactly_this() {
    let stage = stage(&people());
    let expected = json!([{ "parameters": { "incomplete": false, "record": {
        "userName": "alice@contoso.com", "uid": UID_LOW, "gid": UID_LOW, "homeDirectory": "/home/nl-1879048192",
        "shell": "/bin/bash", "disposition": "regular", "service": SERVICE, "locked": false,
    } } }]);
    for parameters in [
        json!({ "userName": "alice@contoso.com" }),
        json!({ "uid": UID_LOW }),
        json!({ "uid": UID_LOW, "userName": "alice@contoso.com" }),
        json!({ "uid": UID_LOW, "userName": null }),
        json!({ "userName": "alice@contoso.com", "uidMin": 0, "fuzzyNames": [["x"], {}], "dispositionMask": {} }),
    ] {
        assert_eq!(json!(stage.ask("GetUserRecord", parameters.clone(), false)), expected, "{parameters}");
        assert_eq!(json!(stage.ask("GetUserRecord", parameters, true)), expected);
    }
}

#[test]
fn a_stranger_is_computed_and_locked() {
    let tenant = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    let uid = uid_of(tenant, &nightlatch_model::LoginName::parse("dave@contoso.com").unwrap());
    let answers = stage(&people()).ask("GetUserRecord", json!({ "userName": "dave@contoso.com" }), false);
    let record = &answers[0]["parameters"]["record"];
    assert_eq!((&record["uid"], &record["gid"], &record["locked"]), (&json!(uid), &json!(uid), &json!(true)));
}

#[test]
fn group_records_are_ours_only() {
    let stage = stage(&people());
    let record = |name: &str, gid: u32| {
        let record = json!({ "groupName": name, "gid": gid, "disposition": "regular", "service": SERVICE });
        json!([{ "parameters": { "incomplete": false, "record": record } }])
    };
    let ask = |parameters| json!(stage.ask("GetGroupRecord", parameters, false));
    assert_eq!(ask(json!({ "groupName": "nightlatch-admins" })), record("nightlatch-admins", ADMIN_GID));
    assert_eq!(ask(json!({ "gid": ADMIN_GID })), record("nightlatch-admins", ADMIN_GID));
    assert_eq!(ask(json!({ "gid": UID_LOW })), record("alice@contoso.com", UID_LOW));
    assert_eq!(ask(json!({ "groupName": "alice@contoso.com" })), record("alice@contoso.com", UID_LOW));
    for parameters in [json!({ "groupName": "sudo" }), json!({ "gid": 0 }), json!({ "gid": 27 })] {
        assert_eq!(stage.error("GetGroupRecord", parameters, false), NO_RECORD);
    }
    assert_eq!(stage.ask("GetGroupRecord", json!({}), true).len(), 4);
}

#[test]
fn memberships_stream_with_continues_on_all_but_the_last() {
    let stage = stage(&people());
    let member = |name| json!({ "userName": name, "groupName": "nightlatch-admins" });
    let expected = json!([
        { "parameters": member("alice@contoso.com"), "continues": true },
        { "parameters": member("bob@contoso.com") },
    ]);
    assert_eq!(json!(stage.ask("GetMemberships", json!({}), true)), expected);
    let group = json!({ "groupName": "nightlatch-admins" });
    assert_eq!(json!(stage.ask("GetMemberships", group.clone(), true)), expected);
    assert_eq!(stage.error("GetMemberships", group, false), EXPECTED_MORE);
    let alice = json!({ "userName": "alice@contoso.com" });
    assert_eq!(
        json!(stage.ask("GetMemberships", alice, false)),
        json!([{ "parameters": member("alice@contoso.com") }])
    );
    for parameters in [
        json!({ "userName": "root" }),
        json!({ "userName": "carol@contoso.com" }),
        json!({ "userName": "dave@contoso.com" }),
        json!({ "userName": "alice@contoso.com", "groupName": "sudo" }),
        json!({ "groupName": "sudo" }),
    ] {
        assert_eq!(stage.error("GetMemberships", parameters, true), NO_RECORD);
    }
}

#[test]
fn enumeration_wants_more_and_holds_the_known_only() {
    let full = stage(&people());
    assert_eq!(full.error("GetUserRecord", json!({}), false), NO_ENUMERATION);
    assert_eq!(full.error("GetGroupRecord", json!({}), false), NO_ENUMERATION);
    full.ask("GetUserRecord", json!({ "userName": "dave@contoso.com" }), false);
    let answers = full.ask("GetUserRecord", json!({}), true);
    let names: Vec<_> =
        answers.iter().map(|a| a["parameters"]["record"]["userName"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice@contoso.com", "bob@contoso.com", "carol@contoso.com"]);
    assert_eq!(answers.iter().filter(|answer| answer["continues"] == json!(true)).count(), 2);
    assert_eq!(stage(&json!([])).error("GetUserRecord", json!({}), true), NO_RECORD);
}

#[test]
fn errors_carry_their_names() {
    let stage = stage(&people());
    let ask = |method: &str, parameters: Value| {
        stage.raw(&json!({ "method": method, "parameters": parameters }).to_string()).unwrap()[0].clone()
    };
    let user = "io.systemd.UserDatabase.GetUserRecord";
    for service in [json!("io.systemd.DynamicUser"), json!(""), json!(null)] {
        let answer = ask(user, json!({ "userName": "alice@contoso.com", "service": service }));
        assert_eq!(answer, json!({ "error": BAD_SERVICE, "parameters": {} }));
    }
    assert_eq!(ask(user, json!({ "userName": "alice@contoso.com" }))["error"], json!(BAD_SERVICE));
    let conflict = json!({ "userName": "alice@contoso.com", "uid": UID_LOW + 1 });
    assert_eq!(stage.error("GetUserRecord", conflict, false), CONFLICT);
    for (parameters, wrong) in [
        (json!({ "userName": 1, "service": SERVICE }), "userName"),
        (json!({ "uid": -1, "service": SERVICE }), "uid"),
        (json!({ "uid": 4_294_967_296_u64, "service": SERVICE }), "uid"),
        (json!({ "uid": "0", "service": SERVICE }), "uid"),
        (json!({ "uid": 0, "service": [SERVICE] }), "service"),
    ] {
        let expected = json!({ "error": INVALID_PARAMETER, "parameters": { "parameter": wrong } });
        assert_eq!(ask(user, parameters), expected);
    }
    for method in ["io.systemd.UserDatabase.SetUserRecord", "GetUserRecord", "", "org.varlink.service.X"] {
        let expected = json!({ "error": METHOD_NOT_FOUND, "parameters": { "method": method } });
        assert_eq!(ask(method, json!({})), expected);
    }
    assert_eq!(
        ask("org.varlink.service.GetInfo", json!({}))["parameters"]["product"],
        json!("nightlatch-userdbd")
    );
}

#[test]
fn what_is_not_a_call_ends_the_connection() {
    let stage = stage(&people());
    let deep = format!("{{\"method\":\"x\",\"parameters\":{}1{}}}", "[".repeat(30_000), "]".repeat(30_000));
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "[\"org.varlink.service.GetInfo\"]",
        "{\"method\":1}",
        "{\"method\":\"x\"",
        "\u{1}",
        &deep,
    ] {
        assert!(stage.raw(text).is_err(), "{text:.80}");
    }
    let ignored = format!(
        "{{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{{\"x\":{}1{}}}}}",
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    assert_eq!(stage.raw(&ignored).unwrap().len(), 1, "what is passed over costs no stack");
    let oneway = json!({ "method": "io.systemd.UserDatabase.GetUserRecord", "oneway": true });
    assert_eq!(stage.raw(&oneway.to_string()).unwrap(), Vec::<Value>::new());
    let odd =
        json!({ "method": "org.varlink.service.GetInfo", "parameters": null, "more": null, "new": [1] });
    assert_eq!(stage.raw(&odd.to_string()).unwrap().len(), 1);
}

#[test]
fn a_full_snapshot_is_enumerated_whole() {
    let accounts: Vec<Value> = (0..u32::try_from(MAX_ACCOUNTS).unwrap())
        .map(|at| json!({ "name": format!("u{at}@contoso.com"), "uid": UID_LOW + at, "admin": true, "unlocked_until": 2_000_000 }))
        .collect();
    let stage = stage(&json!(accounts));
    assert_eq!(stage.ask("GetUserRecord", json!({}), true).len(), MAX_ACCOUNTS);
    assert_eq!(stage.ask("GetMemberships", json!({}), true).len(), MAX_ACCOUNTS);
    assert_eq!(stage.ask("GetMemberships", json!({ "userName": "u9999@contoso.com" }), true).len(), 1);
}
