//! Scripted misbehaviour, per service: slow, failing, talking rubbish, endless, silent, hanging up.
//! A fault may be limited to a number of calls or to paths that contain a text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The services a fault or a counter names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    Entra,
    Pdp,
    Arm,
    Graph,
    Imds,
    Himds,
}

impl Service {
    /// Every service.
    pub(crate) const ALL: [Self; 6] =
        [Self::Entra, Self::Pdp, Self::Arm, Self::Graph, Self::Imds, Self::Himds];

    /// The lower-case name of the control API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::Pdp => "pdp",
            Self::Arm => "arm",
            Self::Graph => "graph",
            Self::Imds => "imds",
            Self::Himds => "himds",
        }
    }

    /// The service of a control API name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The right answer, late.
    Slow {
        /// Delay in milliseconds.
        ms: u64,
    },
    /// Another status, with `Retry-After` seconds and a body if given.
    Status {
        status: u16,
        #[serde(default)]
        retry_after: Option<u64>,
        #[serde(default)]
        body: Option<String>,
    },
    /// 200 and JSON by name, not by content.
    Garbage,
    /// 200 and a JSON text that goes on for `mib` MiB.
    Huge {
        #[serde(default = "huge_mib")]
        mib: u64,
    },
    /// The request is read and never answered.
    Blackhole,
    /// The connection is closed without an answer.
    Close,
}

fn huge_mib() -> u64 {
    256
}

/// A fault and how far it reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    #[serde(flatten)]
    pub(crate) fault: Fault,
    /// Calls it still strikes; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<u64>,
    /// Strikes only paths (with query) that contain this, without case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
}

/// The plans in force.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Faults(pub(crate) BTreeMap<Service, Plan>);

impl Faults {
    /// What strikes this call; counts it down.
    pub(crate) fn strike(&mut self, service: Service, path: &str) -> Fault {
        let Some(plan) = self.0.get_mut(&service) else {
            return Fault::None;
        };
        let reaches = plan
            .path
            .as_deref()
            .is_none_or(|part| path.to_ascii_lowercase().contains(&part.to_ascii_lowercase()));
        match plan.times.as_mut() {
            _ if !reaches => Fault::None,
            Some(0) => Fault::None,
            Some(left) => {
                *left -= 1;
                plan.fault.clone()
            }
            None => plan.fault.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_limited_by_count_and_path() {
        let mut faults = Faults::default();
        let plan: Plan = serde_json::from_str(
            r#"{"kind":"status","status":503,"retry_after":7,"times":1,"path":"/Token"}"#,
        )
        .unwrap();
        faults.0.insert(Service::Entra, plan);
        assert_eq!(faults.strike(Service::Pdp, "/token"), Fault::None);
        assert_eq!(faults.strike(Service::Entra, "/keys"), Fault::None);
        let hit = Fault::Status { status: 503, retry_after: Some(7), body: None };
        assert_eq!(faults.strike(Service::Entra, "/x/token"), hit);
        assert_eq!(faults.strike(Service::Entra, "/x/token"), Fault::None);
    }
}
