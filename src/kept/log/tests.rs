//! The log against kills, flipped bits and garbage.

use proptest::prelude::*;

use super::*;

fn payload(entries: &[(Operation, &[u8], &[u8])]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (operation, key, value) in entries {
        entry(&mut payload, *operation, key, value);
    }
    payload
}

/// A log of three records.
fn three() -> Vec<u8> {
    let mut region = vec![0; 1024];
    begin(&mut region);
    let mut at = START;
    for (sequence, value) in [(1, b"one".as_slice()), (2, b"two"), (3, b"three")] {
        let payload =
            payload(&[(Operation::PutCell, b"key", value), (Operation::Delete, b"x", b"")]);
        at = append(&mut region, at, sequence, &payload, 1, || {}).unwrap();
    }
    region
}

#[test]
fn what_was_written_is_read() {
    let region = three();
    let contents = read(&region).unwrap();
    assert_eq!((contents.sequence, contents.entries.len()), (3, 6));
    let last = &contents.entries[4];
    assert_eq!((last.operation, last.key.as_slice()), (Operation::PutCell, b"key".as_slice()));
    assert_eq!(&region[last.value.0..last.value.0 + last.value.1], b"three");
    assert_eq!(last.cell, Some(contents.end - 8));
    assert_eq!(contents.entries[5].operation, Operation::Delete);
}

#[test]
fn a_record_that_was_torn_anywhere_was_never_written() {
    let whole = three();
    let before = read(&whole).unwrap();
    let payload = payload(&[(Operation::Put, b"key", &[7; 100])]);
    let mut after = whole.clone();
    append(&mut after, before.end, 4, &payload, 0, || {}).unwrap();
    // Every order in which the bytes but the mark's can have come, as far as one cut describes it.
    let record = before.end..before.end + space(payload.len(), 0);
    for cut in record.clone() {
        for first in [true, false] {
            let mut torn = whole.clone();
            let part = if first { record.start..cut } else { cut..record.end };
            torn[part.clone()].copy_from_slice(&after[part]);
            torn[record.start + 20..record.start + 24].fill(0);
            assert_eq!(read(&torn).as_ref(), Ok(&before), "cut at {cut}");
            // And the next append goes over what was left.
            append(&mut torn, before.end, 4, b"", 2, || {}).unwrap();
            let contents = read(&torn).unwrap();
            assert_eq!((contents.sequence, contents.entries.len()), (4, 6));
            assert_eq!(torn[contents.end - 16..contents.end], [0; 16], "cells begin at zero");
        }
    }
}

#[test]
fn a_flipped_bit_is_never_read_as_something_else() {
    let whole = three();
    let good = read(&whole).unwrap();
    let cells: Vec<usize> = good.entries.iter().filter_map(|entry| entry.cell).collect();
    for at in 0..good.end {
        let in_cell = cells.iter().any(|cell| (*cell..cell + 8).contains(&at));
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            // Padding and cells are outside; `used` may only shrink, which says nothing.
            match read(&flipped) {
                Ok(read) => assert_eq!(read, good, "byte {at} bit {bit}"),
                Err(_) => assert!(!in_cell, "byte {at} bit {bit}"),
            }
        }
    }
}

#[test]
fn a_region_that_is_full_says_so() {
    let mut region = vec![0; START + space(8, 0)];
    begin(&mut region);
    assert_eq!(append(&mut region, START, 1, &[1; 9], 0, || {}), None);
    assert!(read(&region).unwrap().entries.is_empty());
    let payload = payload(&[(Operation::Delete, b"k", b"")]);
    assert_eq!(append(&mut region, START, 1, &payload, 0, || {}), Some(region.len()));
    assert_eq!(read(&region).unwrap().entries.len(), 1);
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), begins in any::<bool>()) {
        if begins && bytes.len() > START {
            begin(&mut bytes);
        }
        let _read = read(&bytes);
    }

    /// Bytes that look more like a log: headers with right marks, and wrong lengths.
    #[test]
    fn records_with_any_numbers_give_an_answer(
        length in any::<u32>(), cells in any::<u32>(), sequence in 0_u64..3, body in proptest::collection::vec(any::<u8>(), 0..200),
        right in any::<bool>(),
    ) {
        let mut region = vec![0; 512];
        begin(&mut region);
        region[START..START + 4].copy_from_slice(&length.to_le_bytes());
        region[START + 4..START + 8].copy_from_slice(&cells.to_le_bytes());
        region[START + 8..START + 16].copy_from_slice(&sequence.to_le_bytes());
        region[START + 20..START + 24].copy_from_slice(&MARK.to_le_bytes());
        region[START + 24..START + 24 + body.len()].copy_from_slice(&body);
        if right {
            // A good crc over a payload that is not what it says.
            let length = u32::try_from(body.len()).unwrap();
            region[START..START + 4].copy_from_slice(&length.to_le_bytes());
            let sum = crc(&region[START..START + 16], &body);
            region[START + 16..START + 20].copy_from_slice(&sum.to_le_bytes());
        }
        let _read = read(&region);
    }
}
