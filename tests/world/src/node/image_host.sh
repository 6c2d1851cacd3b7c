#!/bin/sh
# Makes the image of a node of the host's own release: what the node has beside the host's root.
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
layer=$scratch/upper
furnish

chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y --no-install-recommends install "$@"
chroot "$root" apt-get clean
finish
