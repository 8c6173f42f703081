#!/bin/sh
# PID 1 of the lab: mounts what an agent needs, loads KVM, runs the script, says how it ended.
# The kernel's console has ttyS0; the script's stdout leaves by ttyS1, its stderr by ttyS2.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin 2>/dev/null
# ttyS0 and ttyS2 share an interrupt line, so nothing may hold ttyS0 open beside the kernel.
exec </dev/null >/dev/kmsg 2>&1

# The script must not be able to speak for its lab, so the token is gone before it starts.
token=$(cat /lab/token)
rm /lab/token

# A record in the kernel's log reaches the console whole, whatever the kernel says meanwhile.
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
# The root is in memory already, and files that the caller put here stay in sight.
mkdir -p /run /tmp /root
chmod 1777 /tmp
hostname lab
ip link set lo up || finish broken "ip link set lo up"

vendor=kvm-amd
if grep -q '^flags.* vmx' /proc/cpuinfo; then vendor=kvm-intel; fi
for module in irqbypass kvm $vendor; do
    insmod "/lab/modules/$module.ko" || finish broken "insmod $module.ko"
done

# Pipes, so that no program takes its output for a terminal; raw, so that no byte is changed. An
# emulator may take the speed at its word, and a port is drained before cat ends.
mkfifo /lab/stdout /lab/stderr
{ stty 115200 raw -echo <&1; exec cat /lab/stdout; } >/dev/ttyS1 &
stdout=$!
{ stty 115200 raw -echo <&1; exec cat /lab/stderr; } >/dev/ttyS2 &
stderr=$!

# Init, its children and the kernel's threads are in session 0; the script is not, so that all it
# leaves behind can be told from them: in /proc/PID/stat, "PID (name) state parent group session".
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
