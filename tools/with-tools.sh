#!/bin/sh
# Runs a command with the programs that building and testing need. What is missing is installed from
# the distribution's packages for the time of the command and removed again: the host stays as it was.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need cc gcc
need ssh-keygen openssh-client
need ssh openssh-client
need nsenter util-linux
need ip iproute2
need python3 python3
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"

if [ -z "$missing" ]; then
    exec "$@"
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing; install them, or run as root on Debian or Ubuntu" >&2
    exit 1
fi

installed() { dpkg-query -W -f '${Package}\n' | sort; }
before=$(mktemp)
after=$(mktemp)
policy=/usr/sbin/policy-rc.d
forbade=no
restore() {
    status=$?
    trap - EXIT INT TERM
    installed >"$after"
    new=$(comm -13 "$before" "$after" | tr '\n' ' ')
    if [ -n "$new" ]; then
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq $new >/dev/null || echo "could not remove: $new" >&2
    fi
    if [ "$forbade" = yes ]; then rm -f "$policy"; fi
    rm -f "$before" "$after"
    exit "$status"
}
installed >"$before"
trap restore EXIT INT TERM
# Nothing that is installed here may start a service on the host.
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
    forbade=yes
fi
echo "installing for the time of this command:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
"$@"
