#!/bin/sh
# PID 1 of the lab: mounts the file systems that an agent needs, loads KVM, runs the script, prints the verdict.
# ttyS0 is the kernel's console, ttyS1 has the script's stdout, ttyS2 its stderr.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin 2>/dev/null
# ttyS0 and ttyS2 share an interrupt line, so only the kernel may have ttyS0 open.
exec </dev/null >/dev/kmsg 2>&1

# The token is removed before the script starts, so that the script can't print a verdict.
token=$(cat /lab/token)
rm /lab/token

# A record in the kernel's log is never mixed with other messages on the console.
finish() {
    echo "<2>vmexit-lab $token $*" >/dev/kmsg
    sync
    poweroff -f
}

# mount_at TYPE DIRECTORY
mount_at() {
    mkdir -p "$2"
    mount -t "$1" "$1" "$2" || finish broken "mount $2"
}
mount_at proc /proc
mount_at sysfs /sys
mount_at devpts /dev/pts
mount_at tmpfs /dev/shm
mount_at debugfs /sys/kernel/debug
mount_at tracefs /sys/kernel/tracing
# Not mounted, so that files of the caller in them stay visible. The root is in memory anyway.
mkdir -p /run /tmp /root
chmod 1777 /tmp
hostname lab
ip link set lo up || finish broken "ip link set lo up"

vendor=kvm-amd
if grep -q '^flags.* vmx' /proc/cpuinfo; then vendor=kvm-intel; fi
for module in irqbypass kvm $vendor; do
    insmod "/lab/modules/$module.ko" || finish broken "insmod $module.ko"
done

# Pipes, so that no program writes to a terminal; raw, so that no byte is changed. The speed matters to some
# emulators, and a port is drained before cat ends.
mkfifo /lab/stdout /lab/stderr
{ stty 115200 raw -echo <&1; exec cat /lab/stdout; } >/dev/ttyS1 &
stdout=$!
{ stty 115200 raw -echo <&1; exec cat /lab/stderr; } >/dev/ttyS2 &
stderr=$!

# The script has a session of its own. Init, its children and the kernel's threads are in session 0, so the
# processes that the script leaves behind have another one: in /proc/PID/stat, "PID (name) state parent group
# session".
cd /root
setsid sh /lab/script >/lab/stdout 2>/lab/stderr
code=$?
left_behind() {
    sed -n 's/^\([0-9]*\) (.*) [^XZ] [0-9]* [0-9]* [1-9][0-9]* .*/\1/p' /proc/[0-9]*/stat
}
while left=$(left_behind) && [ -n "$left" ]; do
    kill -9 $left
done
wait $stdout $stderr
finish exit $code
