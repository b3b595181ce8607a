//! Frames: a length (32 bits, little endian) and that many bytes of JSON.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Most bytes of a frame; who announces more has lost its mind, and its connection.
pub(crate) const LIMIT: usize = 16 << 20;

/// Encodes a frame.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let len = frame.len() - 4;
    if len > LIMIT {
        let text = format!("a message of {len} bytes exceeds the limit of {LIMIT}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(frame)
}

/// Reads a frame; `None` at the end of the stream.
pub(crate) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut body = vec![0; checked(len)?];
    from.read_exact(&mut body)?;
    decode(&body).map(Some)
}

/// Reads a frame; `None` at the end of the stream.
pub(crate) async fn read_async<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len).await {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut body = vec![0; checked(len)?];
    from.read_exact(&mut body).await?;
    decode(&body).map(Some)
}

fn checked(len: [u8; 4]) -> io::Result<usize> {
    let len = u32::from_le_bytes(len) as usize;
    if len > LIMIT {
        let text = format!("a message of {len} bytes was announced, the limit is {LIMIT}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(len)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn there_and_back() {
        let frames = [encode(&json!({"a": 1})), encode(&json!("two"))];
        let wire = frames.map(Result::unwrap).concat();
        let mut rest = wire.as_slice();
        assert_eq!(read::<Value>(&mut rest).unwrap(), Some(json!({"a": 1})));
        assert_eq!(read::<Value>(&mut rest).unwrap(), Some(json!("two")));
        assert_eq!(read::<Value>(&mut rest).unwrap(), None);
    }

    #[test]
    fn too_long_is_refused_before_it_is_read_or_sent() {
        let announced = u32::MAX.to_le_bytes();
        let error = read::<Value>(announced.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = encode(&"x".repeat(LIMIT)).unwrap_err();
        assert!(error.to_string().contains("exceeds"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<crate::protocol::Event>(bytes.as_slice());
            let _ = read::<crate::protocol::Request>(bytes.as_slice());
        }
    }
}
