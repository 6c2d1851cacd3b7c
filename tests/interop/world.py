"""The ids of the emulator's default world that the drivers use (tests/emulator/src/world.rs)."""

TENANT = "11111111-2222-3333-4444-555555555555"
AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
SSH_SCOPE = "https://pas.windows.net/CheckMyAccess/Linux/.default"

ALICE = ("alice@contoso.com", "a11ce000-0000-4000-8000-000000000001")
ADELE = ("adele@contoso.com", "ade1e000-0000-4000-8000-000000000002")
MIXED = ("Mixed.Case@contoso.com", "31c3d000-0000-4000-8000-000000000006")
BOB_MAIL = "bob@fabrikam.com"
BOB = (BOB_MAIL, "b0b00000-0000-4000-8000-000000000007")
CI_APP = "c1a00000-0000-4000-8000-00000000000c"
CI_SECRET = "ci-pipeline-secret"
CI = ("ci-pipeline", "c1000000-0000-4000-8000-00000000000c")

HOSTS = [
    "login.microsoftonline.com",
    "management.azure.com",
    "graph.microsoft.com",
    "westeurope.authorization.azure.net",
]
