#!/bin/sh
# Memory of the two installed programs while they wait for a daemon that never answers.
#
# usage (as root): measure.sh DIR RIG
#   DIR  holds the static authorized-keys and pam:
#          cargo rustc --profile hook -p nightlatch-hook --bin authorized-keys --target-dir target/static \
#            -- -C target-feature=+crt-static          (the same with --bin pam; DIR is target/static/hook)
#   RIG  the test program hook-rig (cargo build -p nightlatch-hook --bin hook-rig)
#
# Prints the highest resident size (VmHWM) of each, in KiB, as the kernel counts it for the process itself;
# ru_maxrss would show that of its parent. The limit for authorized-keys is 1.2 MiB: exit 1 above it. /run
# is replaced in a mount namespace of our own: the host's is not touched.
set -eu
LIMIT_KIB=1228

if [ "${1-}" != --inside ]; then
    [ $# -eq 2 ] || { echo "usage: measure.sh DIR RIG" >&2; exit 2; }
    exec unshare --mount -- sh "$0" --inside "$(realpath "$1")" "$(realpath "$2")"
fi
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/nightlatch /run/programs
install -m 755 "$2/authorized-keys" "$2/pam" "$3" /run/programs/
mkfifo /run/hold /run/ready
exec 3<>/run/hold
rig=/run/programs/$(basename "$3")
for socket in hook account; do
    "$rig" mute "/run/nightlatch/$socket.sock" </run/hold >/run/ready &
    pids="${pids-} $!"
    read -r word </run/ready
    [ "$word" = ready ]
done
trap 'kill $pids; wait' EXIT
key=$(head -c 3000 /dev/zero | tr '\0' A)

# Reads VmHWM of process $1 while it is the program $2, until it is gone (its own timer ends
# authorized-keys) or $3 times. Before its exec it is a shell, whose memory is not asked for.
highest() {
    kib=0 looks=0
    while [ "$looks" -lt "$3" ] && status=$(cat "/proc/$1/status" 2>/dev/null); do
        now=$(printf '%s\n' "$status" | awk -v name="$2" '/^Name/ { ours = $2 == name } /^VmHWM/ && ours { print $2 }')
        [ "${now:-0}" -gt "$kib" ] && kib=$now
        [ "$kib" -gt 0 ] && [ -z "$now" ] && break
        looks=$((looks + 1))
    done
    echo "$kib"
}

setpriv --reuid=65534 --regid=65534 --clear-groups \
    /run/programs/authorized-keys ann@contoso.com 1900000000 ssh-rsa "$key" &
hook=$(highest $! authorized-keys 100000)
PAM_TYPE=account PAM_USER=ann@contoso.com PAM_SERVICE=sshd /run/programs/pam >/dev/null &
pam_pid=$!
pam=$(highest $pam_pid pam 200)
kill "$pam_pid"
echo "authorized-keys VmHWM ${hook} KiB (limit ${LIMIT_KIB}), pam VmHWM ${pam} KiB"
[ "$hook" -gt 0 ] && [ "$pam" -gt 0 ] && [ "$hook" -le "$LIMIT_KIB" ]
