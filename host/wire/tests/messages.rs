//! Encoders and decoders against each other and against arbitrary bytes.

use daos_wire::*;
use proptest::prelude::*;
use uuid::Uuid;

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..200)
}

fn put<'a>(address: &'a [u8], dkey: &'a [u8], akey: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request {
        pool: Uuid::from_u128(3),
        container: Uuid::from_u128(4),
        object: ObjectId { hi: 5, lo: 6 },
        dkey,
        akey,
        settled: 1,
        kind: ValueKind::Single,
        value_len: value.len() as u64,
        checksum: crc32c(value),
        inline: value,
        ..Request::new(Opcode::Put, Uuid::from_u128(1), 2, address)
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Request::decode(&bytes);
        let _ = Request::decode_sender(&bytes);
        let _ = Reply::decode(&bytes);
        for entry in ListEntries::new(&bytes) {
            let _ = entry;
        }
        let _ = String::from_utf8_lossy(&bytes).parse::<EngineUri>();
    }

    /// Arbitrary fields behind a valid checksum reach the checks that the checksum hides.
    #[test]
    fn arbitrary_fields_with_a_valid_checksum_never_panic(
        at in 6usize..172, byte: u8, more in prop::collection::vec((6usize..172, any::<u8>()), 0..8),
    ) {
        let mut buffer = [0u8; 1024];
        let len = put(b"addr", b"dkey", b"akey", b"value").encode(&mut buffer).unwrap();
        let message = &mut buffer[..len];
        for (at, byte) in more.into_iter().chain([(at, byte)]) {
            message[at] = byte;
        }
        let keys_end = REQUEST_HEADER + [152, 154, 156].iter()
            .map(|at| usize::from(u16::from_le_bytes([message[*at], message[at + 1]]))).sum::<usize>();
        if keys_end <= len {
            let both = [crc32c(&message[..172]).to_le_bytes(), crc32c(&message[176..keys_end]).to_le_bytes()];
            let crc = crc32c(both.as_flattened());
            message[172..176].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(request) = Request::decode(message) {
            // Whatever passes is encoded to the same bytes: nothing is ignored silently.
            let mut again = [0u8; 1024];
            let n = request.encode(&mut again).unwrap();
            prop_assert_eq!(&again[..n], &*message);
        }
    }

    #[test]
    fn requests_come_back(
        address in prop::collection::vec(any::<u8>(), 1..64), dkey in keys(), akey in keys(),
        value in prop::collection::vec(any::<u8>(), 0..INLINE_MAX),
    ) {
        let request = put(&address, &dkey, &akey, &value);
        let mut buffer = vec![0u8; REQUEST_MAX];
        let len = request.encode(&mut buffer).unwrap();
        prop_assert_eq!(len, request.encoded_len());
        prop_assert_eq!(Request::decode(&buffer[..len]).unwrap(), request);
        let sender = Request::decode_sender(&buffer[..len]).unwrap();
        prop_assert_eq!(sender, (Uuid::from_u128(1), 2, address.as_slice()));
    }

    #[test]
    fn any_flipped_bit_of_header_and_keys_is_noticed(bit in 0usize..(176 + 12) * 8) {
        let mut buffer = [0u8; 1024];
        let len = put(b"addr", b"dkey", b"akey", b"value").encode(&mut buffer).unwrap();
        buffer[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Request::decode(&buffer[..len]).is_err());
    }

    #[test]
    fn any_flipped_bit_of_a_reply_header_is_noticed(bit in 0usize..REPLY_HEADER * 8) {
        let mut buffer = [0u8; 256];
        let reply = Reply { inline: b"abc", value_len: 3, ..Reply::new(2, WireStatus::OK, Uuid::from_u128(1), 2) };
        let len = reply.encode(&mut buffer).unwrap();
        prop_assert_eq!(Reply::decode(&buffer[..len]).unwrap(), reply);
        buffer[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Reply::decode(&buffer[..len]).is_err());
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let mut buffer = [0u8; 1024];
    let len = put(b"addr", b"dkey", b"akey", b"value")
        .encode(&mut buffer)
        .unwrap();
    for cut in 0..len {
        assert!(Request::decode(&buffer[..cut]).is_err(), "{cut} bytes");
    }
    assert!(matches!(
        Request::decode(&buffer[..len + 1]),
        Err(DecodeError::Long { .. })
    ));
    assert!(matches!(
        Request::decode(&[0; REQUEST_MAX + 1]),
        Err(DecodeError::Long { .. })
    ));
}

#[test]
fn rules_between_fields_hold() {
    let mut buffer = vec![0u8; REQUEST_MAX * 2];
    let base = put(b"addr", b"dkey", b"akey", b"value");
    let mut refused = |request: &Request<'_>, field: &'static str| {
        assert_eq!(request.encode(&mut buffer), Err(DecodeError::Field(field)));
    };
    let long = vec![0u8; KEY_MAX + 1];
    refused(
        &Request {
            settled: base.sequence + 1,
            ..base.clone()
        },
        "settled",
    );
    refused(
        &Request {
            dkey: &long,
            ..base.clone()
        },
        "dkey",
    );
    refused(
        &Request {
            akey: b"",
            ..base.clone()
        },
        "akey",
    );
    refused(
        &Request {
            address: b"",
            ..base.clone()
        },
        "address",
    );
    refused(
        &Request {
            value_len: 4,
            ..base.clone()
        },
        "inline length",
    );
    refused(
        &Request {
            inline: &long,
            ..base.clone()
        },
        "inline length",
    );
    let rma = RmaDescriptor {
        key: 1,
        addr: 2,
        len: SINGLE_MAX + 1,
    };
    refused(
        &Request {
            inline: b"",
            value_len: rma.len,
            rma: Some(rma),
            ..base.clone()
        },
        "RMA length",
    );
    let rma = RmaDescriptor { len: 9000, ..rma };
    refused(
        &Request {
            rma: Some(rma),
            ..base.clone()
        },
        "RMA length",
    );
    refused(
        &Request {
            kind: ValueKind::Array,
            ..base.clone()
        },
        "value kind",
    );
    refused(
        &Request {
            scope: PunchScope::Akey,
            ..base.clone()
        },
        "punch scope",
    );
    refused(
        &Request {
            opcode: Opcode::Get,
            ..base.clone()
        },
        "value length",
    );
    let empty = Request {
        inline: b"",
        value_len: 0,
        ..base
    };
    refused(
        &Request {
            opcode: Opcode::Query,
            kind: ValueKind::None,
            ..empty.clone()
        },
        "dkey",
    );
    empty
        .encode(&mut buffer)
        .expect("an empty value is a value");
}

#[test]
fn a_ping_has_a_value_and_nothing_else() {
    let mut buffer = [0u8; 1024];
    let rma = RmaDescriptor {
        key: 1,
        addr: 2,
        len: 5,
    };
    let inline = Request {
        value_len: 5,
        inline: b"value",
        ..Request::new(Opcode::Ping, Uuid::from_u128(1), 2, b"addr")
    };
    let by_memory = Request {
        inline: b"",
        rma: Some(rma),
        ..inline.clone()
    };
    for request in [&inline, &by_memory] {
        let len = request.encode(&mut buffer).unwrap();
        assert_eq!(&Request::decode(&buffer[..len]).unwrap(), request);
    }
    let mut refused = |request: &Request<'_>, field| {
        assert_eq!(
            request.encode(&mut buffer),
            Err(DecodeError::Field(field)),
            "{request:?}"
        );
    };
    refused(
        &Request {
            dkey: b"d",
            ..inline.clone()
        },
        "dkey",
    );
    refused(
        &Request {
            value_len: 4,
            ..inline.clone()
        },
        "inline length",
    );
    refused(
        &Request {
            rma: Some(rma),
            ..inline
        },
        "RMA length",
    );
    refused(
        &Request {
            value_len: 6,
            ..by_memory
        },
        "RMA length",
    );
}

#[test]
fn a_request_of_another_version_is_named_and_its_sender_known() {
    let mut buffer = [0u8; 1024];
    let len = put(b"addr", b"dkey", b"akey", b"value")
        .encode(&mut buffer)
        .unwrap();
    buffer[4] = 9;
    assert_eq!(
        Request::decode(&buffer[..len]),
        Err(DecodeError::Version(9))
    );
    assert_eq!(Request::decode_sender(&buffer[..len]).unwrap().2, b"addr");
}

fn array_put<'a>(value: &'a [u8], array: ArrayRange) -> Request<'a> {
    Request {
        opcode: Opcode::ArrayPut,
        kind: ValueKind::Array,
        array,
        ..put(b"addr", b"dkey", b"akey", value)
    }
}

#[test]
fn rules_of_array_requests_hold() {
    let mut buffer = vec![0u8; REQUEST_MAX];
    let array = ArrayRange {
        offset: 9,
        count: 2,
        record_size: 3,
    };
    let write = array_put(b"abcdef", array);
    let read = Request {
        opcode: Opcode::ArrayGet,
        inline: b"",
        value_len: 0,
        ..write.clone()
    };
    let size = Request {
        opcode: Opcode::ArrayQuery,
        array: ArrayRange::default(),
        ..read.clone()
    };
    let rest = Request {
        opcode: Opcode::ArrayPunch,
        array: ArrayRange::from(9, 3),
        ..read.clone()
    };
    let rma = |len| {
        Some(RmaDescriptor {
            key: 1,
            addr: 2,
            len,
        })
    };
    let far = Request {
        rma: rma(SINGLE_MAX),
        array: ArrayRange {
            count: SINGLE_MAX / 4,
            record_size: 4,
            ..array
        },
        ..read.clone()
    };
    for good in [&write, &read, &size, &rest, &far] {
        let len = good.encode(&mut buffer).unwrap();
        assert_eq!(&Request::decode(&buffer[..len]).unwrap(), good);
    }
    let mut refused = |request: Request<'_>, field: &'static str| {
        assert_eq!(
            request.encode(&mut buffer),
            Err(DecodeError::Field(field)),
            "{request:?}"
        );
    };
    let with = |request: &Request<'static>, array| Request {
        array,
        ..request.clone()
    };
    let single = Request {
        kind: ValueKind::Single,
        ..write.clone()
    };
    refused(single, "value kind");
    refused(
        with(&write, ArrayRange { count: 3, ..array }),
        "value length",
    );
    refused(
        with(&write, ArrayRange { count: 0, ..array }),
        "array range",
    );
    refused(
        with(
            &rest,
            ArrayRange {
                offset: u64::MAX,
                ..array
            },
        ),
        "array range",
    );
    refused(with(&size, array), "array range");
    let large = RECORD_SIZE_MAX + 1;
    refused(
        with(
            &read,
            ArrayRange {
                record_size: large,
                ..array
            },
        ),
        "array range",
    );
    // A read without memory for what does not fit into a reply, and one with the wrong amount.
    refused(
        with(
            &read,
            ArrayRange {
                count: 5000,
                ..array
            },
        ),
        "RMA length",
    );
    refused(
        Request {
            rma: rma(7),
            ..read.clone()
        },
        "RMA length",
    );
    let most = ArrayRange {
        count: SINGLE_MAX,
        ..array
    };
    refused(
        Request {
            rma: rma(SINGLE_MAX),
            ..with(&read, most)
        },
        "array range",
    );
    refused(
        Request {
            rma: rma(6),
            ..rest.clone()
        },
        "RMA descriptor",
    );
    refused(
        Request {
            akey: b"",
            ..size.clone()
        },
        "akey",
    );
    refused(
        Request {
            array,
            ..put(b"addr", b"d", b"a", b"abcdef")
        },
        "array range",
    );
}

proptest! {
    /// As above for single values: arbitrary fields behind a valid checksum.
    #[test]
    fn arbitrary_array_fields_come_back_as_they_are(
        offset: u64, count in 0u64..5000, record_size in 0u64..200_000, opcode in 0x10u16..0x14,
    ) {
        let mut buffer = [0u8; 1024];
        let array = ArrayRange { offset: 1, count: 5, record_size: 1 };
        let len = array_put(b"value", array).encode(&mut buffer).unwrap();
        let message = &mut buffer[..len];
        message[6..8].copy_from_slice(&opcode.to_le_bytes());
        for (at, number) in [(88, offset), (96, count), (104, record_size)] {
            message[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let both = [crc32c(&message[..172]).to_le_bytes(), crc32c(&message[176..188]).to_le_bytes()];
        message[172..176].copy_from_slice(&crc32c(both.as_flattened()).to_le_bytes());
        if let Ok(request) = Request::decode(message) {
            prop_assert!(request.array.is_valid() || opcode == Opcode::ArrayQuery as u16);
            let mut again = [0u8; 1024];
            let n = request.encode(&mut again).unwrap();
            prop_assert_eq!(&again[..n], &*message);
        }
    }
}
