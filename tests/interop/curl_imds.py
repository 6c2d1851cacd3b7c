#!/usr/bin/env python3
"""What an unmodified curl gets at imds.sock, question by question.

    curl_imds.py SOCKET [--resource URI] [--granted | --denied RULE]

With --granted the plain question must be answered with a token in the shape of IMDS; with --denied it must be
403 in the shapes of IMDS and of App Service, and name RULE. The questions that nobody may ask are refused to
both.
"""

import argparse
import json
import subprocess
import urllib.parse

import kit

PATH = "/metadata/identity/oauth2/token"
TEXTS = ["access_token", "client_id", "expires_in", "expires_on", "ext_expires_in", "not_before", "resource", "token_type"]


def curl(socket, target, *more, host="169.254.169.254"):
    """Status, headers and body."""
    command = ["curl", "--silent", "--show-error", "--include", "--max-time", "20", "--noproxy", "*"]
    command += ["--unix-socket", socket, *more, f"http://{host}{target}"]
    done = subprocess.run(command, capture_output=True, text=True)
    kit.expect(done.returncode == 0, f"curl {target}: {done.stderr}")
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    lines = head.split("\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def granted(socket, resource):
    """The token in each spelling of the question that some client uses."""
    query = f"api-version=2018-02-01&resource={urllib.parse.quote(resource, safe='')}"
    seen = {}
    for name, target, more in [
        ("plain", f"{PATH}?{query}", ["-H", "Metadata: true"]),
        ("slash", f"{PATH}/?{query}", ["-H", "Metadata: true"]),
        ("capitals", f"/Metadata/Identity/OAuth2/Token?{query}", ["-H", "metadata: True"]),
        ("scope", f"{PATH}?{query}%2F.default", ["-H", "Metadata: true"]),
        ("post", PATH, ["-H", "Metadata: true", "--data", query]),
    ]:
        status, headers, body = curl(socket, target, *more, host="localhost")
        kit.expect(status == 200, f"{name}: {status} {body}")
        kit.expect(headers.get("content-length") == str(len(body)), f"{name}: {headers}")
        kit.expect(headers.get("content-type", "").startswith("application/json"), f"{name}: {headers}")
        answer = json.loads(body)
        kit.expect(all(isinstance(answer.get(text), str) for text in TEXTS), f"{name}: texts are {sorted(answer)}")
        kit.expect(answer["token_type"] == "Bearer", name)
        seen[name] = kit.shown(answer["access_token"], answer["expires_on"])
    return seen


def denied(socket, resource, rule):
    query = f"api-version=2018-02-01&resource={urllib.parse.quote(resource, safe='')}"
    status, _, body = curl(socket, f"{PATH}?{query}", "-H", "Metadata: true", host="localhost")
    kit.expect(status == 403, f"{status} {body}")
    answer = json.loads(body)
    for name in ["error", "error_description", "message"]:
        kit.expect(isinstance(answer.get(name), str) and answer[name], f"{name} in {body}")
    kit.expect(answer.get("statusCode") in (403, "403"), body)
    kit.expect("access_token" not in answer, body)
    for name in ["error_description", "message"]:
        kit.expect(rule in answer[name], f"{name} does not name the rule {rule!r}: {body}")
    return answer


def never(socket, resource):
    """Questions that are wrong whoever asks."""
    quoted = urllib.parse.quote(resource, safe="")
    query = f"api-version=2018-02-01&resource={quoted}"
    metadata = ["-H", "Metadata: true"]
    seen = {}
    for name, target, more, host, wanted in [
        ("no header", f"{PATH}?{query}", [], "localhost", [400]),
        ("forwarded", f"{PATH}?{query}", [*metadata, "-H", "X-Forwarded-For: 10.0.0.1"], "localhost", [400]),
        ("foreign host", f"{PATH}?{query}", metadata, "attacker.example", [400]),
        ("no version", f"{PATH}?resource={quoted}", metadata, "localhost", [400]),
        ("no resource", f"{PATH}?api-version=2018-02-01", metadata, "localhost", [400]),
        ("two resources", f"{PATH}?{query}&resource=https%3A%2F%2Fgraph.microsoft.com", metadata, "localhost", [400]),
        # CVE-2022-23551: one character that two parsers read as two things.
        ("backslash", f"{PATH}?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net%5C.default", metadata, "localhost", [400]),
        ("dots", f"{PATH}?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net%2F..%2Fx", metadata, "localhost", [400]),
        ("user part", f"{PATH}?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net%40evil.example", metadata, "localhost", [400]),
        ("instance", "/metadata/instance?api-version=2021-02-01", metadata, "localhost", [404]),
        ("user data", "/metadata/instance/compute/userData?api-version=2021-01-01", metadata, "localhost", [404]),
        ("attested", "/metadata/attested/document?api-version=2020-09-01", metadata, "localhost", [404]),
        ("path trick", f"/metadata/identity%5Coauth2/token?{query}", metadata, "localhost", [400, 404]),
        ("delete", f"{PATH}?{query}", [*metadata, "-X", "DELETE"], "localhost", [400, 405]),
    ]:
        status, headers, body = curl(socket, target, *more, host=host)
        kit.expect(status in wanted, f"{name}: {status} {body}")
        kit.expect("access_token" not in body and "location" not in headers, f"{name}: {body}")
        seen[name] = status
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    parser.add_argument("--resource", default="https://vault.azure.net")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--granted", action="store_true")
    which.add_argument("--denied", metavar="RULE")
    arguments = parser.parse_args()
    seen = {"never": never(arguments.socket, arguments.resource)}
    if arguments.granted:
        seen["granted"] = granted(arguments.socket, arguments.resource)
    else:
        seen["denied"] = denied(arguments.socket, arguments.resource, arguments.denied)
    return seen


if __name__ == "__main__":
    kit.report(main)
