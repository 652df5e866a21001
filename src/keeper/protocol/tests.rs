//! The messages of version 1 as proto/keeper.md has them, written by hand: they must be read for ever.

use proptest::prelude::*;

use super::*;

/// The bytes of "4b 48 ...", where words of letters in quotes stand for themselves.
fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('\'') {
            Some(letters) => bytes.extend(letters.bytes()),
            None => bytes.push(u8::from_str_radix(word, 16).unwrap()),
        }
    }
    bytes
}

fn claim(how: How, epoch: u64, alone: bool) -> Request<'static> {
    Request::Take(Claim { how, epoch, alone })
}

fn requests() -> Vec<(&'static str, Request<'static>)> {
    let hello = |lowest, highest, role| Request::Hello { lowest, highest, role };
    vec![
        ("4b 48 01 01 01 00 00 00 01 01 01", hello(1, 1, Role::Driver)),
        ("4b 48 01 01 01 00 00 00 01 03 02", hello(1, 3, Role::Responder)),
        ("4b 48 07 01 01 00 00 00 07 07 03", hello(7, 7, Role::Watcher)),
        ("4b 48 01 02 02 00 00 00 01 00 00 00 00 00 00 00 00 01", claim(How::Succeed, 0, true)),
        (
            "4b 48 01 02 02 00 00 00 03 08 07 06 05 04 03 02 01 00",
            claim(How::Resume, 0x0102_0304_0506_0708, false),
        ),
        ("4b 48 01 02 02 00 00 00 02 00 00 00 00 00 00 00 00 00", claim(How::Wait, 0, false)),
        ("4b 48 01 03 00 01 00 00 05 00 00 00 00 00 00 00", Request::Leave { epoch: 5 }),
        ("4b 48 01 04 00 00 01 00 05 00 00 00 00 00 00 00", Request::Beat { epoch: 5 }),
        (
            "4b 48 01 05 03 00 00 00 05 00 00 00 00 00 00 00 03 'a/b 02 00 00 00 ff 00",
            Request::Put { epoch: 5, name: "a/b", bytes: &[255, 0] },
        ),
        (
            "4b 48 01 06 03 00 00 00 05 00 00 00 00 00 00 00 02 c3 a9",
            Request::Delete { epoch: 5, name: "é" },
        ),
        ("4b 48 01 07 03 00 00 00 00", Request::List { after: "" }),
        ("4b 48 01 07 03 00 00 00 01 'x", Request::List { after: "x" }),
        ("4b 48 01 08 03 00 00 00 01 'x", Request::Get { name: "x" }),
        ("4b 48 01 09 03 00 00 00 05 00 00 00 00 00 00 00", Request::Runner { epoch: 5 }),
        (
            "4b 48 01 0a 03 00 00 00 05 00 00 00 00 00 00 00 d2 04 00 00 01 'x 02 01 00 00 00 '!",
            Request::Errand { epoch: 5, pid: 1234, name: "x", index: 2, bytes: b"!" },
        ),
        ("4b 48 01 0b 03 00 00 00", Request::Stats),
    ]
}

fn answers() -> Vec<(&'static str, Answer<'static>)> {
    let stats = Stats { entries: 1, fds: 2, bytes: 3, epoch: 4, holder: 5 };
    vec![
        (
            "4b 48 01 81 01 00 00 00 01 05 00 00 00 00 00 00 00 e8 03 00 00 10 27 00 00 00 00 00 00",
            Answer::Welcome { version: 1, epoch: 5, entries: 1000, age: 10_000 },
        ),
        ("4b 48 01 82 02 00 00 00 05 00 00 00 00 00 00 00", Answer::Taken { epoch: 5 }),
        ("4b 48 01 83 03 00 00 00", Answer::Done),
        ("4b 48 01 84 03 00 00 00 03 01 01", Answer::Refused(Why::Stale)),
        (
            "4b 48 01 84 03 00 00 00 09 02 04",
            Answer::Refused(Why::Version { lowest: 2, highest: 4 }),
        ),
        ("4b 48 01 84 03 00 00 00 63 01 01", Answer::Refused(Why::Other(99))),
        (
            "4b 48 01 85 03 00 00 00 01 02 00 01 'a 02 'bc",
            Answer::Names { names: vec!["a", "bc"], more: true },
        ),
        ("4b 48 01 86 03 00 00 00 02 00 00 00 ff 00", Answer::Entry { bytes: &[255, 0] }),
        ("4b 48 01 87 03 00 00 00 d2 04 00 00", Answer::Runner { pid: 1234 }),
        (
            "4b 48 01 88 03 00 00 00 6e 00 00 00 00 00 00 00",
            Answer::Outcome { errno: 110, bytes: b"" },
        ),
        (
            "4b 48 01 89 03 00 00 00 01 00 00 00 02 00 00 00 03 00 00 00 00 00 00 00 \
             04 00 00 00 00 00 00 00 05 00 00 00",
            Answer::Stats(stats),
        ),
        ("4b 48 01 8a 00 00 00 00", Answer::Yield),
    ]
}

#[test]
fn requests_of_version_1_are_read_and_written() {
    let mut out = Vec::new();
    for (text, request) in requests() {
        let bytes = hex(text);
        let (header, read) = Request::decode(&bytes).unwrap();
        assert_eq!(read, request);
        request.encode(header, &mut out).unwrap();
        assert_eq!(out, bytes, "{request:?}");
        let longer = [&bytes[..], b"a field of version 2"].concat();
        assert_eq!(Request::decode(&longer).unwrap().1, request, "what follows is ignored");
        for length in 0..bytes.len() {
            assert_eq!(Request::decode(&bytes[..length]), Err(Wrong::Malformed), "{request:?}");
        }
    }
}

#[test]
fn answers_of_version_1_are_read_and_written() {
    let mut out = Vec::new();
    for (text, answer) in answers() {
        let bytes = hex(text);
        let (header, read) = Answer::decode(&bytes).unwrap();
        assert_eq!(read, answer);
        if !matches!(answer, Answer::Refused(_)) {
            answer.encode(header, &mut out).unwrap();
            assert_eq!(out, bytes, "{answer:?}");
        }
        let longer = [&bytes[..], b"a field of version 2"].concat();
        assert_eq!(Answer::decode(&longer).unwrap().1, answer, "what follows is ignored");
        for length in 0..bytes.len() {
            assert_eq!(Answer::decode(&bytes[..length]), Err(Wrong::Malformed), "{answer:?}");
        }
    }
}

#[test]
fn every_refusal_keeps_its_number() {
    let reasons = [
        (1, Why::Unsupported),
        (2, Why::Malformed),
        (3, Why::Stale),
        (4, Why::Held),
        (5, Why::Absent),
        (6, Why::Gone),
        (7, Why::Full),
        (8, Why::Forbidden),
        (9, Why::Version { lowest: LOWEST, highest: VERSION }),
        (10, Why::Failed),
    ];
    for (code, why) in reasons {
        let mut out = Vec::new();
        let header = Header { version: 1, request: 3 };
        Answer::Refused(why).encode(header, &mut out).unwrap();
        assert_eq!(out, [b"KH\x01\x84\x03\0\0\0", &[code, LOWEST, VERSION][..]].concat());
        assert_eq!(Answer::decode(&out), Ok((header, Answer::Refused(why))));
    }
}

#[test]
fn the_highest_common_version_is_chosen() {
    assert_eq!(common(1, 1), Some(1));
    assert_eq!(common(1, 3), Some(1), "a client that speaks three versions");
    assert_eq!(common(2, 4), None);
    assert_eq!(common(7, 7), None);
    assert_eq!(common(0, 0), None);
    assert_eq!(common(3, 1), None);
}

#[test]
fn what_a_later_version_adds_is_unknown_and_not_malformed() {
    let header = Header { version: 1, request: 3 };
    for text in ["4b 48 01 7f 03 00 00 00", "4b 48 01 02 03 00 00 00 09 00 00 00 00 00 00 00 00 00"]
    {
        assert_eq!(Request::decode(&hex(text)), Err(Wrong::Unknown(header)));
    }
    for text in ["4b 49 01 0b 03 00 00 00", "", "4b 48", "4b 48 01 08 03 00 00 00 00"] {
        assert_eq!(Request::decode(&hex(text)), Err(Wrong::Malformed), "{text}");
    }
    let latin = hex("4b 48 01 08 03 00 00 00 01 e9");
    assert_eq!(Request::decode(&latin), Err(Wrong::Malformed), "names are UTF-8");
}

#[test]
fn what_does_not_fit_is_not_written() {
    let header = Header { version: 1, request: 3 };
    let mut out = Vec::new();
    let name = "n".repeat(256);
    assert_eq!(Request::Get { name: &name }.encode(header, &mut out), Err(TooLong));
    let bytes = vec![0; MESSAGE];
    let put = Request::Put { epoch: 1, name: "x", bytes: &bytes };
    assert_eq!(put.encode(header, &mut out), Err(TooLong));
    let longest = Request::Put { epoch: 1, name: "x", bytes: &bytes[..MESSAGE - 22] };
    longest.encode(header, &mut out).unwrap();
    assert_eq!((out.len(), Request::decode(&out).unwrap().1), (MESSAGE, longest));
    out.push(0);
    assert_eq!(Request::decode(&out), Err(Wrong::Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_what_is_read_is_written(kind in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let message = [b"KH\x01", &[kind][..], b"\x01\0\0\0", &rest].concat();
        let mut out = Vec::new();
        for bytes in [&message, &rest] {
            if let Ok((header, read)) = Request::decode(bytes) {
                read.encode(header, &mut out).unwrap();
                prop_assert_eq!(Request::decode(&out), Ok((header, read)));
            }
            if let Ok((header, read)) = Answer::decode(bytes) {
                read.encode(header, &mut out).unwrap();
                prop_assert_eq!(Answer::decode(&out).unwrap().0, header);
            }
        }
    }

    #[test]
    fn puts_are_read_as_they_were_written(
        epoch in any::<u64>(),
        name in "[a-zé/]{1,80}",
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (header, mut out) = (Header { version: 1, request: 9 }, Vec::new());
        let put = Request::Put { epoch, name: &name, bytes: &bytes };
        put.encode(header, &mut out).unwrap();
        prop_assert_eq!(Request::decode(&out), Ok((header, put)));
    }
}
