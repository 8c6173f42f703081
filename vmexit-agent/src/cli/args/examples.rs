//! What `--help` says after the options.

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done, also when ctrl-c ended it early
  1  something unexpected failed
  2  wrong usage
  3  not permitted
  4  this host can't be traced: no KVM, no tracefs, a tracepoint or kernel feature missing
  5  no VM is running
  6  no such VM
  7  the report can't be written
  8  a file can't be read: not there, no recording, damaged, of a newer version";

pub(super) const CAPTURE_EXAMPLES: &str = "\
Examples:
  vmexit capture                          all VMs, 10 seconds
  vmexit capture --vm win10 -d 1m         one VM, one minute
  vmexit capture --by vcpu --top 5        each vCPU, five rows a table
  vmexit capture --event vmexit,msr       exits and registers only: cheaper
  vmexit capture -o before.vmexit         a recording, for vmexit report and diff
  vmexit capture --format json -o x.json  for a program to read";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  vmexit completions bash > /etc/bash_completion.d/vmexit
  vmexit completions zsh > /usr/local/share/zsh/site-functions/_vmexit
  vmexit completions fish > ~/.config/fish/completions/vmexit.fish";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  vmexit explain                            all VMs, after 10 seconds
  vmexit explain --vm win10 -d 1m           one VM, one minute
  vmexit explain before.vmexit              what was recorded, on any machine
  vmexit explain --format json | jq '.vms[] | {name, findings}'

What vmexit looks for, from when on it says so, and where its advice comes from: docs/findings.md.";

pub(super) const REPORT_EXAMPLES: &str = "\
Examples:
  vmexit report before.vmexit                        all of it
  vmexit report before.vmexit --vm win10 --by vcpu   one VM, and each of its vCPUs
  vmexit report before.vmexit --event ioport         exits by reason and ports
  vmexit report before.vmexit --format html -o x.html  one page, to be read and sent
  vmexit report before.vmexit --format csv -o x.csv  for a spreadsheet: docs/csv.md
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15 --format recording -o night.vmexit

A recording has no command lines, no guest memory and no data that guests wrote: names of the host and
its VMs, counts and times.";

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  vmexit top                        all VMs, each second
  vmexit top --vm win10             one VM, opened at once
  vmexit top --event vmexit -i 5s   exit reasons only, every five seconds: cheaper
  vmexit top --batch -n 3 --top 5   three reports as text, five rows a table
  vmexit top --replay /var/lib/vmexit --since 03:10   what was recorded, each interval for a second";

pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  vmexit diff before.vmexit after.vmexit                 all VMs that are in both
  vmexit diff before.vmexit after.vmexit --vm win10      one VM
  vmexit diff before.vmexit after.vmexit --event ioport  exits by reason and ports
  vmexit diff before.vmexit after.vmexit --format json   for a program to read: docs/json.md

A VM is the same in both if its name is, else its UUID, else its process id. Rates are compared, so the
two may be of different lengths. What differs by less than three standard errors, or by less than a
tenth, is noise.";

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  perf kvm stat record -a -o perf.data sleep 10
  perf script --header -F +pid --ns --show-lost-events -i perf.data > perf.txt
  vmexit import perf perf.txt                          tables
  vmexit import perf perf.txt -o before.vmexit         a recording, for vmexit report and diff
  perf script -i perf.data | vmexit import perf -      without a file

-F +pid tells VMs apart, --ns has times to the nanosecond, --header says which host it was, and
--show-lost-events what perf missed. kvm_exit, kvm_entry, kvm_pio, kvm_mmio and kvm_msr are read; the
last of these older perfs do not record.";

pub(super) const RECORD_EXAMPLES: &str = "\
Examples:
  vmexit record /var/lib/vmexit                            the last 24 hours, each 10 seconds
  vmexit record /var/lib/vmexit --every 1m --keep 30days   a month, each minute
  vmexit report /var/lib/vmexit --since 03:10 --until 03:15
  vmexit explain /var/lib/vmexit --since 2h                what of the last two hours is worth a change
  vmexit diff /var/lib/vmexit --before 02:00..03:00 --after 03:00..04:00
  vmexit top --replay /var/lib/vmexit --since 03:10

Whatever ends it, even SIGKILL, what was recorded until then is kept, but for the last interval. What can't
be written, for the disk is full, say, becomes one interval with the next. SIGHUP begins a new file.";

pub(super) const SERVE_EXAMPLES: &str = "\
Examples:
  vmexit serve                                on 127.0.0.1:9762, each 10 seconds
  vmexit serve --listen [::]:9762 -i 30s      for other hosts too
  vmexit serve --record /var/lib/vmexit       for vmexit report and top --replay too
  vmexit serve --timing 1/16                  counts stay exact, times are estimates: cheaper
  curl -s http://127.0.0.1:9762/metrics       what there is: docs/metrics.md

/ is a page with the last interval, /healthz says whether the counters are being read.";

pub(super) const TRACE_EXAMPLES: &str = "\
Examples:
  vmexit trace                                exits of a millisecond and more, until ctrl-c
  vmexit trace --vm win10 --slower-than 20us  one VM, and shorter ones too
  vmexit trace --waiting -d 10s -n 100        with HLT; ten seconds or 100 exits
  vmexit trace --format json | jq -c 'select(.vcpu == 0)'";

pub(super) const VMS_EXAMPLES: &str = "\
Examples:
  vmexit vms                                   a table, by name
  vmexit vms --format json | jq '.vms[].pid'   for a program to read

Every process that holds a KVM VM is listed, whichever VMM it is.";
