//! Open connections of the HTTP server. Their number is bounded, and a new one is never turned away: where there is no
//! room, an older one is closed.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// Maximum number of open connections.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Fewest places after a shortage of descriptors.
const MIN_PLACES: usize = 8;
/// Time after a shortage until there are [`MAX_CONNECTIONS`] places again.
const SHORTAGE_TIME: Duration = Duration::from_secs(60);
/// Time after which a connection without a request is closed before any that has one. A client sends its request
/// as soon as it is connected.
const GRACE: Duration = Duration::from_millis(250);

/// Time at which the request of a connection was complete; empty until then.
pub(super) type AskedAt = Arc<OnceLock<Instant>>;

/// An open connection.
struct Connection {
    source: IpAddr,
    accepted: Instant,
    asked: AskedAt,
    task: AbortHandle,
}

impl Connection {
    /// Order in which connections are closed, the smallest first: those that have been silent for longer than
    /// [`GRACE`], then all others, each by the time of their last step.
    fn rank(&self, now: Instant) -> (bool, Instant) {
        let asked = self.asked.get().copied();
        let is_silent = asked.is_none() && now.saturating_duration_since(self.accepted) > GRACE;
        (!is_silent, asked.unwrap_or(self.accepted))
    }
}

/// Open connections, in the order in which they were accepted.
#[derive(Default)]
pub(super) struct Connections {
    open: Vec<Connection>,
    /// Number of places after a shortage, and when it came.
    shortage: Option<(usize, Instant)>,
}

impl Connections {
    /// Adds a connection, which `task` serves.
    pub(super) fn add(&mut self, source: IpAddr, asked: AskedAt, task: AbortHandle) {
        let (source, accepted) = (group(source), Instant::now());
        self.open.push(Connection { source, accepted, asked, task });
    }

    /// Closes connections until there is a free place.
    pub(super) fn make_room(&mut self) {
        let now = Instant::now();
        let is_recent = |at: Instant| now.saturating_duration_since(at) < SHORTAGE_TIME;
        let shortage = self.shortage.filter(|&(_, at)| is_recent(at));
        let places = shortage.map_or(MAX_CONNECTIONS, |(places, _)| places);
        if self.open.len() >= places {
            self.forget_ended();
        }
        while self.open.len() >= places {
            self.close_one(now);
        }
    }

    /// Closes half of the connections after a shortage of descriptors, and leaves as many free for a while: the
    /// readings of counters need some too. Returns whether any was closed.
    pub(super) fn note_shortage(&mut self) -> bool {
        self.forget_ended();
        let (open, now) = (self.open.len(), Instant::now());
        self.shortage = Some(((open / 2).max(MIN_PLACES), now));
        for _ in 0..open.div_ceil(2) {
            self.close_one(now);
        }
        open > 0
    }

    /// Closes a connection of the source that has most of them. Does nothing if none is open.
    fn close_one(&mut self, now: Instant) {
        if let Some(victim) = self.victim(now) {
            self.open.remove(victim).task.abort();
        }
    }

    fn forget_ended(&mut self) {
        self.open.retain(|connection| !connection.task.is_finished());
    }

    /// Place of the connection to close.
    fn victim(&self, now: Instant) -> Option<usize> {
        let crowded = self.most_frequent_source()?;
        let of_source =
            self.open.iter().enumerate().filter(|(_, connection)| connection.source == crowded);
        of_source.min_by_key(|(_, connection)| connection.rank(now)).map(|(place, _)| place)
    }

    fn most_frequent_source(&self) -> Option<IpAddr> {
        let mut sources: Vec<IpAddr> = self.open.iter().map(|one| one.source).collect();
        sources.sort_unstable();
        let groups = sources.chunk_by(|one, next| one == next);
        groups.max_by_key(|group| group.len())?.first().copied()
    }
}

/// Address that stands for all those of one client: an IPv6 network of 64 bits, all of this host's loopback, else the
/// address.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        loopback if loopback.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    const NEAR: [u8; 4] = [127, 0, 0, 1];
    const FAR: [u8; 4] = [192, 0, 2, 7];

    /// A connection accepted `age` ms ago, whose request came `asked` ms ago.
    fn connection(
        tasks: &mut JoinSet<()>,
        source: [u8; 4],
        now: Instant,
        age: u64,
        asked: Option<u64>,
    ) -> Connection {
        let before = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
        let at = OnceLock::new();
        if let Some(asked) = asked {
            at.set(before(asked)).unwrap();
        }
        Connection {
            source: group(source.into()),
            accepted: before(age),
            asked: Arc::new(at),
            task: tasks.spawn(std::future::pending()),
        }
    }

    /// Place of the victim among connections, each by source, age and age of its request.
    fn victim(connections: &[([u8; 4], u64, Option<u64>)]) -> Option<usize> {
        let now = Instant::now() + Duration::from_secs(100);
        let mut tasks = JoinSet::new();
        let open = connections
            .iter()
            .map(|&(source, age, asked)| connection(&mut tasks, source, now, age, asked));
        Connections { open: open.collect(), shortage: None }.victim(now)
    }

    #[tokio::test]
    async fn make_room_after_shortage_keeps_half_of_the_places() {
        let mut tasks = JoinSet::new();
        let mut connections = Connections::default();
        let mut add = |connections: &mut Connections| {
            connections.make_room();
            let task = tasks.spawn(std::future::pending::<()>());
            connections.add(NEAR.into(), AskedAt::default(), task);
        };
        (0..2 * MAX_CONNECTIONS).for_each(|_| add(&mut connections));
        assert_eq!(connections.open.len(), MAX_CONNECTIONS);
        assert!(connections.note_shortage());
        (0..MAX_CONNECTIONS).for_each(|_| add(&mut connections));
        assert_eq!(connections.open.len(), MAX_CONNECTIONS / 2);
        connections.shortage = None;
        (0..MAX_CONNECTIONS).for_each(|_| add(&mut connections));
        assert_eq!(connections.open.len(), MAX_CONNECTIONS);
    }

    #[tokio::test]
    async fn victim_is_oldest_silent_connection() {
        assert_eq!(victim(&[]), None);
        // A slow reader stays while there is a silent one.
        let slow_reader = (NEAR, 9_000, Some(8_990));
        assert_eq!(victim(&[slow_reader, (NEAR, 400, None), (NEAR, 300, None)]), Some(1));
        // A client that has just connected stays while there is a slow reader.
        assert_eq!(victim(&[(NEAR, 1, None), slow_reader]), Some(1));
        assert_eq!(victim(&[(NEAR, 100, None), (NEAR, 50, None), (NEAR, 40, Some(30))]), Some(0));
    }

    #[tokio::test]
    async fn victim_is_of_source_with_most_connections() {
        assert_eq!(victim(&[(FAR, 3_000, None), (NEAR, 9, None), (NEAR, 5, Some(4))]), Some(1));
    }

    #[test]
    fn group_joins_addresses_of_one_client() {
        let same = [
            ("127.0.0.1", "127.9.9.9"),
            ("127.0.0.1", "::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ];
        let group = |text: &str| group(text.parse().unwrap());
        for (one, other) in same {
            assert_eq!(group(one), group(other), "{one} {other}");
        }
        for (one, other) in [("192.0.2.7", "192.0.2.8"), ("2001:db8:1:2::1", "2001:db8:1:3::1")] {
            assert_ne!(group(one), group(other), "{one} {other}");
        }
    }
}
