#!/bin/sh
# Keeps one node: starts it, waits until its owner is gone, takes it down to the last trace.
# The owner holds the other end of this script's standard input; when the owner drops it, panics or
# is killed, the read below ends. Arguments: id, folder, image, root.sh, system calls that
# the node may make beyond the usual ones, what lies below the image (nothing, or a root)
set -u
trap '' INT TERM HUP QUIT
id=$1
folder=$2
image=$3
root_script=$4
more=$5
below=$6

# A control group of its own keeps two nodes' systemds from meeting in the host's group tree. The node
# dies with this script too, should somebody kill it (--pdeathsig).
groups=$(awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /name=systemd/) { print $2 }' /proc/self/mounts)
for group in $groups; do
    mkdir "$group/$id"
done

(
    trap - INT TERM HUP QUIT
    exec sh -c '
        id=$1; folder=$2; image=$3; root_script=$4; more=$5; below=$6; shift 6
        for group; do echo $$ >"$group/$id/cgroup.procs"; done
        exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child=KILL --mount-proc --propagation private \
            sh -c "$root_script" root.sh "$id" "$folder" "$image" "$more" "$below"
    ' start "$id" "$folder" "$image" "$root_script" "$more" "$below" $groups
) </dev/null &
node=$!
echo "$node" >"$folder/pid.new"
mv "$folder/pid.new" "$folder/pid"

while read -r _; do :; done

# Pid 1 of its outer namespace takes all the others along, and the mounts go with the last of them.
# unshare, its parent, is left to collect it: an orphan would wait as a zombie for the host's pid 1.
inner=$(cat "/proc/$node/task/$node/children" 2>/dev/null)
kill -KILL ${inner:-$node} 2>/dev/null
wait "$node"
for group in $groups; do
    tries=0
    while [ -d "$group/$id" ] && [ "$tries" -lt 500 ]; do
        find "$group/$id" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$group/$id" ] && sleep 0.01
        tries=$((tries + 1))
    done
done
rm -rf --one-file-system "$folder"
