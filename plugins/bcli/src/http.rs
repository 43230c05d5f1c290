//! As much HTTP/1.1 as bitcoind speaks: POST, keep-alive, bodies with a length or in chunks.
//! Everything is bounded.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The longest body: a block of 4 MB is 8 MB of hex.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// All header lines together.
const MAX_HEADERS: u64 = 16 * 1024;

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum HttpError {
    /// The connection failed, or took too long.
    Io(io::Error),
    /// The response is no HTTP, or too long.
    Protocol(&'static str),
}
impl From<io::Error> for HttpError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) if e.kind() == io::ErrorKind::WouldBlock => {
                f.write_str("no answer in time (bitcoin-rpcclienttimeout)")
            }
            Self::Io(e) => write!(f, "{e}"),
            Self::Protocol(why) => write!(f, "its answer is no HTTP: {why}"),
        }
    }
}

/// bitcoind's answer to one request, read whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// May another request follow on this connection?
    pub(crate) keep_alive: bool,
}

/// A connection to bitcoind.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub(crate) fn open(host: &str, port: u16, timeout: Duration) -> Result<Self, HttpError> {
        let mut last = io::Error::other(format!("'{host}' has no address"));
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(timeout))?;
                    stream.set_write_timeout(Some(timeout))?;
                    let stream = BufReader::with_capacity(64 * 1024, stream);
                    return Ok(Self { stream, host: host.to_owned() });
                }
                Err(e) => last = e,
            }
        }
        Err(HttpError::Io(last))
    }

    /// Asks, and reads the answer.
    pub(crate) fn post(&mut self, authorization: &str, body: &[u8]) -> Result<Response, HttpError> {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {authorization}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        read_response(&mut self.stream)
    }
}

/// Reads one response.
pub(crate) fn read_response(from: &mut impl BufRead) -> Result<Response, HttpError> {
    // The rest of MAX_HEADERS after each line.
    let mut left = MAX_HEADERS;
    let status_line = read_line(from, &mut left)?;
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or(HttpError::Protocol("no status line"))?;
    let mut keep_alive = status_line.starts_with("HTTP/1.1");
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = read_line(from, &mut left)?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            line.split_once(':').ok_or(HttpError::Protocol("a header without ':'"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let bytes = value.parse().map_err(|_| HttpError::Protocol("no content length"))?;
                length = Some(bytes);
            }
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => keep_alive = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let body = match (chunked, length) {
        (true, _) => read_chunks(from)?,
        (false, Some(length)) => {
            let mut body = Vec::new();
            read_exactly(from, length, &mut body)?;
            body
        }
        (false, None) => {
            keep_alive = false;
            let mut body = Vec::new();
            from.take(MAX_BODY as u64 + 1).read_to_end(&mut body)?;
            if body.len() > MAX_BODY {
                return Err(HttpError::Protocol("a body that is too long"));
            }
            body
        }
    };
    Ok(Response { status, body, keep_alive })
}

/// A line without its end. What it takes is taken from `left`.
fn read_line(from: &mut impl BufRead, left: &mut u64) -> Result<String, HttpError> {
    let mut line = Vec::new();
    let read = from.take(*left).read_until(b'\n', &mut line)?;
    *left = left.saturating_sub(read as u64);
    if line.pop() != Some(b'\n') {
        return match *left {
            0 => Err(HttpError::Protocol("headers that are too long")),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        };
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| HttpError::Protocol("a header that is no text"))
}

/// Appends so many bytes; reserves for them only once it is clear that they are not too many.
fn read_exactly(
    from: &mut impl BufRead,
    length: usize,
    into: &mut Vec<u8>,
) -> Result<(), HttpError> {
    if into.len().saturating_add(length) > MAX_BODY {
        return Err(HttpError::Protocol("a body that is too long"));
    }
    into.reserve(length);
    if from.take(length as u64).read_to_end(into)? < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

fn read_chunks(from: &mut impl BufRead) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    loop {
        // A chunk's size line is short, and so is what follows the last.
        let line = read_line(from, &mut 1024)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).map_err(|_| HttpError::Protocol("no chunk size"))?;
        if size == 0 {
            let mut left = MAX_HEADERS;
            while !read_line(from, &mut left)?.is_empty() {}
            return Ok(body);
        }
        read_exactly(from, size, &mut body)?;
        if !read_line(from, &mut 2)?.is_empty() {
            return Err(HttpError::Protocol("a chunk without an end"));
        }
    }
}
