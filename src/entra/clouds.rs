//! The clouds as data: which host signs in, which one manages, which one answers about roles.
//!
//! Names are those of `az cloud list`. A host is never taken from a token or from an answer of a
//! service (server-side request forgery); only from this table, and the region from the node.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest region name that is accepted, in bytes (`southeastasia2` and the like are far below).
const MAX_REGION_BYTES: usize = 40;

/// The name is not one of the clouds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "unknown cloud {0:?}: use a name that `az cloud list` prints: AzureCloud, AzureUSGovernment or AzureChinaCloud"
)]
pub struct CloudError(pub String);

/// The region cannot be part of a host name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a region: use the short name that `az account list-locations` prints, such as westeurope"
)]
pub struct RegionError(pub String);

/// One of the three Azure clouds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cloud {
    /// The public cloud.
    Public,
    /// Azure Government of the United States.
    UsGovernment,
    /// Azure in China, operated by 21Vianet.
    China,
}

/// The hosts of one cloud.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoints {
    /// Entra, without a slash at the end: `https://login.microsoftonline.com`.
    pub login: String,
    /// Azure Resource Manager; with `/` appended it is also the audience that its tokens are asked for.
    pub arm: String,
    /// Microsoft Graph.
    pub graph: String,
    /// The policy decision point of all regions: the audience of its tokens (exactly this text; managed
    /// identities refuse `/.default`), and with the region in front of the host its address.
    pub pdp_audience: String,
    /// The policy decision point of the node's region, when it is not `https://REGION.HOST` (tests).
    pub pdp: Option<String>,
}

impl Cloud {
    /// All clouds.
    pub const ALL: [Self; 3] = [Self::Public, Self::UsGovernment, Self::China];

    /// The name that `az cloud list` prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "AzureCloud",
            Self::UsGovernment => "AzureUSGovernment",
            Self::China => "AzureChinaCloud",
        }
    }

    /// The cloud that IMDS (`azEnvironment`) or `azure.json` (`cloud`) names: those two call the public
    /// cloud `AzurePublicCloud` and Azure Government `AzureUSGovernmentCloud`.
    ///
    /// # Errors
    /// [`CloudError`] for any other name: guessing a cloud would send a token to the wrong one.
    pub fn from_environment_name(name: &str) -> Result<Self, CloudError> {
        if name.eq_ignore_ascii_case("AzurePublicCloud") {
            Ok(Self::Public)
        } else if name.eq_ignore_ascii_case("AzureUSGovernmentCloud") {
            Ok(Self::UsGovernment)
        } else {
            name.parse()
        }
    }

    /// The scope of "Azure Linux VM Sign-In", whose authority signs SSH certificates (azure-cli-extensions, `src/ssh`).
    #[must_use]
    pub const fn ssh_scope(self) -> &'static str {
        match self {
            Self::Public => "https://pas.windows.net/CheckMyAccess/Linux/.default",
            Self::UsGovernment => "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default",
            Self::China => "https://pas.chinacloudapi.cn/CheckMyAccess/Linux/.default",
        }
    }

    /// The hosts.
    #[must_use]
    pub fn endpoints(self) -> Endpoints {
        let (login, arm, graph, pdp) = match self {
            Self::Public => (
                "https://login.microsoftonline.com",
                "https://management.azure.com",
                "https://graph.microsoft.com",
                "https://authorization.azure.net",
            ),
            Self::UsGovernment => (
                "https://login.microsoftonline.us",
                "https://management.usgovcloudapi.net",
                "https://graph.microsoft.us",
                "https://authorization.azure.us",
            ),
            Self::China => (
                "https://login.partner.microsoftonline.cn",
                "https://management.chinacloudapi.cn",
                "https://microsoftgraph.chinacloudapi.cn",
                "https://authorization.azure.cn",
            ),
        };
        Endpoints {
            login: login.to_owned(),
            arm: arm.to_owned(),
            graph: graph.to_owned(),
            pdp_audience: pdp.to_owned(),
            pdp: None,
        }
    }
}

impl Endpoints {
    /// The audience of ARM tokens.
    #[must_use]
    pub fn arm_audience(&self) -> String {
        format!("{}/", self.arm)
    }

    /// The address of the policy decision point in `region`, without a slash at the end.
    ///
    /// # Errors
    /// [`RegionError`] when the region is not lower-case letters and digits.
    pub fn pdp_in(&self, region: &str) -> Result<String, RegionError> {
        if let Some(fixed) = &self.pdp {
            return Ok(fixed.clone());
        }
        let plain = !region.is_empty()
            && region.len() <= MAX_REGION_BYTES
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !plain {
            return Err(RegionError(region.to_owned()));
        }
        let host = self.pdp_audience.strip_prefix("https://").unwrap_or_default();
        Ok(format!("https://{region}.{host}"))
    }
}

impl FromStr for Cloud {
    type Err = CloudError;

    fn from_str(name: &str) -> Result<Self, CloudError> {
        Self::ALL
            .into_iter()
            .find(|cloud| cloud.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| CloudError(name.to_owned()))
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_three_sources_are_read() {
        for cloud in Cloud::ALL {
            assert_eq!(cloud.name().parse(), Ok(cloud));
            assert_eq!(Cloud::from_environment_name(cloud.name()), Ok(cloud));
        }
        assert_eq!(Cloud::from_environment_name("AzurePublicCloud"), Ok(Cloud::Public));
        assert_eq!(Cloud::from_environment_name("AZUREUSGOVERNMENTCLOUD"), Ok(Cloud::UsGovernment));
        assert!(Cloud::from_environment_name("AzureGermanCloud").is_err());
        assert!("".parse::<Cloud>().is_err());
    }

    #[test]
    fn every_host_is_https_and_a_region_cannot_change_it() {
        for cloud in Cloud::ALL {
            let ends = cloud.endpoints();
            for host in [&ends.login, &ends.arm, &ends.graph, &ends.pdp_audience] {
                assert!(host.starts_with("https://") && !host.ends_with('/'), "{host}");
            }
        }
        let ends = Cloud::Public.endpoints();
        assert_eq!(ends.pdp_in("westeurope").unwrap(), "https://westeurope.authorization.azure.net");
        for region in ["", "a.b", "evil.example/", "WestEurope", "west europe", &"a".repeat(41)] {
            assert!(ends.pdp_in(region).is_err(), "{region}");
        }
    }
}
