//! `vmexit top` on AMD exits, in the lab: what is on the screen is what a capture beside it counts, and what
//! the guest did.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::time::Duration;

use vmexit_tests::{
    guest::{BareGuest, Direction, address},
    lab::Vendor,
    scenario::{self, Printed, start, wait_attached},
    tmux::{self, figure},
};

const ROUNDS: u64 = 60;

#[test]
fn all_that_a_guest_did_is_on_the_screen() {
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    let lab = scenario::lab(Vendor::Amd, &guest).unwrap().tmux().timeout(Duration::from_secs(240));
    let script = start("shown")
        + &wait_attached()
        + tmux::functions()
        + &format!(
            r#"
terminal 120 30 "vmexit top --vm $pid -i 500ms"
wait_screen 'shown (pid'
vmexit capture -q -d 10m -f json -o /tmp/report.json &
agent=$!
wait_attached $agent
# Since the baseline, as numbers.
press c %
echo cont >&3
wait_dots {ROUNDS}
sleep 3
kill -INT $agent
wait $agent
for tab in 1 2 4 5; do
    press $tab g
    sleep 2
    echo "== tab $tab"; screen
done
press Enter
sleep 2
echo "== row"; screen
press q
sleep 1
echo "== shell"; mux has-session 2> /dev/null || echo ended
echo "== missed"; missed
echo "== report"; cat /tmp/report.json
"#
        );
    let printed = Printed::by(&lab, &script).unwrap_or_else(|error| panic!("{error:#}"));
    let report = printed.report().unwrap();
    let expected = guest.expected(ROUNDS).with_missed_hlts(printed.number("missed").unwrap());

    let reasons = printed.section("tab 1").unwrap();
    println!("{reasons}\n\n{}", printed.section("row").unwrap());
    for (reason, exits) in
        [("io", expected.io()), ("cpuid", expected.cpuid), ("msr", expected.msr())]
    {
        // Behind the rate.
        let name = format!(" {reason} ");
        assert_eq!(figure(reasons, &name, 1), Some(exits), "{reason} in:\n{reasons}");
        assert_eq!(report.exits_for("shown", reason).unwrap(), exits);
    }
    let ports = printed.section("tab 2").unwrap();
    for (&(port, direction), accesses) in &expected.ports {
        let name = format!("{port:#x} {}", if direction == Direction::In { "IN" } else { "OUT" });
        // Behind device and rate.
        assert_eq!(figure(ports, &name, 2), Some(accesses.exits), "{name} in:\n{ports}");
        let row = report.port("shown", port, direction).unwrap().unwrap();
        assert_eq!(row.samples().unwrap(), accesses.exits);
    }
    let msrs = printed.section("tab 4").unwrap();
    let eoi = expected.msr_writes[&address::X2APIC_EOI];
    assert_eq!(figure(msrs, "0x80b write", 2), Some(eoi), "{msrs}");
    let row = printed.section("row").unwrap();
    assert!(row.contains(&format!("{} exits", expected.cpuid)), "{row}");
    for shown in ["shown › 0x0 max leaf, CPU vendor", "p99.9 ", "first seen "] {
        assert!(row.contains(shown), "no '{shown}' in:\n{row}");
    }
    assert_eq!(printed.section("shell").unwrap(), "ended");
}
