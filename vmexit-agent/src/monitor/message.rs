//! JSON objects of a byte stream, within bounds. Objects are not split by line: with `-qmp-pretty`, QEMU writes one on
//! several.

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::{Semaphore, SemaphorePermit},
};

use super::qmp::QmpError;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Bytes that any number of readers may hold; the usual answer is shorter.
const SMALL: usize = 128 << 10;

/// Most readers that hold more than [`SMALL`] at a time; the others wait. A peer that fills its part of the memory and
/// then hangs delays only peers with large answers.
static LARGE: Semaphore = Semaphore::const_new(8);

/// Reader of JSON objects from an untrusted peer.
pub(super) struct Messages<R> {
    from: R,
    /// Bytes received and not returned yet.
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that the latest call has returned.
    spent: usize,
    /// Permission to hold more than [`SMALL`].
    large: Option<SemaphorePermit<'static>>,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), spent: 0, large: None }
    }

    /// The stream, to write to it.
    pub(super) fn stream(&mut self) -> &mut R {
        &mut self.from
    }

    /// The next object, with leading white space, of at most `most` bytes. Its content is not checked.
    ///
    /// # Errors
    /// The stream ends or fails, the object is too long, or no object starts here.
    pub(super) async fn next(&mut self, most: usize) -> Result<&[u8], QmpError> {
        self.buffer.drain(..self.spent);
        self.spent = 0;
        let mut scan = Scan::default();
        let mut scanned = 0;
        loop {
            for &byte in &self.buffer[scanned..] {
                scanned += 1;
                if scan.ends_with(byte)? {
                    self.spent = scanned;
                    return Ok(&self.buffer[..scanned]);
                }
                if scanned >= most {
                    return Err(QmpError::TooLong(most));
                }
            }
            if self.buffer.len() > SMALL && self.large.is_none() {
                // It is never closed.
                self.large = LARGE.acquire().await.ok();
            }
            self.buffer.reserve(CHUNK);
            if (&mut self.from).take(CHUNK as u64).read_buf(&mut self.buffer).await? == 0 {
                return Err(QmpError::Closed);
            }
        }
    }
}

/// State of the scan for the end of an object.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Whether this byte ends the object.
    ///
    /// # Errors
    /// The byte is outside an object and can't start one.
    fn ends_with(&mut self, byte: u8) -> Result<bool, QmpError> {
        if self.in_string {
            self.in_string = byte != b'"' || self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            return Ok(false);
        }
        match byte {
            b'{' | b'[' if self.depth > 0 || byte == b'{' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => self.depth -= 1,
            b'"' if self.depth > 0 => self.in_string = true,
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(false),
            _ if self.depth > 0 => {}
            _ => return Err(QmpError::Garbage),
        }
        Ok(self.depth == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<Result<String, QmpError>> {
        let mut messages = Messages::new(bytes);
        let mut all = Vec::new();
        loop {
            match messages.next(64).await {
                Ok(one) => all.push(Ok(String::from_utf8_lossy(one).trim().to_owned())),
                Err(QmpError::Closed) => return all,
                Err(error) => {
                    all.push(Err(error));
                    return all;
                }
            }
        }
    }

    #[tokio::test]
    async fn next_returns_objects_on_any_number_of_lines() {
        let read = read(b"{\"a\": \"}\\\"{\"}\r\n{\n  \"b\": [\n {}, []]\n}\n{}{}  {").await;
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, ["{\"a\": \"}\\\"{\"}", "{\n  \"b\": [\n {}, []]\n}", "{}", "{}"]);
    }

    #[tokio::test]
    async fn many_large_objects_are_read_in_turns() {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
        async fn endless() -> bool {
            let mut messages = Messages::new(tokio::io::repeat(b'{'));
            let is_error = messages.next(2 * SMALL).await.is_err();
            // A peer that hangs while it has the permission.
            tokio::time::sleep(PAUSE).await;
            is_error && messages.large.is_some()
        }
        let begun = std::time::Instant::now();
        let all: Vec<_> = (0..24).map(|_| tokio::spawn(endless())).collect();
        for one in all {
            assert!(one.await.unwrap());
        }
        assert!(begun.elapsed() >= 3 * PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn next_of_garbage_or_endless_object_is_an_error() {
        for garbage in ["x", "[1]", "\"{}\"", "}{", "\0", "SSH-2.0-OpenSSH_9.2"] {
            let read = read(garbage.as_bytes()).await;
            assert!(matches!(read[..], [Err(QmpError::Garbage)]), "{garbage}: {read:?}");
        }
        for endless in [&b"{\"a"[..], b"{{", b"{[", b" ", b"\n"] {
            let read = read(&endless.repeat(100)).await;
            assert!(matches!(read[..], [Err(QmpError::TooLong(64))]), "{read:?}");
        }
    }
}
