//! The bytes of a journal: records in a region, appended so that a kill at any instruction loses at most the
//! record that was being written.
//!
//! ```text
//! region: "KHLOG\0\0\1" | used u64 | record | record | ... | zeros
//! record: length u32, cells u32, sequence u64, crc u32, mark u32 | payload | cells, 8 bytes each
//! payload: operation u8, key length u16, value length u32, key, value; repeated
//! ```
//!
//! All little-endian, records at multiples of 8. The mark is written last: without it there is no record. Then
//! `used` is, so that an end that lies before it is a flipped bit. Cells are numbers that change in place and are
//! outside the crc. [`read`] is total: any bytes give an answer; it touches no page that was never written.

use std::sync::atomic::{Ordering, compiler_fence};

/// The first bytes of every log; the last of them is the version.
pub const MAGIC: [u8; 8] = *b"KHLOG\0\0\x01";
const MARK: u32 = u32::from_le_bytes(*b"KREC");
/// Where the first record goes.
pub const START: usize = MAGIC.len() + 8;
const HEADER: usize = 24;
const ENTRY: usize = 7;

/// What a batch does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The key has this value now.
    Put,
    /// The same, and a cell belongs to it.
    PutCell,
    /// The key is gone.
    Delete,
    /// Of a later version; left alone.
    Unknown,
}

impl Operation {
    fn byte(self) -> u8 {
        match self {
            Self::Put => 1,
            Self::Delete => 2,
            Self::PutCell => 3,
            Self::Unknown => 0,
        }
    }
}

/// Where an entry of a record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it does.
    pub operation: Operation,
    /// To which key.
    pub key: Vec<u8>,
    /// Offset and length of its value in the region.
    pub value: (usize, usize),
    /// Offset of its cell.
    pub cell: Option<usize>,
}

/// What a region holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// All entries, oldest first.
    pub entries: Vec<Found>,
    /// Where the next record goes.
    pub end: usize,
    /// The number of the last record.
    pub sequence: u64,
}

/// Why a region is no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It does not begin like one, or like one of another version.
    #[error("it is no journal of this version")]
    Foreign,
    /// A record in the middle is damaged: what comes after it cannot be trusted.
    #[error("the record at byte {at} is damaged")]
    Damaged {
        /// Where.
        at: usize,
    },
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// How many bytes a record takes.
pub fn space(payload: usize, cells: usize) -> usize {
    HEADER + padded(payload) + cells * 8
}

/// Makes an empty region a log without records.
pub fn begin(region: &mut [u8]) {
    if let Some(start) = region.get_mut(..MAGIC.len()) {
        start.copy_from_slice(&MAGIC);
    }
}

/// Adds an entry to a payload.
pub fn entry(payload: &mut Vec<u8>, operation: Operation, key: &[u8], value: &[u8]) {
    payload.push(operation.byte());
    // Keys are ours and short; a value is at most a volume's worth of bytes.
    payload.extend(u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    payload.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    payload.extend(key);
    payload.extend(value);
}

fn crc(head: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(payload);
    crc.finalize()
}

/// Writes a record at `at`; returns where the next goes, `None` when it does not fit. `torn` is called when all
/// but the mark is written.
pub fn append(
    region: &mut [u8],
    at: usize,
    sequence: u64,
    payload: &[u8],
    cells: usize,
    torn: impl FnOnce(),
) -> Option<usize> {
    let end = at.checked_add(space(payload.len(), cells))?;
    // What a torn record has left must not look like the next one.
    let next = region.len().min(end.checked_add(HEADER)?);
    region.get_mut(end..next)?.fill(0);
    let record = region.get_mut(at..end)?;
    let mut head = [0; 16];
    head[..4].copy_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    head[4..8].copy_from_slice(&u32::try_from(cells).ok()?.to_le_bytes());
    head[8..].copy_from_slice(&sequence.to_le_bytes());
    record.get_mut(HEADER + padded(payload.len())..)?.fill(0);
    record.get_mut(HEADER..HEADER + payload.len())?.copy_from_slice(payload);
    record.get_mut(16..20)?.copy_from_slice(&crc(&head, payload).to_le_bytes());
    record.get_mut(..16)?.copy_from_slice(&head);
    // A kill comes between two instructions: the mark's must be the last.
    compiler_fence(Ordering::Release);
    torn();
    record.get_mut(20..24)?.copy_from_slice(&MARK.to_le_bytes());
    compiler_fence(Ordering::Release);
    region.get_mut(MAGIC.len()..START)?.copy_from_slice(&(end as u64).to_le_bytes());
    Some(end)
}

enum Next {
    Record { payload: (usize, usize), cells: usize, sequence: u64, end: usize },
    Nothing,
    Damaged,
}

fn record(region: &[u8], at: usize) -> Next {
    let whole = || {
        let length = u32_at(region, at)? as usize;
        let cells = u32_at(region, at + 4)? as usize;
        let sequence = u64::from_le_bytes(number(region, at + 8)?);
        let end = at.checked_add(HEADER + padded(length))?.checked_add(cells.checked_mul(8)?)?;
        let payload = region.get(at + HEADER..at + HEADER + length)?;
        let good = end <= region.len()
            && crc(region.get(at..at + 16)?, payload) == u32_at(region, at + 16)?;
        good.then_some(Next::Record { payload: (at + HEADER, length), cells, sequence, end })
    };
    match u32_at(region, at + 20) {
        None | Some(0) => Next::Nothing,
        Some(MARK) => whole().unwrap_or(Next::Damaged),
        Some(_) => Next::Damaged,
    }
}

/// The entries of the record at `at`, which this process has written.
pub fn entries(region: &[u8], at: usize) -> Vec<Found> {
    let mut entries = Vec::new();
    if let Next::Record { payload, cells, end, .. } = record(region, at) {
        take(region, payload, (end - cells * 8, cells), &mut entries);
    }
    entries
}

/// Reads all records.
///
/// # Errors
/// It is no log, or a bit of it has flipped.
pub fn read(region: &[u8]) -> Result<Contents, LogError> {
    if region.get(..MAGIC.len()) != Some(&MAGIC) {
        return Err(LogError::Foreign);
    }
    let mut contents = Contents { entries: Vec::new(), end: START, sequence: 0 };
    loop {
        let at = contents.end;
        match record(region, at) {
            Next::Record { payload, cells, sequence, end } => {
                let next = sequence == contents.sequence + 1;
                if !next || !take(region, payload, (end - cells * 8, cells), &mut contents.entries)
                {
                    return Err(LogError::Damaged { at });
                }
                (contents.end, contents.sequence) = (end, sequence);
            }
            Next::Damaged => return Err(LogError::Damaged { at }),
            Next::Nothing => break,
        }
    }
    // A flipped mark looks like the end.
    let used = number(region, MAGIC.len()).map_or(0, u64::from_le_bytes);
    if used > contents.end as u64 {
        return Err(LogError::Damaged { at: contents.end });
    }
    Ok(contents)
}

/// Takes the entries out of a payload; false when it does not hold what it says.
fn take(
    region: &[u8],
    (start, length): (usize, usize),
    (cells_at, cells): (usize, usize),
    entries: &mut Vec<Found>,
) -> bool {
    let (mut at, end, mut cell) = (start, start + length, 0);
    while at < end {
        let head = || {
            let operation = *region.get(at)?;
            let key = usize::from(u16::from_le_bytes(number(region, at + 1)?));
            let value = u32_at(region, at + 3)? as usize;
            let next = at.checked_add(ENTRY + key)?.checked_add(value)?;
            (next <= end).then_some((operation, key, value, next))
        };
        let Some((operation, key, value, next)) = head() else {
            return false;
        };
        let operation = match operation {
            1 => Operation::Put,
            2 => Operation::Delete,
            3 => Operation::PutCell,
            _ => Operation::Unknown,
        };
        let mut own = None;
        if operation == Operation::PutCell {
            if cell >= cells {
                return false;
            }
            own = Some(cells_at + cell * 8);
            cell += 1;
        }
        let name = region.get(at + ENTRY..at + ENTRY + key).unwrap_or_default().to_vec();
        entries.push(Found { operation, key: name, value: (at + ENTRY + key, value), cell: own });
        at = next;
    }
    true
}

#[cfg(test)]
#[path = "log/tests.rs"]
mod tests;
