//! [`Request`]: what a client says.

use super::wire::{Reader, Writer};
use super::{Claim, Header, How, Role, TooLong, Wrong};

/// From the client to the keeper; each gets exactly one answer, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The first message, with the client's own pidfd: which versions I speak and what I am.
    Hello {
        /// The lowest version.
        lowest: u8,
        /// The highest version.
        highest: u8,
        /// What I am.
        role: Role,
    },
    /// Give me the epoch; the answer may take long.
    Take(Claim),
    /// I give the epoch up.
    Leave {
        /// Mine.
        epoch: u64,
    },
    /// I am alive.
    Beat {
        /// Mine.
        epoch: u64,
    },
    /// Keep this, and the file descriptors that come with it, in place of what had the name.
    Put {
        /// Mine.
        epoch: u64,
        /// Of the entry.
        name: &'a str,
        /// Opaque to the keeper.
        bytes: &'a [u8],
    },
    /// Forget this.
    Delete {
        /// Mine.
        epoch: u64,
        /// Of the entry.
        name: &'a str,
    },
    /// Which names come after this one?
    List {
        /// The last name that I know; empty to begin.
        after: &'a str,
    },
    /// Give me a copy of this.
    Get {
        /// Of the entry.
        name: &'a str,
    },
    /// See that a rotator runs, and tell me its process.
    Runner {
        /// Mine.
        epoch: u64,
    },
    /// Let the rotator do this.
    Errand {
        /// Mine.
        epoch: u64,
        /// The rotator that I mean.
        pid: u32,
        /// Of the entry.
        name: &'a str,
        /// Which of the entry's file descriptors.
        index: u8,
        /// Opaque to the keeper.
        bytes: &'a [u8],
    },
    /// How much is in it?
    Stats,
}

const HELLO: u8 = 0x01;
const TAKE: u8 = 0x02;
const LEAVE: u8 = 0x03;
const BEAT: u8 = 0x04;
const PUT: u8 = 0x05;
const DELETE: u8 = 0x06;
const LIST: u8 = 0x07;
const GET: u8 = 0x08;
const RUNNER: u8 = 0x09;
const ERRAND: u8 = 0x0a;
const STATS: u8 = 0x0b;

impl<'a> Request<'a> {
    /// Writes the message into `out`, in place of what is there.
    ///
    /// # Errors
    /// It does not fit.
    pub fn encode(&self, header: Header, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut writer = Writer::open(out, header);
        match *self {
            Self::Hello { lowest, highest, role } => {
                let role = match role {
                    Role::Driver => 1,
                    Role::Responder => 2,
                    Role::Watcher => 3,
                };
                writer.kind(HELLO).number([lowest, highest, role]).close()
            }
            Self::Take(claim) => {
                let how = match claim.how {
                    How::Succeed => 1,
                    How::Wait => 2,
                    How::Resume => 3,
                };
                writer
                    .kind(TAKE)
                    .number([how])
                    .number(claim.epoch.to_le_bytes())
                    .number([u8::from(claim.alone)])
                    .close()
            }
            Self::Leave { epoch } => writer.kind(LEAVE).number(epoch.to_le_bytes()).close(),
            Self::Beat { epoch } => writer.kind(BEAT).number(epoch.to_le_bytes()).close(),
            Self::Put { epoch, name, bytes } => {
                writer.kind(PUT).number(epoch.to_le_bytes()).name(name).bytes(bytes).close()
            }
            Self::Delete { epoch, name } => {
                writer.kind(DELETE).number(epoch.to_le_bytes()).name(name).close()
            }
            Self::List { after } => writer.kind(LIST).name(after).close(),
            Self::Get { name } => writer.kind(GET).name(name).close(),
            Self::Runner { epoch } => writer.kind(RUNNER).number(epoch.to_le_bytes()).close(),
            Self::Errand { epoch, pid, name, index, bytes } => writer
                .kind(ERRAND)
                .number(epoch.to_le_bytes())
                .number(pid.to_le_bytes())
                .name(name)
                .number([index])
                .bytes(bytes)
                .close(),
            Self::Stats => writer.kind(STATS).close(),
        }
    }

    /// Reads a message; what follows the known fields is ignored.
    ///
    /// # Errors
    /// It is of a later version, or no message.
    pub fn decode(message: &'a [u8]) -> Result<(Header, Self), Wrong> {
        let (header, kind, mut reader) = Reader::open(message)?;
        let request = match kind {
            HELLO => {
                let (lowest, highest, role) = (reader.u8()?, reader.u8()?, reader.u8()?);
                let role = match role {
                    1 => Role::Driver,
                    2 => Role::Responder,
                    3 => Role::Watcher,
                    _ => return Err(Wrong::Unknown(header)),
                };
                Self::Hello { lowest, highest, role }
            }
            TAKE => {
                let (how, epoch, alone) = (reader.u8()?, reader.u64()?, reader.u8()?);
                let how = match how {
                    1 => How::Succeed,
                    2 => How::Wait,
                    3 => How::Resume,
                    _ => return Err(Wrong::Unknown(header)),
                };
                Self::Take(Claim { how, epoch, alone: alone != 0 })
            }
            LEAVE => Self::Leave { epoch: reader.u64()? },
            BEAT => Self::Beat { epoch: reader.u64()? },
            PUT => Self::Put { epoch: reader.u64()?, name: reader.name()?, bytes: reader.bytes()? },
            DELETE => Self::Delete { epoch: reader.u64()?, name: reader.name()? },
            LIST => Self::List { after: reader.cursor()? },
            GET => Self::Get { name: reader.name()? },
            RUNNER => Self::Runner { epoch: reader.u64()? },
            ERRAND => Self::Errand {
                epoch: reader.u64()?,
                pid: reader.u32()?,
                name: reader.name()?,
                index: reader.u8()?,
                bytes: reader.bytes()?,
            },
            STATS => Self::Stats,
            _ => return Err(Wrong::Unknown(header)),
        };
        Ok((header, request))
    }
}
