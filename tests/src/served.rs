//! `vmexit serve` as Prometheus and others see it.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{
    agent,
    guest::{Direction, Expected},
};

/// An agent that serves, and where.
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Served {
    /// Starts it on a port that nobody has, and waits until it counts.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_by(agent::command(&[]).unwrap(), arguments)
    }

    /// The same by a command that runs the agent in its own way.
    pub fn start_by(mut command: Command, arguments: &[&str]) -> Self {
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        // It says where it listens once all is attached.
        let line = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = line.filter_map(|line| {
            let (_, rest) = line.split_once("metrics at http://")?;
            rest.split('/').next()?.parse().ok()
        });
        let address = address.into_iter().next().expect("it says where it listens");
        sleep(Duration::from_millis(200));
        Self { child, address }
    }

    /// What it answers: the status, the head and the body.
    pub fn ask(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    /// The body of a page that is there.
    pub fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        let (status, _, body) = self.ask(&request);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The samples of a metric, by labels.
    pub fn samples(&self, name: &str) -> Vec<Series> {
        samples(&self.get("/metrics"), name)
    }

    /// A field of `/proc/PID/status`.
    pub fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| *name == field).unwrap().1.trim().to_owned()
    }

    /// The most memory that it had, KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status("VmHWM").trim_end_matches(" kB").parse().unwrap()
    }

    /// What a guest expects of its ports, as they are counted here: where the host reports no exits, each
    /// event is a sample.
    pub fn expected_ports(&self, expected: &Expected) -> BTreeMap<(String, String), u64> {
        let silent = self.samples("vmexit_silent")[0].1 > 0.0;
        let ports = expected.ports.iter();
        ports
            .map(|(&(port, direction), accesses)| {
                let direction = if direction == Direction::In { "in" } else { "out" };
                let samples = if silent { accesses.events } else { accesses.exits };
                ((format!("{port:#x}"), direction.to_owned()), samples)
            })
            .collect()
    }

    /// Ends it as systemd does; its exit code.
    pub fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A series: labels and value.
pub type Series = (BTreeMap<String, String>, f64);

/// The samples of a metric in an exposition.
pub fn samples(text: &str, name: &str) -> Vec<Series> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .filter_map(|line| {
            let (labels, value) = match line.strip_prefix('{') {
                Some(line) => line.rsplit_once("} ")?,
                None => ("", line.strip_prefix(' ')?),
            };
            // No label of these tests has a comma or a quote.
            let labels = labels.split(',').filter_map(|label| {
                let (name, value) = label.split_once("=\"")?;
                Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
            });
            Some((labels.collect(), value.parse().ok()?))
        })
        .collect()
}

/// Accesses to ports of a VM, by port and direction, of series of `vmexit_accesses_total`.
pub fn ports(accesses: &[Series], vm: &str) -> BTreeMap<(String, String), u64> {
    let of_vm = accesses.iter().filter(|(labels, _)| {
        labels["vm"] == vm && labels["event"] == "ioport" && labels["what"] != "other"
    });
    let port = |(labels, value): &Series| {
        // A label that is empty is none for Prometheus.
        let label = |name| labels.get(name).cloned().unwrap_or_default();
        ((label("what"), label("direction")), *value as u64)
    };
    of_vm.map(port).collect()
}
