#!/usr/bin/env python3
"""Tokens by the unmodified azure-identity and msal packages, from whatever endpoint the environment names.

    identity_clients.py --resource URI [--client-id ID | --object-id ID | --resource-id ID]
                        [--expect-client ID] [--refused TEXT]

App Service: IDENTITY_ENDPOINT and IDENTITY_HEADER. IMDS: AZURE_POD_IDENTITY_AUTHORITY_HOST. With --refused
each client must fail, and what it shows its user must hold TEXT.
"""

import argparse
import asyncio
import os

import kit


def azure_identity(arguments):
    """ManagedIdentityCredential and DefaultAzureCredential, both ways of calling."""
    import azure.core.exceptions
    import azure.identity
    import azure.identity.aio

    scope = arguments.resource.rstrip("/") + "/.default" if not arguments.exact else arguments.resource + "/.default"
    words = selector(arguments)
    raw = selector(arguments)
    if arguments.resource_id:
        # This half of the package passes the name on as it stands: the endpoint's own must be given.
        name = "mi_res_id" if "IDENTITY_ENDPOINT" in os.environ else "msi_res_id"
        raw = {"identity_config": {name: arguments.resource_id}}
    # A developer's own sign-ins are not what is tried here.
    default = {"require_envvar": False}
    if arguments.client_id:
        default["managed_identity_client_id"] = arguments.client_id

    async def later(credential):
        async with credential:
            return await credential.get_token(scope)

    tries = {
        "ManagedIdentityCredential": lambda: azure.identity.ManagedIdentityCredential(**words).get_token(scope),
        "aio.ManagedIdentityCredential": lambda: asyncio.run(later(azure.identity.aio.ManagedIdentityCredential(**raw))),
    }
    if not arguments.object_id and not arguments.resource_id:
        os.environ["AZURE_TOKEN_CREDENTIALS"] = "ManagedIdentityCredential"
        tries["DefaultAzureCredential"] = lambda: azure.identity.DefaultAzureCredential(**default).get_token(scope)
        tries["aio.DefaultAzureCredential"] = lambda: asyncio.run(
            later(azure.identity.aio.DefaultAzureCredential(**default)))
    seen = {}
    for name, get in tries.items():
        try:
            token = get()
        except azure.core.exceptions.ClientAuthenticationError as why:
            kit.expect(arguments.refused is not None, f"{name}: {why}")
            kit.expect(arguments.refused in str(why), f"{name} says nothing of {arguments.refused!r}: {why}")
            seen[name] = "refused"
            continue
        kit.expect(arguments.refused is None, f"{name} got a token")
        seen[name] = kit.shown(token.token, token.expires_on)
    return seen


def selector(arguments):
    if arguments.client_id:
        return {"client_id": arguments.client_id}
    if arguments.object_id:
        return {"identity_config": {"object_id": arguments.object_id}}
    if arguments.resource_id:
        return {"identity_config": {"resource_id": arguments.resource_id}}
    return {}


def msal_client(arguments):
    """msal's own managed identity client."""
    import time

    import msal
    import requests

    if arguments.client_id:
        identity = msal.UserAssignedManagedIdentity(client_id=arguments.client_id)
    elif arguments.object_id:
        identity = msal.UserAssignedManagedIdentity(object_id=arguments.object_id)
    elif arguments.resource_id:
        identity = msal.UserAssignedManagedIdentity(resource_id=arguments.resource_id)
    else:
        identity = msal.SystemAssignedManagedIdentity()
    client = msal.ManagedIdentityClient(identity, http_client=requests.Session())
    answer = client.acquire_token_for_client(resource=arguments.resource)
    if arguments.refused is not None:
        kit.expect(arguments.refused in str(answer), f"msal says nothing of {arguments.refused!r}: {answer}")
        return "refused"
    kit.expect("access_token" in answer, f"msal: {answer}")
    first = kit.shown(answer["access_token"], time.time() + answer["expires_in"])
    again = client.acquire_token_for_client(resource=arguments.resource)
    kit.expect(again.get("token_source") == "cache", f"msal does not keep the token: {again.get('token_source')}")
    return first


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resource", default="https://vault.azure.net")
    parser.add_argument("--exact", action="store_true", help="keep a slash at the end of the resource")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--client-id")
    which.add_argument("--object-id")
    which.add_argument("--resource-id")
    parser.add_argument("--expect-client")
    parser.add_argument("--refused")
    arguments = parser.parse_args()
    seen = azure_identity(arguments)
    seen["msal.ManagedIdentityClient"] = msal_client(arguments)
    for name, token in seen.items():
        if arguments.expect_client and arguments.refused is None:
            kit.expect(token["client_id"] == arguments.expect_client, f"{name}: {token}")
    if arguments.refused is None:
        stamps = {token["uti"] for token in seen.values()}
        return {"clients": seen, "tokens": len(stamps)}
    return {"clients": seen}


if __name__ == "__main__":
    kit.report(main)
