//! A real Prometheus asks a real `vmexit serve`: what it has is what the guest did, and what is shipped for
//! it is what its own tools take.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use vmexit_tests::{
    guest::{BareGuest, Qemu},
    prometheus,
    served::{self, Series, Served},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging").join("prometheus").join(name)
}

/// One of its programs.
fn program(name: &str) -> Command {
    static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| prometheus::programs().unwrap());
    Command::new(PROGRAMS.join(name))
}

fn promtool(arguments: &[&str]) -> String {
    let output = program("promtool").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn its_rules_hold() {
    promtool(&["check", "rules", packaging("vmexit.rules.yml").to_str().unwrap()]);
    promtool(&["test", "rules", packaging("vmexit.rules.test.yml").to_str().unwrap()]);
}

/// A Prometheus that asks one agent each second, by what is shipped.
struct Prometheus {
    child: Child,
    address: String,
    _directory: TempDir,
}

impl Prometheus {
    fn start(served: &Served) -> Self {
        let directory = TempDir::new().unwrap();
        let scrape = fs::read_to_string(packaging("scrape.yml")).unwrap();
        assert!(scrape.contains("127.0.0.1:9762") && scrape.contains("scrape_interval: 15s"));
        let scrape = scrape
            .replace("127.0.0.1:9762", &served.address.to_string())
            .replace("scrape_interval: 15s", "scrape_interval: 1s");
        // Alarms that wait for minutes are tested by promtool; one does not wait here.
        let rules = fs::read_to_string(packaging("vmexit.rules.yml")).unwrap();
        assert!(rules.contains("for: 5m"));
        fs::write(directory.path().join("rules.yml"), rules.replace("for: 5m", "for: 1s")).unwrap();
        let config = format!(
            "rule_files: ['rules.yml']\nglobal: {{ evaluation_interval: 1s }}\nscrape_configs:\n{scrape}"
        );
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        promtool(&["check", "config", file.to_str().unwrap()]);
        // Somebody else could take it in between; then it says so, and the test fails.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let child = program("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address, _directory: directory }
    }

    /// An instant query's series: labels and value.
    fn query(&self, query: &str) -> Vec<Series> {
        let server = format!("http://{}", self.address);
        let output = program("promtool")
            .args(["query", "instant", "-o", "json", &server, query])
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let series = answer.as_array().cloned().unwrap_or_default();
        let one = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).ok()?;
            Some((labels, series["value"][1].as_str()?.parse().ok()?))
        };
        series.iter().filter_map(one).collect()
    }

    /// Asks until it is so.
    fn wait(&self, query: &str, is: impl Fn(&[Series]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.query(query);
            if is(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{query}: {answer:?}");
            sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_has_the_guests_own_counts_and_its_alarms_go_off() {
    const ROUNDS: u64 = 40;
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let mut running = Qemu::native("scraped").paused().start(&guest).unwrap();
    drop(running.qmp().unwrap());
    let served = Served::start(&["-i", "200ms"]).unwrap();
    let prometheus = Prometheus::start(&served);
    prometheus.wait("up{job=\"vmexit\"}", |up| up.first().is_some_and(|(_, value)| *value > 0.0));
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();

    let expected = guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts());
    let query = "vmexit_accesses_total{vm=\"scraped\",event=\"ioport\",what!=\"other\"}";
    let is_exact = |series: &[Series]| {
        served::ports(series, "scraped") == served.expected_ports(&expected).unwrap()
    };
    prometheus.wait(query, is_exact);

    let directory = TempDir::new().unwrap();
    let metrics = directory.path().join("metrics");
    fs::write(&metrics, served.get("/metrics").unwrap()).unwrap();
    let lint = program("promtool")
        .args(["check", "metrics"])
        .stdin(File::open(&metrics).unwrap())
        .output();
    let lint = lint.unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stderr));

    // Nobody answers any more.
    assert_eq!(served.end().unwrap(), Some(0));
    let down = "ALERTS{alertname=\"VmexitDown\",alertstate=\"firing\"}";
    prometheus.wait(down, |alerts| alerts.iter().any(|(labels, _)| labels["job"] == "vmexit"));
}
