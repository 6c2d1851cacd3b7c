#!/bin/sh
# Makes the node image: what a node has beside the host's own root, as one tar file.
# Runs in a mount namespace of its own (unshare -m), so that nothing it mounts outlives it and the
# host's root is only ever read. Arguments: scratch folder, result, packages...
set -eu
scratch=$1
result=$2
shift 2

mount -t tmpfs -o mode=0755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work,xino=off" "$scratch/root"
root=$scratch/root
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"

# Nothing may be started while packages are set up: there is no init in this root yet.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y --no-install-recommends install "$@"
chroot "$root" apt-get clean
rm -f "$root/usr/sbin/policy-rc.d"
rm -rf "$root"/var/lib/apt/lists/*

# A node starts what a node needs, not what this host happened to have enabled.
rm -rf "$root"/etc/systemd/system/*.wants/* "$root"/etc/systemd/user/*.wants/*
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
for unit in ssh cron; do
    ln -s "/lib/systemd/system/$unit.service" "$root/etc/systemd/system/multi-user.target.wants/$unit.service"
done
# The host's own sshd settings and people's jobs are not the node's.
rm -rf "$root"/etc/ssh/sshd_config.d/* "$root"/etc/cron.d/* "$root"/var/spool/cron/crontabs/* \
    "$root"/etc/sudoers.d/[!R]*
# Tests log in by the dozen at a time: do not drop connections early, and do not ban an address.
printf 'MaxStartups 200:30:400\n' >"$root/etc/ssh/sshd_config.d/10-world.conf"
chroot "$root" ssh-keygen -q -A
mkdir -p "$root/run/sshd"
if chroot "$root" sshd -T -o PerSourcePenalties=no >/dev/null 2>&1; then
    printf 'PerSourcePenalties no\n' >>"$root/etc/ssh/sshd_config.d/10-world.conf"
fi
chroot "$root" sshd -t
rm -f "$root/etc/machine-id" "$root/etc/hostname" "$root/var/lib/dbus/machine-id"

umount "$root/dev" "$root/proc" "$root/run" "$root/tmp" "$root"
tar -C "$scratch/upper" --xattrs --xattrs-include='*' -cf "$result" .
