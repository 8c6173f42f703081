//! Debian's Prometheus, unpacked but not installed: the package would start it as a service of the machine.

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

/// Longest wait for a query to give the wanted answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Directory of `prometheus` and `promtool`, downloaded on first use.
///
/// # Errors
///
/// When the package can't be downloaded or unpacked.
pub fn programs() -> Result<PathBuf, LabError> {
    let cache = default_cache();
    let unpacked = cache.join("prometheus");
    let programs = unpacked.join("usr/bin");
    if !programs.join("promtool").is_file() {
        unpack_package(&cache, "prometheus", "", &unpacked)?;
    }
    Ok(programs)
}

/// Command that runs one of these programs.
///
/// # Errors
///
/// See [`programs`].
pub fn program(name: &str) -> Result<Command> {
    Ok(Command::new(programs()?.join(name)))
}

/// Runs promtool and returns its standard output.
///
/// # Errors
///
/// When promtool can't be run or reports a fault.
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

/// A Prometheus that scrapes agents each second, with the configuration and rules that are shipped.
pub struct Prometheus {
    child: Child,
    address: String,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes these addresses.
    ///
    /// # Errors
    ///
    /// When the shipped files are not as expected, promtool refuses the configuration, or Prometheus does not
    /// start.
    pub fn start(agents: &[SocketAddr]) -> Result<Self> {
        let directory = TempDir::new()?;
        let scrape = fs::read_to_string(packaging("prometheus/scrape.yml"))?;
        ensure!(scrape.contains("\"127.0.0.1:9762\"") && scrape.contains("scrape_interval: 15s"));
        let agents: Vec<String> = agents.iter().map(|agent| format!("\"{agent}\"")).collect();
        let scrape = scrape
            .replace("\"127.0.0.1:9762\"", &agents.join(", "))
            .replace("scrape_interval: 15s", "scrape_interval: 1s");
        // promtool tests how long alerts wait. Here the alert must fire at once.
        let rules = fs::read_to_string(packaging("prometheus/vmexit.rules.yml"))?;
        ensure!(rules.contains("for: 5m"));
        fs::write(directory.path().join("rules.yml"), rules.replace("for: 5m", "for: 1s"))?;
        let config = format!(
            "rule_files: ['rules.yml']\nglobal: {{ evaluation_interval: 1s }}\nscrape_configs:\n{scrape}"
        );
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config)?;
        promtool(&["check", "config", &file.display().to_string()])?;
        // If another process takes the port in between, Prometheus ends and the test fails.
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

    /// Result of an instant query.
    ///
    /// # Errors
    ///
    /// When promtool fails or its answer is not JSON.
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

    /// Repeats a query until its result is as wanted.
    ///
    /// # Errors
    ///
    /// When that takes longer than a minute; the error has the last result.
    pub fn wait(&self, query: &str, is: impl Fn(&[MetricSample]) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Errors are expected until Prometheus listens.
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
