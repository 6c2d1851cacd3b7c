#!/usr/bin/env python3
"""Get SSH certificates from the emulator with the unmodified msal package, the way Azure CLI does.

    msal_ssh_cert.py OUTDIR [--emulator BIN] [--flow NAME]...          (as root: own namespaces)
    msal_ssh_cert.py OUTDIR --here --state DIR --control-socket PATH   (where an emulator already answers)

Without --here it makes a mount and a network namespace of its own, binds an /etc/hosts over the machine's
there, starts the emulator on 127.0.0.1:443 and runs every flow. It writes OUTDIR/FLOW/id_rsa{,.pub} and
OUTDIR/FLOW/id_rsa.pub-aadcert.pub, checks them with `ssh-keygen -L`, and leaves OUTDIR/summary.json.
Exit status 0 means that every flow asked for gave a certificate with the right contents.
"""

import argparse
import base64
import hashlib
import html.parser
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

import kit
import world

HERE = pathlib.Path(__file__).resolve()
ROOT = HERE.parents[2]
FLOWS = ["refresh", "interactive", "code", "device", "secret", "assertion", "guest", "mixed-case"]


def venv_python():
    """The interpreter of the virtual environment with msal in it."""
    return kit.environment("sdk") / "bin" / "python"


def enter_namespaces(arguments):
    """Run this script again inside `unshare -mn`; the machine's own files stay as they are."""
    emulator = pathlib.Path(arguments.emulator).resolve()
    if not emulator.exists():
        sys.exit(f"no emulator at {emulator}: cargo build -p nightlatch-emulator, or --emulator BIN")
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "-mn", "--propagation", "private", *as_root]
    command += [venv_python(), HERE, arguments.outdir, "--inside", "--emulator", emulator]
    for flow in arguments.flow or FLOWS:
        command += ["--flow", flow]
    return subprocess.run(command).returncode


def set_stage(scratch):
    """Loopback up, and Microsoft's names on it, in this mount namespace only."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = scratch / "hosts"
    names = " ".join(world.HOSTS)
    hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {names}\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)


def start_emulator(binary, scratch):
    """Start the emulator and wait for its `ready` line."""
    state, control = scratch / "state", scratch / "control.sock"
    command = [binary, "--state", state, "--https", "127.0.0.1:443", "--control-socket", control]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout.readline().strip() != "ready":
        sys.exit("the emulator did not become ready")
    return process, state, control


class Control:
    """The control API over its unix socket."""

    def __init__(self, path):
        self.path = str(path)

    def __call__(self, method, route, body=None):
        import http.client

        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(30)
        connection.sock.connect(self.path)
        text = None if body is None else json.dumps(body)
        connection.request(method, route, text, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{method} {route}: {reply.status} {answer}")
        return answer

    def token_calls(self):
        paths = self("GET", "/control/counters")["entra"]["paths"]
        return sum(count for path, count in paths.items() if path.endswith("/oauth2/v2.0/token"))


def request_data(public_key_file):
    """The three extra fields: numbers as the raw mpints of the key file, base64url with padding kept."""
    blob = base64.b64decode(public_key_file.read_text().split()[1])
    fields = []
    while blob:
        (length,) = struct.unpack(">I", blob[:4])
        fields.append(blob[4:4 + length])
        blob = blob[4 + length:]
    e, n = (base64.urlsafe_b64encode(number).decode() for number in fields[1:3])
    assert n.endswith("=") and len(n) % 4 == 0, "a key file's modulus carries its sign byte"
    key_id = hashlib.sha256((n + e).encode()).hexdigest()
    jwk = {"kty": "RSA", "n": n, "e": e, "kid": key_id}
    return {"token_type": "ssh-cert", "req_cnf": json.dumps(jwk), "key_id": key_id}


def new_key(directory):
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    key = directory / "id_rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "", "-f", key], check=True)
    return directory / "id_rsa.pub"


def public_app():
    import msal

    authority = f"https://login.microsoftonline.com/{world.TENANT}"
    return msal.PublicClientApplication(world.AZURE_CLI, authority=authority, client_capabilities=["CP1"])


def by_refresh(control, user, data):
    """Sign in with a refresh token once, then ask silently as Azure CLI does."""
    app = public_app()
    token = control("POST", f"/control/users/{urllib.parse.quote(user)}/refresh-token")["refresh_token"]
    signed_in = app.acquire_token_by_refresh_token(token, scopes=["https://management.azure.com//.default"])
    assert "access_token" in signed_in, signed_in
    (account,) = app.get_accounts()
    result = app.acquire_token_silent_with_error([world.SSH_SCOPE], account, data=data)
    before = control.token_calls()
    again = app.acquire_token_silent_with_error([world.SSH_SCOPE], account, data=data)
    assert again["access_token"] == result["access_token"], "msal keeps certificates by key_id"
    assert control.token_calls() == before, "a kept certificate costs no call"
    return result


def by_browser(control, user, data):
    """msal's own interactive sign-in; the browser is this script, in the background."""
    os.environ["BROWSER"] = f"{sys.executable} {HERE} --browser %s &"
    return public_app().acquire_token_interactive(
        [world.SSH_SCOPE], data=data, login_hint=user, timeout=60, prompt="select_account")


def by_code(control, user, data):
    """Authorization code and PKCE by hand, response_mode=form_post."""
    app = public_app()
    flow = app.initiate_auth_code_flow(
        [world.SSH_SCOPE], redirect_uri="http://localhost:1/", login_hint=user, response_mode="form_post")
    answer = form_of(fetch(flow["auth_uri"]))[1]
    return app.acquire_token_by_auth_code_flow(flow, answer, data=data)


def by_device(control, user, data):
    control("PUT", "/control/entra", {"interactive_user": user})
    app = public_app()
    flow = app.initiate_device_flow([world.SSH_SCOPE])
    before = control.token_calls()
    result = app.acquire_token_by_device_flow(flow, data=data)
    assert control.token_calls() - before >= 2, "the first poll is answered authorization_pending"
    return result


def by_client(control, data, credential):
    import msal

    authority = f"https://login.microsoftonline.com/{world.TENANT}"
    app = msal.ConfidentialClientApplication(world.CI_APP, client_credential=credential, authority=authority)
    return app.acquire_token_for_client([world.SSH_SCOPE], data=data)


def by_secret(control, user, data):
    return by_client(control, data, world.CI_SECRET)


def by_assertion(control, user, data):
    """A certificate registered with the application signs the assertion."""
    key, certificate = self_signed()
    control("PUT", f"/control/apps/{world.CI_APP}", {"certificates": [certificate]})
    return by_client(control, data, {"private_key": key, "public_certificate": certificate})


def self_signed():
    with tempfile.TemporaryDirectory() as name:
        key, certificate = pathlib.Path(name) / "key.pem", pathlib.Path(name) / "cert.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ci"]
        subprocess.run(command + ["-keyout", key, "-out", certificate], check=True, capture_output=True)
        return key.read_text(), certificate.read_text()


def fetch(address):
    with urllib.request.urlopen(address, timeout=30, context=tls()) as reply:
        return reply.read().decode()


def tls():
    import ssl

    return ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])


def form_of(page):
    """The form of a form_post page: where it goes and what it says."""
    found = {"action": "", "fields": {}}

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            attributes = dict(attributes)
            if tag == "form":
                found["action"] = attributes["action"]
            elif tag == "input":
                found["fields"][attributes["name"]] = attributes["value"]

    Reader().feed(page)
    return found["action"], found["fields"]


def be_browser(address):
    """What a browser does with the sign-in page: post the form to the redirect address."""
    action, fields = form_of(fetch(address))
    urllib.request.urlopen(action, urllib.parse.urlencode(fields).encode(), timeout=30).read()


def check(public_key_file, result, principal, oid):
    """Write the file exactly as Azure CLI's ssh extension does, and read it back with ssh-keygen."""
    assert result.get("token_type") == "ssh-cert", result
    file = public_key_file.with_name(public_key_file.name + "-aadcert.pub")
    file.write_text("ssh-rsa-cert-v01@openssh.com " + result["access_token"])
    shown = subprocess.run(["ssh-keygen", "-L", "-f", file], check=True, capture_output=True, text=True).stdout
    lines = [line.strip() for line in shown.splitlines()]
    names = lines[lines.index("Principals:") + 1:lines.index("Critical Options: (none)")]
    assert names == [principal], shown
    signed_by = [line for line in lines if line.startswith("Signing CA: RSA") and "rsa-sha2-256" in line]
    assert signed_by, shown
    wanted = ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding"]
    assert all(name in lines for name in wanted), shown
    plain = subprocess.run(["ssh-keygen", "-l", "-f", public_key_file], check=True, capture_output=True, text=True)
    assert plain.stdout.split()[1] in shown, "the certificate is for our key"
    assert oid.encode() in base64.b64decode(result["access_token"])
    assert 3500 <= int(result["expires_in"]) <= 3600
    return {"file": str(file), "login_name": names[0].lower(), "principal": names[0], "oid": oid}


STEPS = {
    "refresh": (by_refresh, world.ALICE, world.ALICE[0]),
    "interactive": (by_browser, world.ADELE, world.ADELE[0]),
    "code": (by_code, world.ALICE, world.ALICE[0]),
    "device": (by_device, world.ALICE, world.ALICE[0]),
    "secret": (by_secret, world.CI, world.CI[1]),
    "assertion": (by_assertion, world.CI, world.CI[1]),
    "guest": (by_refresh, world.BOB, world.BOB_MAIL),
    "mixed-case": (by_refresh, world.MIXED, world.MIXED[0]),
}


def run_flows(arguments, state, control_socket):
    os.environ["REQUESTS_CA_BUNDLE"] = str(pathlib.Path(state) / "tls-ca.pem")
    control, summary = Control(control_socket), {}
    for flow in arguments.flow or FLOWS:
        step, (user, oid), principal = STEPS[flow]
        public_key_file = new_key(pathlib.Path(arguments.outdir) / flow)
        result = step(control, user, request_data(public_key_file))
        summary[flow] = check(public_key_file, result, principal, oid)
        print(f"{flow}: {summary[flow]['login_name']}", flush=True)
    text = json.dumps(summary, indent=2)
    (pathlib.Path(arguments.outdir) / "summary.json").write_text(text + "\n")


def run_inside(arguments):
    with tempfile.TemporaryDirectory(prefix="nightlatch-interop-") as name:
        scratch = pathlib.Path(name)
        set_stage(scratch)
        process, state, control = start_emulator(arguments.emulator, scratch)
        try:
            run_flows(arguments, state, control)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)
            subprocess.run(["umount", "/etc/hosts"], check=False)


def main():
    if sys.argv[1:2] == ["--browser"]:
        return be_browser(sys.argv[2])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir")
    parser.add_argument("--emulator", default=ROOT / "target" / "debug" / "nightlatch-emulator")
    parser.add_argument("--flow", action="append", choices=FLOWS)
    parser.add_argument("--here", action="store_true", help="an emulator already answers to Microsoft's names here")
    parser.add_argument("--state", help="its state directory (with --here)")
    parser.add_argument("--control-socket", help="its control socket (with --here)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.outdir = str(pathlib.Path(arguments.outdir).resolve())
    pathlib.Path(arguments.outdir).mkdir(parents=True, exist_ok=True)
    if arguments.inside:
        return run_inside(arguments)
    if arguments.here:
        if not pathlib.Path(sys.prefix).samefile(kit.environment("sdk")):
            return subprocess.run([venv_python(), HERE, *sys.argv[1:]]).returncode
        return run_flows(arguments, arguments.state, arguments.control_socket)
    return enter_namespaces(arguments)


if __name__ == "__main__":
    sys.exit(main())
