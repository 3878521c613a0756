#!/bin/sh
# First process of the node, in mount, network, PID, UTS and IPC namespaces of its own: everything that it
# mounts, starts and configures ends with it. Arguments: the node's file tree, its name.
set -eu
cd "$1"
mount --bind . .
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys # of this network namespace; the machine's shows other interfaces
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
pivot_root . mnt
umount -l /mnt
mount --make-rshared / # pods' volumes propagate
hostname "$2"
ip link set lo up
exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RAG_LAB_STATE="$1" runsvdir -P /etc/lab/services
