#!/bin/busybox sh
# Init of a nested Linux guest. It runs each line from the first serial port, and prints the line's status
# when it ends.

/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
# Whole lines, without an echo of the input.
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
# Ready for the first line.
echo "-- 0 done"
while read -r line; do
    eval "$line"
    echo "-- $? done"
done
