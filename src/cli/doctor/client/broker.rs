//! Whether the broker can be reached, and whether it is the node's own.

use std::time::Duration;

use super::{Finding, fail, ok, warn};
use crate::broker::v1::{WhoAmIReply, WhoAmIRequest};
use crate::cli::token::show::caller_line;
use crate::cli::token::{BrokerError, with_broker};

/// How long the broker may take to say whom it sees.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the broker whom it sees.
pub(super) fn ask() -> Result<WhoAmIReply, BrokerError> {
    with_broker(|mut broker| async move {
        let asked = broker.who_am_i(WhoAmIRequest {});
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(reply) => Ok(reply?.into_inner()),
            Err(_) => Err(BrokerError::Unreachable(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    })
}

/// What that means.
pub(super) fn finding(asked: Result<WhoAmIReply, BrokerError>) -> Finding {
    const CHECK: &str = "broker.socket";
    match asked {
        Ok(caller) if caller.rules.is_empty() => warn(
            CHECK,
            format!("the broker answers and is root's; it sees {}, whom no rule names", caller_line(&caller)),
            "an administrator grants tokens in /etc/nightlatch/broker.d; `nightlatch token explain` tells why not",
        ),
        Ok(caller) => ok(
            CHECK,
            format!(
                "the broker answers and is root's; it sees {}; rules that name you: {}",
                caller_line(&caller),
                caller.rules.join(", ")
            ),
        ),
        Err(cause @ BrokerError::Impostor(_)) => fail(
            CHECK,
            cause.to_string(),
            "ask an administrator who owns /run/nightlatch and what runs there",
        ),
        Err(cause @ BrokerError::Unreachable(_)) => fail(
            CHECK,
            cause.to_string(),
            "in a container mount the folder /run/nightlatch; on the node start nightlatchd",
        ),
        Err(cause) => warn(CHECK, cause.to_string(), "`nightlatch whoami` asks the same again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::doctor::State;

    #[test]
    fn the_broker_is_reached_posed_as_or_missing() {
        let caller = WhoAmIReply {
            uid: 1000,
            place: "host".into(),
            unit: "app.service".into(),
            ..WhoAmIReply::default()
        };
        let nobody = finding(Ok(caller.clone()));
        assert_eq!(nobody.state, State::Warn);
        assert!(nobody.seen.contains("unit app.service") && nobody.remedy.contains("broker.d"), "{nobody:?}");
        let named = finding(Ok(WhoAmIReply { rules: vec!["app".into()], ..caller }));
        assert!(named.state == State::Ok && named.seen.ends_with("rules that name you: app"), "{named:?}");
        let posed = finding(Err(BrokerError::Impostor("it was bound by uid 1000".into())));
        assert!(posed.state == State::Fail && posed.seen.contains("uid 1000"), "{posed:?}");
        let missing = finding(Err(BrokerError::Unreachable("No such file or directory".into())));
        assert!(missing.state == State::Fail && missing.remedy.contains("mount the folder"), "{missing:?}");
    }
}
