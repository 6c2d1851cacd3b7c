#!/usr/bin/env python3
"""kubectl, unmodified, with an exec plugin against an API server that is only a TLS listener.

    kubectl_exec.py [--api-version v1|v1beta1] [--parallel N] [--kubeconfig FILE] [--refused TEXT] -- PLUGIN...

PLUGIN is the exec plugin's command with its arguments. With --kubeconfig a finished kubeconfig (such as one
that was converted) is used instead: its server and authority are replaced by the stub's. Each of N kubectl at
once asks for one document; the stub answers only to a bearer token, and remembers whose.
"""

import argparse
import base64
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import threading

import kit

PATH = "/api/v1/namespaces/default/configmaps/stub"


class Stub(http.server.ThreadingHTTPServer):
    """An API server that knows one document."""

    def __init__(self, folder):
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                good = scheme == "Bearer" and token.count(".") == 2
                if good:
                    seen.append(token)
                document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stub"}} if good else {
                    "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401}
                body = json.dumps(document).encode()
                self.send_response(200 if good else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        key, certificate = folder / "stub-key.pem", folder / "stub.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=stub",
                   "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.authority = base64.b64encode(certificate.read_bytes()).decode()
        self.address = f"https://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def kubeconfig(arguments, stub):
    """One that `convert-kubeconfig` could have written; JSON is YAML."""
    if arguments.kubeconfig:
        # kubectl itself reads and rewrites it, so that no YAML library is needed.
        command = [arguments.kubectl, "config", "view", "--raw", "--output", "json", "--kubeconfig", arguments.kubeconfig]
        config = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for cluster in config["clusters"]:
            cluster["cluster"] = {"server": stub.address, "certificate-authority-data": stub.authority}
        return config
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "stub",
        "clusters": [{"name": "stub", "cluster": {"server": stub.address, "certificate-authority-data": stub.authority}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
        "users": [{"name": "stub", "user": {"exec": {
            "apiVersion": f"client.authentication.k8s.io/{arguments.api_version}",
            "command": arguments.plugin[0], "args": arguments.plugin[1:],
            "interactiveMode": "Never", "provideClusterInfo": False}}}],
    }


def main():
    words = sys.argv[1:]
    plugin = words[words.index("--") + 1:] if "--" in words else []
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubectl", default=str(pathlib.Path(sys.executable).parent / "kubectl"))
    parser.add_argument("--api-version", choices=["v1", "v1beta1"], default="v1")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--kubeconfig")
    parser.add_argument("--refused")
    arguments = parser.parse_args(words[:words.index("--")] if "--" in words else words)
    arguments.plugin = plugin
    with tempfile.TemporaryDirectory(prefix="nightlatch-kubectl-") as name:
        folder = pathlib.Path(name)
        stub = Stub(folder)
        config = folder / "config"
        config.write_text(json.dumps(kubeconfig(arguments, stub)))
        environment = {"PATH": os.environ["PATH"], "HOME": name, "KUBECONFIG": str(config), "NO_PROXY": "*"}
        command = [arguments.kubectl, "get", "--raw", PATH, "--request-timeout=20s"]
        many = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for _ in range(arguments.parallel)]
        said = [one.communicate(timeout=60) for one in many]
        stub.shutdown()
    if arguments.refused is not None:
        for one, (_, words) in zip(many, said):
            kit.expect(one.returncode != 0 and arguments.refused in words, f"kubectl: {one.returncode} {words}")
        kit.expect(not stub.seen, "a token was sent although none was given")
        return {"kubectl": "refused"}
    for one, (body, words) in zip(many, said):
        kit.expect(one.returncode == 0, f"kubectl: {words}")
        kit.expect(json.loads(body)["metadata"]["name"] == "stub", body)
    kit.expect(len(stub.seen) == arguments.parallel, f"{len(stub.seen)} requests with a token")
    requests = [kit.claims(token) for token in stub.seen]
    # A signed request (proof of possession) holds the token, and names the cluster that it is for.
    tokens = [kit.claims(request["at"]) if "at" in request else request for request in requests]
    return {"u": requests[0].get("u"), "tokens": sorted({token["uti"] for token in tokens}), "aud": tokens[0]["aud"],
            "oid": tokens[0]["oid"], "requests": len(tokens)}


if __name__ == "__main__":
    kit.report(main)
