//! A running `vmexit serve`, and an HTTP client for it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    agent,
    guest::{Expected, PortDirection},
};

/// Longest wait for a response.
const PATIENCE: Duration = Duration::from_secs(10);

/// A sample of a metric: labels and value.
pub type MetricSample = (BTreeMap<String, String>, f64);

/// Accesses by port and direction.
pub type Ports = BTreeMap<(String, String), u64>;

/// A running `vmexit serve`.
pub struct Served {
    child: Child,
    said: Arc<Mutex<String>>,
    /// Address that the agent listens on.
    pub address: SocketAddr,
}

/// An HTTP response.
#[derive(Debug)]
pub struct HttpResponse {
    /// Status code, such as 200.
    pub status: u16,
    /// Status line and header fields.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Served {
    /// Starts an agent on a free port and waits until it counts.
    ///
    /// # Errors
    ///
    /// When the agent can't be started, or ends before it listens.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_by(agent::command(&[])?, arguments)
    }

    /// Starts an agent by a command to which `serve` and its arguments are added.
    ///
    /// # Errors
    ///
    /// See [`Self::start`].
    pub fn start_by(mut command: Command, arguments: &[&str]) -> Result<Self> {
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().context("start vmexit")?;
        let stderr = child.stderr.take().context("no standard error")?;
        // The agent prints its address once all programs are attached.
        let mut said = Vec::new();
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = lines.next().transpose()? {
            if let Some(address) = address(&line) {
                // The first snapshot follows.
                sleep(Duration::from_millis(200));
                let said = Arc::<Mutex<String>>::default();
                thread::spawn({
                    let said = said.clone();
                    move || {
                        for line in lines.map_while(Result::ok) {
                            said.lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push_str(&(line + "\n"));
                        }
                    }
                });
                return Ok(Self { child, said, address });
            }
            said.push(line);
        }
        let status = child.wait()?;
        anyhow::bail!("vmexit ended with {status} before it listened: {}", said.join("\n"));
    }

    /// Response to a raw request.
    ///
    /// # Errors
    ///
    /// When there is no complete HTTP response within ten seconds.
    pub fn ask(&self, request: &str) -> Result<HttpResponse> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end")?;
        let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
        Ok(HttpResponse { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// Body of the response to a GET request.
    ///
    /// # Errors
    ///
    /// When there is no response, or its status is not 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        let answer = self.ask(&request)?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        Ok(answer.body)
    }

    /// Samples of a metric.
    ///
    /// # Errors
    ///
    /// When `/metrics` can't be read.
    pub fn samples(&self, name: &str) -> Result<Vec<MetricSample>> {
        Ok(samples(&self.get("/metrics")?, name))
    }

    /// Sum of a metric's samples.
    ///
    /// # Errors
    ///
    /// When `/metrics` can't be read.
    pub fn sum(&self, name: &str) -> Result<f64> {
        Ok(self.samples(name)?.iter().map(|(_, value)| value).sum())
    }

    /// Waits for so many more intervals.
    ///
    /// # Errors
    ///
    /// When that takes longer than ten seconds.
    pub fn wait_intervals(&self, more: u32) -> Result<()> {
        let wanted = self.sum("vmexit_intervals_total")? + f64::from(more);
        let deadline = Instant::now() + PATIENCE;
        while self.sum("vmexit_intervals_total")? < wanted {
            ensure!(Instant::now() < deadline, "it has read nothing for {PATIENCE:?}");
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Accesses to be counted for a guest's ports. Where the host reports no exits, each event is a sample.
    ///
    /// # Errors
    ///
    /// When `/metrics` can't be read.
    pub fn expected_ports(&self, expected: &Expected) -> Result<Ports> {
        let silent = self.samples("vmexit_silent")?.first().is_some_and(|(_, value)| *value > 0.0);
        let ports = expected.ports.iter().map(|(&(port, direction), accesses)| {
            let direction = if direction == PortDirection::In { "in" } else { "out" };
            let samples = if silent { accesses.events } else { accesses.exits };
            ((format!("{port:#x}"), direction.to_owned()), samples)
        });
        Ok(ports.collect())
    }

    /// Standard error of the agent since it listens.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Process ID of the agent.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Value of a field in `/proc/PID/status`.
    ///
    /// # Errors
    ///
    /// When the file can't be read or has no such field.
    pub fn status(&self, field: &str) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        let line = lines.find(|(name, _)| *name == field);
        Ok(line.with_context(|| format!("no {field}"))?.1.trim().to_owned())
    }

    /// Peak resident memory, KiB.
    ///
    /// # Errors
    ///
    /// When `/proc/PID/status` can't be read.
    pub fn most_resident_kib(&self) -> Result<u64> {
        self.kib("VmHWM")
    }

    /// Resident memory, KiB.
    ///
    /// # Errors
    ///
    /// When `/proc/PID/status` can't be read.
    pub fn resident_kib(&self) -> Result<u64> {
        self.kib("VmRSS")
    }

    fn kib(&self, field: &str) -> Result<u64> {
        Ok(self.status(field)?.trim_end_matches(" kB").parse()?)
    }

    /// Number of open file descriptors.
    ///
    /// # Errors
    ///
    /// When `/proc/PID/fd` can't be read.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Sends the agent a signal by name, such as `HUP`.
    ///
    /// # Errors
    ///
    /// When `kill` fails.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let killed = Command::new("kill").args(["-s", name, &pid]).status().context("run kill")?;
        ensure!(killed.success(), "kill -s {name} {pid} failed");
        Ok(())
    }

    /// Ends the agent by SIGTERM, as systemd does, and returns its exit code.
    ///
    /// # Errors
    ///
    /// When `kill` or the wait fails.
    pub fn end(mut self) -> Result<Option<i32>> {
        self.signal("TERM")?;
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Both fail only if the agent has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    line.split_once("metrics at http://")?.1.split('/').next()?.parse().ok()
}

/// Samples of a metric in the text exposition format.
pub fn samples(text: &str, name: &str) -> Vec<MetricSample> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let series = |line: &str| {
        let (labels, value) = match line.strip_prefix('{') {
            Some(line) => line.rsplit_once("} ")?,
            None => ("", line.strip_prefix(' ')?),
        };
        // No label value in these tests has a comma or a quote.
        let labels = labels.split(',').filter_map(|label| {
            let (name, value) = label.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Some((labels.collect(), value.parse().ok()?))
    };
    lines.filter_map(series).collect()
}

/// Accesses to the ports of a VM in samples of `vmexit_accesses_total`.
pub fn ports(accesses: &[MetricSample], vm: &str) -> Ports {
    // Prometheus treats an empty label as a missing one.
    let label =
        |labels: &BTreeMap<String, String>, name| labels.get(name).cloned().unwrap_or_default();
    let of_vm = accesses.iter().filter(|(labels, _)| {
        label(labels, "vm") == vm
            && label(labels, "event") == "ioport"
            && label(labels, "number") != "other"
    });
    of_vm
        .map(|(labels, value)| {
            ((label(labels, "number"), label(labels, "direction")), *value as u64)
        })
        .collect()
}
