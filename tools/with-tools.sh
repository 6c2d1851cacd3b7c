#!/bin/sh
# Runs a command with the programs that building and testing need. What is missing is installed from
# the distribution's packages for the time of the command and removed again: the host stays as it was.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
# A compiler alone links nothing: it wants the C library's start files, for static programs its archive too.
links() { echo 'int main(void) { return 0; }' | cc -x c -static -o /dev/null - 2>/dev/null; }
need cc gcc
links || missing="$missing libc6-dev"
if ! command -v ssh >/dev/null 2>&1 || ! command -v ssh-keygen >/dev/null 2>&1; then
    missing="$missing openssh-client"
fi
need nsenter util-linux
need ip iproute2
need python3 python3
need openssl openssl
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"

if [ -z "$missing" ]; then
    exec "$@"
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing; install them, or run as root on Debian or Ubuntu" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
state=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
forbade=no
# Packages in a state: `ii` is installed, `rc` was removed once and has left its settings behind.
packages() { dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' | sed -n "s/^$1 *//p" | sort; }
versions() { dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package} ${Version}\n' | sed -n 's/^ii *//p' | sort; }
away() {
    how=$1
    shift
    [ $# -eq 0 ] || apt-get "$how" -y -qq "$@" >/dev/null || echo "could not remove: $*" >&2
}
restore() {
    status=$?
    # Neither a second Ctrl-C nor a terminal that goes away may leave the removal half done.
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    packages ii >"$state/after"
    comm -13 "$state/before" "$state/after" >"$state/new"
    # Settings that were there before stay.
    # shellcheck disable=SC2046
    away purge $(comm -23 "$state/new" "$state/settings")
    # shellcheck disable=SC2046
    away remove $(comm -12 "$state/new" "$state/settings")
    # What a library's headers need of the library itself may have moved it on; there is no way back.
    moved=$(versions | comm -13 "$state/versions" - | tr '\n' ',')
    [ -z "$moved" ] || echo "upgraded, and left so: ${moved%,}" >&2
    if [ "$forbade" = yes ]; then rm -f "$policy"; fi
    rm -rf "$state"
    exit "$status"
}
packages ii >"$state/before"
packages rc >"$state/settings"
versions >"$state/versions"
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
# Nothing that is installed here may start a service on the host.
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
    forbade=yes
fi
echo "installing for the time of this command:$missing" >&2
# Nothing of the host's is removed to make room, nor upgraded only because it has a source in common with
# what is installed; no downloaded archive is kept.
install() {
    # shellcheck disable=SC2086
    apt-get -o APT::Keep-Downloaded-Packages=false -o APT::Get::Upgrade-By-Source-Package=false \
        install -y -qq --no-install-recommends --no-remove $missing
}
install >/dev/null 2>&1 || {
    apt-get update -qq
    install >/dev/null
}
"$@"
