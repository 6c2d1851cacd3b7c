#!/usr/bin/env python3
"""Azure CLI against the managed identity endpoint that the environment names.

    az_cli.py --config DIR --tenant ID --subscription ID [--resource URI] [--client-id ID]
              [--login] [--refused TEXT]

Without --login the profile is seeded as `az login --identity` would have left it; with --login that command
runs itself (it needs an ARM that answers /subscriptions). Afterwards no token may lie below DIR.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import kit


def az(arguments, *words):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": arguments.config,
        "AZURE_CONFIG_DIR": arguments.config,
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_CORE_NO_COLOR": "yes",
        "PYTHONDONTWRITEBYTECODE": "1",
        # A guard: whatever is not of this node fails at once.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost,169.254.169.254,management.azure.com,login.microsoftonline.com",
    }
    passed = ["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "REQUESTS_CA_BUNDLE"]
    environment.update({name: os.environ[name] for name in passed if name in os.environ})
    command = [sys.executable, "-m", "azure.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def seed(arguments):
    """The profile of a machine on which `az login --identity` ran."""
    assigned = f"MSIClient-{arguments.client_id}" if arguments.client_id else "MSI"
    name = "userAssignedIdentity" if arguments.client_id else "systemAssignedIdentity"
    subscription = {
        "id": arguments.subscription, "name": "Contoso", "state": "Enabled", "isDefault": True,
        "tenantId": arguments.tenant, "environmentName": "AzureCloud", "homeTenantId": arguments.tenant,
        "managedByTenants": [],
        "user": {"name": name, "type": "servicePrincipal", "assignedIdentityInfo": assigned},
    }
    folder = pathlib.Path(arguments.config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "azureProfile.json").write_text(json.dumps({"installationId": "0", "subscriptions": [subscription]}))


def no_token_below(folder, token):
    """A JWT has three parts; the middle one would give this very token away."""
    middle = token.split(".")[1].encode()
    held = [str(file) for file in pathlib.Path(folder).rglob("*") if file.is_file() and middle in file.read_bytes()]
    kit.expect(not held, f"a token lies in {held}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--subscription", required=True)
    parser.add_argument("--resource", default="https://vault.azure.net")
    parser.add_argument("--client-id")
    parser.add_argument("--login", action="store_true")
    parser.add_argument("--refused")
    arguments = parser.parse_args()
    if arguments.login:
        words = ["--client-id", arguments.client_id] if arguments.client_id else []
        done = az(arguments, "login", "--identity", "--output", "json", *words)
        if arguments.refused is not None:
            kit.expect(done.returncode != 0 and arguments.refused in done.stderr, f"az login: {done}")
            return {"az login": "refused"}
        kit.expect(done.returncode == 0, f"az login: {done.stderr}")
        (account,) = json.loads(done.stdout)
        kit.expect(account["id"] == arguments.subscription, f"az login: {account}")
    else:
        seed(arguments)
    start = time.monotonic()
    done = az(arguments, "account", "get-access-token", "--resource", arguments.resource, "--output", "json")
    seconds = round(time.monotonic() - start, 1)
    if arguments.refused is not None:
        kit.expect(done.returncode != 0 and arguments.refused in done.stderr, f"az: {done}")
        return {"az": "refused", "seconds": seconds}
    kit.expect(done.returncode == 0, f"az: {done.stderr}")
    answer = json.loads(done.stdout)
    no_token_below(arguments.config, answer["accessToken"])
    seen = kit.shown(answer["accessToken"], answer["expires_on"])
    return {"az": seen, "seconds": seconds, "login": arguments.login}


if __name__ == "__main__":
    kit.report(main)
