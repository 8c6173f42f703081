//! The Grafana dashboard. A real Prometheus answers the queries of each panel, with metrics of a guest on this machine,
//! and of a recording with timed exits that is repeated endlessly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    thread,
    time::Instant,
};

use serde_json::Value;
use vmexit_core::{finding, report::Scope, store::file};
use vmexit_tests::{
    guest::{BareGuest, Qemu},
    packages::packaging,
    prometheus::Prometheus,
    served::Served,
};
use vmexit_view::metrics::{AgentUsage, Totals, expose};

/// Values of the dashboard's variables.
const VARIABLES: &[(&str, &str)] = &[
    ("${datasource}", "prometheus"),
    ("$__rate_interval", "5s"),
    ("$__range", "1m"),
    ("$instance", ".*"),
    ("$vm", ".*"),
];

/// Panels that have no data in this test, and why.
const EMPTY: &[(&str, &str)] = &[("On `other`", "no guest here has more than 24 of a kind")];

/// Address of a server with the metrics of an agent whose guest repeats a recording with each request.
fn replayed() -> SocketAddr {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("vmexit-agent")
        .join("tests/fixtures/recording/1-demo.vmexit");
    let recording = file::read(fs::read(path).unwrap().as_slice()).unwrap();
    let report = finding::report(&recording, Scope::default());
    let guests = recording.all_vms();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut totals = Totals::default();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            totals.add(&report, &guests, Instant::now());
            let body = expose(&totals, AgentUsage::default()).unwrap().classic;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4";
            let _ = write!(
                stream,
                "{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

fn dashboard() -> Value {
    let text = fs::read_to_string(packaging("grafana/vmexit.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Titles and queries of all panels.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap().to_owned();
            let query = VARIABLES.iter().fold(query, |query, (name, is)| query.replace(name, is));
            assert!(!query.contains('$'), "{query} has a variable that is not known");
            queries.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    queries
}

#[test]
fn dashboard_panels_all_have_data() {
    let guest = Qemu::native("panels").start(&BareGuest::sampler()).unwrap();
    let served = Served::start(&["-i", "500ms"]).unwrap();
    let prometheus = Prometheus::start(&[served.address, replayed()]).unwrap();
    // A rate needs two samples.
    prometheus
        .wait("count_over_time(vmexit_intervals_total[5s]) > 2", |both| both.len() == 2)
        .unwrap();
    let mut empty = BTreeSet::new();
    for (title, query) in queries(&dashboard()) {
        if prometheus.query(&query).unwrap().iter().all(|(_, value)| value.is_nan()) {
            empty.insert(title);
        }
    }
    let expected = EMPTY.iter().map(|&(title, _)| title.to_owned()).collect();
    assert_eq!(empty, expected);
    // Queries of the variables.
    for name in
        ["vmexit_intervals_total", "vmexit_vm_info{vm=\"panels\"}", "vmexit_vm_info{vm=\"demo\"}"]
    {
        assert!(!prometheus.query(name).unwrap().is_empty(), "{name}");
    }
    drop(guest);
}

/// Panel types that current Grafana supports.
const PANELS: [&str; 5] = ["heatmap", "row", "stat", "state-timeline", "timeseries"];

#[test]
fn dashboard_json_imports_without_edits() {
    let dashboard = dashboard();
    assert!(dashboard.get("__inputs").is_none() && dashboard.get("id").is_none());
    assert_eq!((&dashboard["uid"], &dashboard["refresh"]), (&"vmexit".into(), &"30s".into()));
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    for panel in panels {
        let kind = panel["type"].as_str().unwrap();
        assert!(PANELS.contains(&kind), "{kind}");
        let has_unit = panel["fieldConfig"]["defaults"]["unit"].is_string();
        assert!(has_unit || ["heatmap", "row", "state-timeline"].contains(&kind), "{panel}");
        let source = &panel["datasource"]["uid"];
        assert!(kind == "row" || source == "${datasource}", "{panel}");
    }
}
