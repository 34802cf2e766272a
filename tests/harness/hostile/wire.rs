//! HTTP as bytes on a socket: whatever a test likes goes out, and whatever comes back is looked at.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `content-type`, if there is one.
    pub content_type: String,
    /// All of it.
    pub body: Vec<u8>,
}

impl Answer {
    /// A refusal as docs/wire.md §9 has it: problem+json with exactly these five members, agreeing with the status line.
    #[track_caller]
    pub fn is(&self, status: u16, rule: Option<u8>) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.content_type, "application/problem+json", "{text}");
        let json: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        let mut keys: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["detail", "rule", "status", "title", "type"], "{text}");
        assert_eq!(json["status"], status, "{text}");
        let rule = rule.map(|number| format!("R-{number:02}"));
        assert_eq!(json["rule"].as_str(), rule.as_deref(), "{text}");
        let expected = rule.map_or("about:blank".to_string(), |rule| format!("urn:veilsum:rule:{rule}"));
        assert_eq!(json["type"], expected, "{text}");
        assert!(json["detail"].as_str().is_some_and(|detail| detail.len() > 10), "it says what was expected: {text}");
    }

    /// Admitted.
    #[track_caller]
    pub fn is_admitted(&self) {
        assert_eq!(self.status, 204, "{}", String::from_utf8_lossy(&self.body));
    }

    /// The word with which a 410 begins.
    pub fn word(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["detail"].as_str().unwrap_or_default().split(':').next().unwrap_or_default().to_string()
    }
}

/// Sends these bytes and reads one response, whatever they are.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let talking = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // A server that has refused already need not read on.
        let _ = stream.write_all(request).await;
        let (mut seen, mut block) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            if let Some(answer) = response(&seen) {
                return answer;
            }
            match stream.read(&mut block).await {
                Ok(0) | Err(_) => break,
                Ok(count) => seen.extend_from_slice(&block[..count]),
            }
        }
        panic!("the connection ended without a response: {:?}", String::from_utf8_lossy(&seen));
    };
    tokio::time::timeout(Duration::from_secs(60), talking).await.expect("an answer in time")
}

/// A whole response, if it is one.
fn response(seen: &[u8]) -> Option<Answer> {
    let end = seen.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_string));
    let length: usize = field("content-length").map_or(0, |length| length.parse().expect("a length"));
    let body = seen.get(end + 4..end + 4 + length)?.to_vec();
    Some(Answer { status, content_type: field("content-type").unwrap_or_default(), body })
}

/// One request with these header fields.
pub async fn request(address: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in fields {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    bytes.extend(body);
    exchange(address, &bytes).await
}
