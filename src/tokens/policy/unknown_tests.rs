//! What is not known of a caller: it fits no rule that permits, and rules out none that denies.

use super::decide_tests::{VAULT, caller, default, policy};
use crate::{Caller, Door, Place};

/// By another door less is known of the same program, and what is denied to it stays denied.
#[test]
fn what_is_not_known_of_a_caller_lifts_no_denial() {
    let may = "may = { resource = [\"https://vault.azure.net\"] }";
    let permits = may.replace(" }", ", identity = [\"node\"] }");
    let with = |who: &str| {
        policy(&format!(
            "[[rule]]\nname = \"not\"\neffect = \"deny\"\nwho = {{ {who} }}\n{may}\n\
             [[rule]]\nname = \"all\"\neffect = \"permit\"\nwho = {{ uid = [7] }}\n{permits}\n"
        ))
    };
    let mut loopback = caller(7);
    (loopback.gid, loopback.groups) = (None, Vec::new());
    (loopback.door, loopback.place, loopback.process) = (Door::Loopback, Place::Unknown, None);
    let lost = Caller { place: Place::Unknown, process: None, ..caller(7) };
    for (who, by_loopback, by_socket) in [
        ("gid = [4242]", "not: not_allowed", "all/node"),
        ("unit = [\"evil.service\"]", "not: not_allowed", "not: not_allowed"),
        ("slice = [\"evil.slice\"]", "not: not_allowed", "not: not_allowed"),
        ("pod = [\"*\"]", "not: not_allowed", "not: not_allowed"),
        ("anyone = true, place = \"container\"", "not: not_allowed", "not: not_allowed"),
        ("uid = [8]", "all/node", "all/node"),
    ] {
        let policy = with(who);
        assert_eq!(default(&policy, &caller(7), VAULT), "all/node", "{who}");
        assert_eq!(default(&policy, &loopback, VAULT), by_loopback, "{who} on loopback");
        assert_eq!(default(&policy, &lost, VAULT), by_socket, "{who} on a socket");
    }
    // The header tells the unit.
    loopback.header_unit = Some("good.service".into());
    assert_eq!(default(&with("unit = [\"evil.service\"]"), &loopback, VAULT), "all/node");
}
