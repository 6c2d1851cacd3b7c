//! The default world `contoso`: every id a test may name, as constants. The state itself is made in the
//! seed from these. Ids are invented and tell their kind by their digits.

/// Tenant (directory) id, unless `--tenant` says otherwise.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// Subscription of every resource below.
pub const SUBSCRIPTION: &str = "22222222-0000-0000-0000-000000000001";
/// Management group above [`SUBSCRIPTION`].
pub const MANAGEMENT_GROUP: &str = "/providers/Microsoft.Management/managementGroups/contoso-root";
/// Region of every resource below.
pub const REGION: &str = "westeurope";

/// The default node: an AKS scale-set instance.
pub const NODE: &str = "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/MC_rg-shop_shop_westeurope/providers/Microsoft.Compute/virtualMachineScaleSets/aks-pool1-12345678-vmss/virtualMachines/0";
/// Name of [`NODE`] as IMDS gives it.
pub const NODE_NAME: &str = "aks-pool1-12345678-vmss_0";
/// Scale set of [`NODE`].
pub const NODE_SCALE_SET: &str = "aks-pool1-12345678-vmss";
/// Resource group of [`NODE`].
pub const NODE_RESOURCE_GROUP: &str = "MC_rg-shop_shop_westeurope";
/// The managed cluster [`NODE`] belongs to.
pub const CLUSTER: &str = "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/rg-shop/providers/Microsoft.ContainerService/managedClusters/shop";
/// A plain virtual machine.
pub const VM: &str = "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/rg-vms/providers/Microsoft.Compute/virtualMachines/vm1";
/// An Arc-enabled server.
pub const ARC_MACHINE: &str = "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/rg-arc/providers/Microsoft.HybridCompute/machines/arc1";
/// An Arc-connected cluster.
pub const ARC_CLUSTER: &str = "/subscriptions/22222222-0000-0000-0000-000000000001/resourceGroups/rg-arc/providers/Microsoft.Kubernetes/connectedClusters/edge";

/// A person or service principal of the default world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// User principal name as the directory spells it; for a service principal its display name.
    pub upn: &'static str,
    /// Directory object id.
    pub oid: &'static str,
}

/// `Virtual Machine User Login` on the node's resource group.
pub const ALICE: Person = Person { upn: "alice@contoso.com", oid: "a11ce000-0000-4000-8000-000000000001" };
/// `Virtual Machine Administrator Login` on the subscription.
pub const ADELE: Person = Person { upn: "adele@contoso.com", oid: "ade1e000-0000-4000-8000-000000000002" };
/// No role anywhere.
pub const NORMAN: Person = Person { upn: "norman@contoso.com", oid: "40a3a000-0000-4000-8000-000000000003" };
/// User role, and a deny assignment that takes it away.
pub const DORA: Person = Person { upn: "dora@contoso.com", oid: "d04a0000-0000-4000-8000-000000000004" };
/// A PIM activation of the administrator role that ended a day ago.
pub const PETRA: Person = Person { upn: "petra@contoso.com", oid: "9e74a000-0000-4000-8000-000000000005" };
/// User role; the directory spells the name with capitals.
pub const MIXED_CASE: Person =
    Person { upn: "Mixed.Case@contoso.com", oid: "31c3d000-0000-4000-8000-000000000006" };
/// A guest with the user role; the certificate names the e-mail address.
pub const BOB: Person = Person {
    upn: "bob_fabrikam.com#EXT#@contoso.onmicrosoft.com",
    oid: "b0b00000-0000-4000-8000-000000000007",
};
/// The e-mail address of [`BOB`], which is the principal of the guest's certificate.
pub const BOB_MAIL: &str = "bob@fabrikam.com";
/// `Owner` on the subscription, which is no data action: no login.
pub const OLGA: Person = Person { upn: "olga@contoso.com", oid: "01ca0000-0000-4000-8000-000000000008" };
/// User role through a group nested in a group.
pub const GRACE: Person = Person { upn: "grace@contoso.com", oid: "94ace000-0000-4000-8000-000000000009" };
/// User role on [`CLUSTER`] only, not on the node or its resource group.
pub const CLARA: Person = Person { upn: "clara@contoso.com", oid: "c1a4a000-0000-4000-8000-00000000000a" };
/// A conditional assignment of the user role whose condition does not hold.
pub const CONRAD: Person = Person { upn: "conrad@contoso.com", oid: "c0d4ad00-0000-4000-8000-00000000000b" };
/// A service principal with the user role; [`CI_PIPELINE_APP`] is its application id.
pub const CI_PIPELINE: Person = Person { upn: "ci-pipeline", oid: "c1000000-0000-4000-8000-00000000000c" };
/// Application (client) id of [`CI_PIPELINE`].
pub const CI_PIPELINE_APP: &str = "c1a00000-0000-4000-8000-00000000000c";
/// Client secret of [`CI_PIPELINE`].
pub const CI_PIPELINE_SECRET: &str = "ci-pipeline-secret";

/// Kubelet identity of [`NODE`] (user assigned): client id.
pub const KUBELET_CLIENT: &str = "1de40000-0000-4000-8000-000000000001";
/// Kubelet identity of [`NODE`]: object id.
pub const KUBELET_OID: &str = "1de40000-0000-4000-8000-000000000002";
/// A second user-assigned identity (an add-on's), not attached until a test attaches it: client id.
pub const ADDON_CLIENT: &str = "1de40000-0000-4000-8000-000000000003";
/// The add-on's identity: object id.
pub const ADDON_OID: &str = "1de40000-0000-4000-8000-000000000004";
/// Identity of [`ARC_MACHINE`], served by himds: client id.
pub const ARC_CLIENT: &str = "1de40000-0000-4000-8000-000000000005";
/// Identity of [`ARC_MACHINE`]: object id.
pub const ARC_OID: &str = "1de40000-0000-4000-8000-000000000006";
/// A registered confidential application for node daemons: client id.
pub const NODE_APP: &str = "4a990000-0000-4000-8000-000000000001";
/// Object id of the service principal of [`NODE_APP`].
pub const NODE_APP_OID: &str = "4a990000-0000-4000-8000-000000000002";
/// Client secret of [`NODE_APP`].
pub const NODE_APP_SECRET: &str = "node-app-secret";
/// An application of our own with v2 tokens, a public client: client id.
pub const OWN_APP: &str = "0a990000-0000-4000-8000-000000000001";

/// The group that holds the user role on the node's resource group.
pub const GROUP_OUTER: &str = "94000000-0000-4000-8000-000000000001";
/// A group inside [`GROUP_OUTER`]; [`GRACE`] is its member.
pub const GROUP_INNER: &str = "94000000-0000-4000-8000-000000000002";

/// Azure CLI, a public client of Microsoft's family.
pub const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
/// `Virtual Machine User Login`.
pub const ROLE_USER_LOGIN: &str = "fb879df8-f326-4884-b1cf-06f3ad86be52";
/// `Virtual Machine Administrator Login`.
pub const ROLE_ADMIN_LOGIN: &str = "1c0163c0-47e6-4577-8991-ea5c82e286e4";
/// `Virtual Machine Local User Login`, which grants no Entra login.
pub const ROLE_LOCAL_USER_LOGIN: &str = "602da2ba-a5c2-41da-b01d-5360126ab525";
/// `Owner`.
pub const ROLE_OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
/// `Reader`.
pub const ROLE_READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
/// `Connected Cluster Managed Identity CheckAccess Reader`: `Microsoft.Authorization/*/read`.
pub const ROLE_CHECK_ACCESS_READER: &str = "65a14201-8f6c-4c28-bec4-12619c5a9aaa";
