//! Response bodies, good and bad: whole, dripping, stalling, cut off, without end, or a bomb.
//!
//! A body that yields an error makes hyper drop the connection (HTTP/1) or reset the stream (HTTP/2) without the final
//! chunk, which is what a caller sees when a peer dies in the middle. Bodies without end are made piece by piece, so the
//! double needs no memory for them.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use futures_util::stream::{self, Stream};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use std::{
    io::{self, Write as _},
    time::Duration,
};

/// Every body of the double.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

const PIECE: usize = 64 * 1024;

pub(crate) fn whole(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The first `after` bytes (half, if not given), then the connection breaks.
pub(crate) fn cut(content: &Bytes, after: Option<usize>) -> Body {
    let head = content.slice(..after.unwrap_or(content.len() / 2).min(content.len()));
    streaming(stream::unfold(Some(head), |head| async move {
        match head {
            Some(head) if !head.is_empty() => Some((Ok(head), None)),
            _ => {
                // Time for the first part to leave: an error at once would discard it with the connection.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Some((Err(io::ErrorKind::ConnectionAborted.into()), None))
            }
        }
    }))
}

/// The first half, then nothing for a while, then the rest.
pub(crate) fn stall(content: &Bytes, pause: Duration) -> Body {
    let mut rest = content.clone();
    let head = rest.split_to(content.len() / 2);
    streaming(stream::unfold((0_u8, head, rest), move |(step, head, rest)| async move {
        match step {
            0 => Some((Ok(head), (1, Bytes::new(), rest))),
            1 => {
                tokio::time::sleep(pause).await;
                Some((Ok(rest), (2, Bytes::new(), Bytes::new())))
            }
            _ => None,
        }
    }))
}

/// A few bytes at a time.
pub(crate) fn drip(content: Bytes, bytes: usize, every: Duration) -> Body {
    streaming(stream::unfold(content, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(every).await;
        let piece = rest.split_to(bytes.clamp(1, rest.len()));
        Some((Ok(piece), rest))
    }))
}

/// A JSON array that opens and never closes.
pub(crate) fn endless() -> Body {
    let numbers = Bytes::from(b"0,".repeat(PIECE / 2));
    streaming(stream::unfold(true, move |first| {
        let piece = if first { Bytes::from_static(b"[") } else { numbers.clone() };
        async move { Some((Ok(piece), false)) }
    }))
}

/// The content, then spaces up to `bytes` in all: JSON still, but too much of it.
pub(crate) fn huge(content: Bytes, bytes: u64) -> Body {
    let spaces = Bytes::from(vec![b' '; PIECE]);
    let left = bytes.saturating_sub(u64::try_from(content.len()).unwrap_or(u64::MAX));
    streaming(stream::unfold((Some(content), left), move |(content, left)| {
        let piece = match content {
            Some(content) => Some((content, left)),
            None if left == 0 => None,
            None => {
                let size = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
                Some((spaces.slice(..size), left.saturating_sub(u64::try_from(size).unwrap_or(left))))
            }
        };
        async move { piece.map(|(bytes, left)| (Ok(bytes), (None, left))) }
    }))
}

/// Packs a body.
pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    encoder.write_all(content).unwrap_or_default();
    encoder.finish().unwrap_or_default()
}

/// A gzip stream that inflates to `[` and `bytes` spaces, 158 times its size; it ends without its checksum.
pub(crate) fn gzip_bomb(bytes: u64) -> Body {
    // Eight matches of 258 bytes are 8 * 13 bits: a pattern of exactly 13 bytes that can be repeated for ever.
    let mut bits = Bits::default();
    bits.push(0b1, 1); // the last block
    bits.push(0b01, 2); // with the fixed Huffman codes of RFC 1951 section 3.2.6
    bits.push_reversed(0x30 + u32::from(b'['), 8);
    bits.push_reversed(0x30 + u32::from(b' '), 8);
    let start = bits.bytes.len();
    for _ in 0..16 {
        bits.push_reversed(0b1100_0101, 8); // a match of length 258
        bits.push_reversed(0, 5); // at distance 1
    }
    let mut head = BytesMut::from(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff][..]);
    let prefix = bits.bytes.get(..start).unwrap_or_default();
    head.put_slice(prefix);
    let pattern = bits.bytes.get(start..start.saturating_add(13)).unwrap_or_default();
    let piece = Bytes::from(pattern.repeat(PIECE / 13));
    let inflated = u64::try_from(PIECE / 13).unwrap_or(1).saturating_mul(8 * 258);
    let pieces = bytes.div_ceil(inflated);
    streaming(stream::unfold((Some(head.freeze()), pieces), move |(head, left)| {
        let next = match (head, left) {
            (Some(head), _) => Some((head, left)),
            (None, 0) => None,
            (None, _) => Some((piece.clone(), left.saturating_sub(1))),
        };
        async move { next.map(|(bytes, left)| (Ok(bytes), (None, left))) }
    }))
}

fn streaming(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    use futures_util::StreamExt as _;
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Bits of a DEFLATE stream, the first in the lowest place of each byte; whole bytes move to `bytes`.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    waiting: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        self.waiting |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.waiting.to_le_bytes()[0]);
            self.waiting >>= 8;
            self.count -= 8;
        }
    }

    /// Huffman codes go in with their highest bit first.
    fn push_reversed(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(body: Body) -> Result<Bytes, io::Error> {
        Ok(body.collect().await?.to_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_arrive_whole() {
        let content = Bytes::from_static(b"[1,2,3,4,5]");
        assert_eq!(collect(stall(&content, Duration::from_secs(9))).await.unwrap(), content);
        assert_eq!(collect(drip(content.clone(), 2, Duration::from_secs(1))).await.unwrap(), content);
        let big = collect(huge(content.clone(), 200_000)).await.unwrap();
        assert_eq!(big.len(), 200_000);
        assert_eq!(serde_json::from_slice::<Vec<u8>>(&big).unwrap(), [1, 2, 3, 4, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_body_fails() {
        collect(cut(&Bytes::from_static(b"[1,2,3]"), None)).await.unwrap_err();
        collect(cut(&Bytes::from_static(b"[1,2,3]"), Some(0))).await.unwrap_err();
    }

    #[tokio::test]
    async fn the_bomb_is_gzip_that_inflates() {
        use std::process::{Command, Stdio};
        let bomb = collect(gzip_bomb(3_000_000)).await.unwrap();
        assert!(bomb.len() < 100_000);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.gz");
        std::fs::write(&path, &bomb).unwrap();
        // gzip complains of the missing end, after it has written what it inflated.
        let inflated = Command::new("gzip").arg("-dc").arg(&path).stderr(Stdio::null()).output();
        if let Ok(output) = inflated {
            assert!(output.stdout.len() >= 3_000_000, "{} bytes", output.stdout.len());
            assert!(output.stdout.starts_with(b"[  "));
        }
    }
}
