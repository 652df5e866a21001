//! [`Answer`]: what the keeper says.

use super::wire::{Reader, Writer};
use super::{Header, Stats, TooLong, Why, Wrong};

/// From the keeper to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To HELLO, with the epoch page.
    Welcome {
        /// The version to speak from now on.
        version: u8,
        /// The number on the epoch page.
        epoch: u64,
        /// How many entries there are.
        entries: u32,
        /// How long the keeper has been there, in milliseconds.
        age: u64,
    },
    /// To TAKE: the epoch is yours.
    Taken {
        /// Its number.
        epoch: u64,
    },
    /// It is done.
    Done,
    /// It is not done.
    Refused(Why),
    /// To LIST.
    Names {
        /// In order.
        names: Vec<&'a str>,
        /// Whether others follow.
        more: bool,
    },
    /// To GET, with the file descriptors.
    Entry {
        /// As they were put.
        bytes: &'a [u8],
    },
    /// To RUNNER.
    Runner {
        /// The rotator's process.
        pid: u32,
    },
    /// To ERRAND.
    Outcome {
        /// 0, or the number of the error.
        errno: i32,
        /// Opaque to the keeper.
        bytes: &'a [u8],
    },
    /// To STATS.
    Stats(Stats),
    /// Unasked, to the holder: a successor waits.
    Yield,
}

const WELCOME: u8 = 0x81;
const TAKEN: u8 = 0x82;
const DONE: u8 = 0x83;
const REFUSED: u8 = 0x84;
const NAMES: u8 = 0x85;
const ENTRY: u8 = 0x86;
const RUNNER: u8 = 0x87;
const OUTCOME: u8 = 0x88;
const STATS: u8 = 0x89;
const YIELD: u8 = 0x8a;

impl<'a> Answer<'a> {
    /// Writes the message into `out`, in place of what is there.
    ///
    /// # Errors
    /// It does not fit.
    pub fn encode(&self, header: Header, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut writer = Writer::open(out, header);
        match self {
            Self::Welcome { version, epoch, entries, age } => writer
                .kind(WELCOME)
                .number([*version])
                .number(epoch.to_le_bytes())
                .number(entries.to_le_bytes())
                .number(age.to_le_bytes())
                .close(),
            Self::Taken { epoch } => writer.kind(TAKEN).number(epoch.to_le_bytes()).close(),
            Self::Done => writer.kind(DONE).close(),
            Self::Refused(why) => {
                let (code, lowest, highest) = why.code();
                writer.kind(REFUSED).number([code, lowest, highest]).close()
            }
            Self::Names { names, more } => {
                let count = u16::try_from(names.len()).map_err(|_| TooLong)?;
                writer.kind(NAMES).number([u8::from(*more)]).number(count.to_le_bytes());
                for name in names {
                    writer.name(name);
                }
                writer.close()
            }
            Self::Entry { bytes } => writer.kind(ENTRY).bytes(bytes).close(),
            Self::Runner { pid } => writer.kind(RUNNER).number(pid.to_le_bytes()).close(),
            Self::Outcome { errno, bytes } => {
                writer.kind(OUTCOME).number(errno.to_le_bytes()).bytes(bytes).close()
            }
            Self::Stats(stats) => writer
                .kind(STATS)
                .number(stats.entries.to_le_bytes())
                .number(stats.fds.to_le_bytes())
                .number(stats.bytes.to_le_bytes())
                .number(stats.epoch.to_le_bytes())
                .number(stats.holder.to_le_bytes())
                .close(),
            Self::Yield => writer.kind(YIELD).close(),
        }
    }

    /// Reads a message; what follows the known fields is ignored.
    ///
    /// # Errors
    /// It is of a later version, or no message.
    pub fn decode(message: &'a [u8]) -> Result<(Header, Self), Wrong> {
        let (header, kind, mut reader) = Reader::open(message)?;
        let answer = match kind {
            WELCOME => Self::Welcome {
                version: reader.u8()?,
                epoch: reader.u64()?,
                entries: reader.u32()?,
                age: reader.u64()?,
            },
            TAKEN => Self::Taken { epoch: reader.u64()? },
            DONE => Self::Done,
            REFUSED => Self::Refused(Why::of(reader.u8()?, reader.u8()?, reader.u8()?)),
            NAMES => {
                let (more, count) = (reader.u8()? != 0, reader.u16()?);
                let names = (0..count).map(|_| reader.name()).collect::<Result<_, _>>()?;
                Self::Names { names, more }
            }
            ENTRY => Self::Entry { bytes: reader.bytes()? },
            RUNNER => Self::Runner { pid: reader.u32()? },
            OUTCOME => Self::Outcome { errno: reader.i32()?, bytes: reader.bytes()? },
            STATS => Self::Stats(Stats {
                entries: reader.u32()?,
                fds: reader.u32()?,
                bytes: reader.u64()?,
                epoch: reader.u64()?,
                holder: reader.u32()?,
            }),
            YIELD => Self::Yield,
            _ => return Err(Wrong::Unknown(header)),
        };
        Ok((header, answer))
    }
}
