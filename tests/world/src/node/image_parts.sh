# What all images have in common. Reads $root, the node's root; $layer, what of it becomes the image; and $result.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Gives packages what they need to be set up, and forbids them to start anything: there is no init in this root yet.
furnish() {
    mkdir -p "$root/dev" "$root/proc" "$root/run" "$root/tmp"
    mount --bind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/run"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 0755 "$root/usr/sbin/policy-rc.d"
}

# Makes the root one of a node's, and the image of it.
finish() {
    rm -f "$root/usr/sbin/policy-rc.d"
    rm -rf "$root"/var/lib/apt/lists/*

    # A node starts what a node needs, not what this host happened to have enabled.
    rm -rf "$root"/etc/systemd/system/*.wants/* "$root"/etc/systemd/user/*.wants/*
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    for unit in ssh cron; do
        ln -s "/lib/systemd/system/$unit.service" "$root/etc/systemd/system/multi-user.target.wants/$unit.service"
    done
    # systemd takes no note of mounts for a second after too many of them, and would wait for this one.
    ln -sf /dev/null "$root/etc/systemd/system/var-lib-machines.mount"
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

    umount "$root/dev" "$root/proc" "$root/run" "$root/tmp"
    [ "$layer" = "$root" ] || umount "$root"
    tar -C "$layer" --xattrs --xattrs-include='*' -cf "$result" .
}
