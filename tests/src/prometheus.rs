//! Debian's Prometheus, unpacked and not installed: the package would start it for the whole machine.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    lab::{LabError, default_cache, unpack_package},
    packages::packaging,
    served::MetricSample,
};

/// How long something may take to show.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where `prometheus` and `promtool` are; downloaded the first time.
pub fn programs() -> Result<PathBuf, LabError> {
    let cache = default_cache();
    let unpacked = cache.join("prometheus");
    let programs = unpacked.join("usr/bin");
    if !programs.join("promtool").is_file() {
        unpack_package(&cache, "prometheus", "", &unpacked)?;
    }
    Ok(programs)
}

/// One of them.
pub fn program(name: &str) -> Result<Command> {
    Ok(Command::new(programs()?.join(name)))
}

/// What promtool says, if it finds no fault.
pub fn promtool(arguments: &[&str]) -> Result<String> {
    let output = program("promtool")?.args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "promtool {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// A Prometheus that asks agents each second, by what is shipped.
pub struct Prometheus {
    child: Child,
    address: String,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one that asks at these addresses.
    pub fn start(agents: &[SocketAddr]) -> Result<Self> {
        let directory = TempDir::new()?;
        let scrape = fs::read_to_string(packaging("prometheus/scrape.yml"))?;
        ensure!(scrape.contains("\"127.0.0.1:9762\"") && scrape.contains("scrape_interval: 15s"));
        let agents: Vec<String> = agents.iter().map(|agent| format!("\"{agent}\"")).collect();
        let scrape = scrape
            .replace("\"127.0.0.1:9762\"", &agents.join(", "))
            .replace("scrape_interval: 15s", "scrape_interval: 1s");
        // Alarms that wait for minutes are tested by promtool; one does not wait here.
        let rules = fs::read_to_string(packaging("prometheus/vmexit.rules.yml"))?;
        ensure!(rules.contains("for: 5m"));
        fs::write(directory.path().join("rules.yml"), rules.replace("for: 5m", "for: 1s"))?;
        let config = format!(
            "rule_files: ['rules.yml']\nglobal: {{ evaluation_interval: 1s }}\nscrape_configs:\n{scrape}"
        );
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config)?;
        promtool(&["check", "config", &file.display().to_string()])?;
        // Somebody else could take it in between; then it says so, and the test fails.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = program("prometheus")?
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .context("start Prometheus")?;
        Ok(Self { child, address, _directory: directory })
    }

    /// An instant query's series: labels and value.
    pub fn query(&self, query: &str) -> Result<Vec<MetricSample>> {
        let server = format!("http://{}", self.address);
        let answer = promtool(&["query", "instant", "-o", "json", &server, query])?;
        let answer: Value = serde_json::from_str(&answer)?;
        let one = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).ok()?;
            Some((labels, series["value"][1].as_str()?.parse().ok()?))
        };
        Ok(answer.as_array().into_iter().flatten().filter_map(one).collect())
    }

    /// Asks until it is so.
    pub fn wait(&self, query: &str, is: impl Fn(&[MetricSample]) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // It is no fault of the query that nobody answers yet.
            let answer = self.query(query);
            if answer.as_ref().is_ok_and(|series| is(series)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{query}: {answer:?}");
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
