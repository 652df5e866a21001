//! [`Reader`] and [`Writer`]: little-endian numbers, names and bytes. Reading never panics and never copies.

use super::{Header, MESSAGE, NAME, TooLong, Wrong};

/// The letters that every message begins with.
const MAGIC: [u8; 2] = *b"KH";

/// What is left of a message.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads the head, and tells the kind.
    pub(super) fn open(message: &'a [u8]) -> Result<(Header, u8, Self), Wrong> {
        if message.len() > MESSAGE {
            return Err(Wrong::Malformed);
        }
        let mut reader = Self(message);
        if reader.array()? != MAGIC {
            return Err(Wrong::Malformed);
        }
        let (version, kind, request) = (reader.u8()?, reader.u8()?, reader.u32()?);
        Ok((Header { version, request }, kind, reader))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Wrong::Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Wrong> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Wrong> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Wrong> {
        self.array().map(i32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Wrong> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Wrong::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    /// A name that may be empty, as a cursor is.
    pub(super) fn cursor(&mut self) -> Result<&'a str, Wrong> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(length.into())?).map_err(|_| Wrong::Malformed)
    }

    /// The name of an entry.
    pub(super) fn name(&mut self) -> Result<&'a str, Wrong> {
        self.cursor()
            .and_then(|name| if name.is_empty() { Err(Wrong::Malformed) } else { Ok(name) })
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Wrong> {
        let length = usize::try_from(self.u32()?).map_err(|_| Wrong::Malformed)?;
        self.take(length)
    }
}

/// A message that grows.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    too_long: bool,
}

impl<'a> Writer<'a> {
    /// Begins anew; [`Writer::kind`] comes next.
    pub(super) fn open(out: &'a mut Vec<u8>, header: Header) -> Self {
        out.clear();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[header.version, 0]);
        out.extend_from_slice(&header.request.to_le_bytes());
        Self { out, too_long: false }
    }

    pub(super) fn kind(&mut self, kind: u8) -> &mut Self {
        if let Some(place) = self.out.get_mut(3) {
            *place = kind;
        }
        self
    }

    /// Any number, by its `to_le_bytes`.
    pub(super) fn number<const N: usize>(&mut self, little_endian: [u8; N]) -> &mut Self {
        self.out.extend_from_slice(&little_endian);
        self
    }

    pub(super) fn name(&mut self, name: &str) -> &mut Self {
        match u8::try_from(name.len()) {
            Ok(length) if name.len() <= NAME => {
                self.out.push(length);
                self.out.extend_from_slice(name.as_bytes());
            }
            Ok(_) | Err(_) => self.too_long = true,
        }
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        match u32::try_from(bytes.len()) {
            Ok(length) if bytes.len() <= MESSAGE => {
                self.number(length.to_le_bytes());
                self.out.extend_from_slice(bytes);
            }
            Ok(_) | Err(_) => self.too_long = true,
        }
        self
    }

    pub(super) fn close(&mut self) -> Result<(), TooLong> {
        if self.too_long || self.out.len() > MESSAGE { Err(TooLong) } else { Ok(()) }
    }
}
