# Pid 1 of a node's outer namespaces: lays the node's root and becomes systemd-nspawn.
# Everything mounted here is seen here only. Arguments: id, folder, image, further system calls, what lies below the
# image: a root, or nothing
set -eu
id=$1
folder=$2
image=$3
more=$4
below=$5

# A login session of the person who runs the tests must not look like one of the node's.
echo 4294967295 2>/dev/null >/proc/self/loginuid || true

mount -t tmpfs -o mode=0755 tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root" "$folder/nothing"
tar -C "$folder/upper" --xattrs --xattrs-include='*' -xf "$image"
mount -t overlay overlay -o "lowerdir=${below:-$folder/nothing},upperdir=$folder/upper,workdir=$folder/work,xino=off" "$folder/root"
root=$folder/root

tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
echo "$id" >"$root/etc/hostname"
rm -f "$root/etc/nologin"

# What nspawn notes down about a machine is no business of the host's.
mount -t tmpfs -o mode=0755 tmpfs /run

# The node's own nspawn is used, with the node's own loader and libraries, so that the host needs
# neither systemd nor the same versions.
for name in /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.*; do
    [ -e "$name" ] && loader=$root$(chroot "$root" readlink -f "$name")
done
libraries=$(echo "$root"/usr/lib/*-linux-gnu/systemd "$root"/usr/lib/*-linux-gnu | tr ' ' ':')
exec "$loader" --library-path "$libraries" "$root/usr/bin/systemd-nspawn" --quiet \
    --directory="$root" --machine="$id" --private-network --register=no --keep-unit \
    ${more:+--system-call-filter="$more"} --console=pipe --resolv-conf=off --timezone=off --link-journal=no \
    --boot systemd.unit=multi-user.target
