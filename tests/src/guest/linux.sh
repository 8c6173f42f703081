#!/bin/busybox sh
# Init of a nested Linux guest: runs each line that comes in on its first serial port, and says how it
# ended.

/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
# Whole lines, and what is sent is not in what is said.
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
# Ready for the first.
echo "-- 0 done"
while read -r line; do
    eval "$line"
    echo "-- $? done"
done
