//! A real Prometheus scrapes a real `vmexit serve`. Its counts are those of the guest, and promtool accepts the shipped
//! files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs::{self, File},
    time::Duration,
};

use tempfile::TempDir;
use vmexit_tests::{
    guest::{BareGuest, Qemu},
    packages::packaging,
    prometheus::{Prometheus, program, promtool},
    served::{self, MetricSample, Served},
};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn prometheus_rules_pass_promtool() {
    let rules = |name: &str| packaging("prometheus").join(name).display().to_string();
    promtool(&["check", "rules", &rules("vmexit.rules.yml")]).unwrap();
    promtool(&["test", "rules", &rules("vmexit.rules.test.yml")]).unwrap();
}

#[test]
fn prometheus_counts_match_guest_and_down_alert_fires() {
    const ROUNDS: u64 = 40;
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let mut running = Qemu::native("scraped").paused().start(&guest).unwrap();
    drop(running.qmp().unwrap());
    let served = Served::start(&["-i", "200ms"]).unwrap();
    let prometheus = Prometheus::start(&[served.address]).unwrap();
    prometheus
        .wait("up{job=\"vmexit\"}", |up| up.first().is_some_and(|(_, value)| *value > 0.0))
        .unwrap();
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();

    let expected = guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts());
    let query = "vmexit_accesses_total{vm=\"scraped\",event=\"ioport\",number!=\"other\"}";
    let is_exact = |series: &[MetricSample]| {
        served::ports(series, "scraped") == served.expected_ports(&expected).unwrap()
    };
    prometheus.wait(query, is_exact).unwrap();

    let directory = TempDir::new().unwrap();
    let metrics = directory.path().join("metrics");
    fs::write(&metrics, served.get("/metrics").unwrap()).unwrap();
    let lint = program("promtool")
        .unwrap()
        .args(["check", "metrics"])
        .stdin(File::open(&metrics).unwrap())
        .output();
    let lint = lint.unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stderr));

    // The agent no longer answers.
    assert_eq!(served.end().unwrap(), Some(0));
    let down = "ALERTS{alertname=\"VmexitDown\",alertstate=\"firing\"}";
    prometheus
        .wait(down, |alerts| alerts.iter().any(|(labels, _)| labels["job"] == "vmexit"))
        .unwrap();
}
