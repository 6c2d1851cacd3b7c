#!/bin/sh
# Makes the image of a node of another Debian release than the host's, with the host's own apt: a whole root.
# Runs in a mount namespace of its own (unshare -m). Arguments: scratch folder, result, release, packages... With
# `-backports` behind the release OpenSSH is the newest that was made for it.
set -eu
scratch=$1
result=$2
suite=${3%-backports}
backports=${3#"$suite"}
shift 3

mount -t tmpfs -o mode=0755 tmpfs "$scratch"
root=$scratch/root
layer=$root
apt=$scratch/apt
mkdir -p "$root" "$apt/lists/partial" "$apt/debs/partial" "$apt/empty"
: >"$apt/status"

# The host's own mirrors and keys, with the other release's name in place of the host's.
. /etc/os-release
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [ -s "$file" ] || continue
    sed -E "/^[[:space:]]*(Suites:|deb )/s/\b$VERSION_CODENAME\b/$suite/g" "$file" >"$apt/${file##*/}"
    list=$apt/${file##*/}
done
if [ -n "$backports" ]; then
    sed -E -i -e "/^Suites:/s/$suite-updates/& $suite-backports/" \
        -e "s/^(deb .*) $suite-updates (.*)/&\n\1 $suite-backports \2/" "$list"
    for name in server client sftp-server; do
        set -- "$@" "openssh-$name/$suite-backports"
    done
fi
# The host's settings (proxies, how old a list may be) stay in force: this only adds to them.
cat >"$apt/apt.conf" <<END
Dir::State "$apt/";
Dir::State::status "$apt/status";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/";
Dir::Cache::archives "$apt/debs";
Dir::Etc::sourcelist "$list";
Dir::Etc::sourceparts "$apt/empty";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt/empty";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Default-Release "";
DPkg::Pre-Install-Pkgs { };
END
apt() { APT_CONFIG=$apt/apt.conf apt-get -q -o APT::Update::Post-Invoke-Success::=true "$@"; }
apt update
apt -y --download-only install '?essential' "$@"

# Unpacked first without dpkg, so that there is a shell and a dpkg to set them up with.
for name in bin sbin lib lib64; do
    mkdir -p "$root/usr/$name"
    ln -s "usr/$name" "$root/$name"
done
for deb in "$apt"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -C "$root" --keep-directory-symlink -xpf -
done
: >>"$root/var/lib/dpkg/status"
: >>"$root/var/lib/dpkg/available"
printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$root/etc/dpkg/dpkg.cfg.d/world"
echo force-unsafe-io >>"$root/etc/dpkg/dpkg.cfg.d/world"
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
furnish
mkdir "$root/debs"
mount --bind "$apt/debs" "$root/debs"
# All at once and in no order: what is set up before what it asks for fails, and is asked again.
chroot "$root" sh -c 'dpkg --force-depends --install /debs/*.deb || dpkg --configure --pending; dpkg --audit && apt-get check'
umount "$root/debs"
rmdir "$root/debs"
rm -f "$root"/var/cache/apt/*.bin "$root"/var/log/*.log "$root"/var/cache/debconf/*-old
finish
