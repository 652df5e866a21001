//! All fields of a secret in one file: JSON, dotenv, Java properties, YAML. Keys sorted.

use crate::render::{RenderError, plain};
use crate::secret::json::{Json, write_string};
use crate::spec::Format;
use zeroize::Zeroizing;

/// All fields of `data`, which is an object.
pub(super) fn all(format: Format, data: &Json) -> Result<Vec<u8>, RenderError> {
    let mut out = Vec::new();
    match format {
        Format::Json | Format::Raw => data.write_compact(&mut out),
        Format::Dotenv => {
            for (name, value) in data.sorted() {
                dotenv(name, &Zeroizing::new(plain(value)), &mut out)?;
            }
        }
        Format::Properties => {
            for (name, value) in data.sorted() {
                let value = Zeroizing::new(plain(value));
                let text = str::from_utf8(&value).unwrap_or_default();
                escaped(name, true, &mut out);
                out.push(b'=');
                escaped(text, false, &mut out);
                out.push(b'\n');
            }
        }
        Format::Yaml => {
            for (name, value) in data.sorted() {
                // A JSON string is a double-quoted YAML scalar, JSON a YAML flow value.
                write_string(name, &mut out);
                out.extend_from_slice(b": ");
                value.write_compact(&mut out);
                out.push(b'\n');
            }
            if out.is_empty() {
                out.extend_from_slice(b"{}\n");
            }
        }
    }
    Ok(out)
}

/// `NAME='value'`: a shell, docker compose and the dotenv libraries take single quotes literally. A
/// quote inside is closed, escaped and opened again, which is the shell's way; values that hold none,
/// nearly all, read the same everywhere.
fn dotenv(name: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), RenderError> {
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first || !letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(RenderError::DoesNotFit { field: name.to_owned(), format: "dotenv" });
    }
    if value.contains(&0) {
        return Err(RenderError::DoesNotFit { field: name.to_owned(), format: "dotenv" });
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    for byte in value {
        if *byte == b'\'' {
            out.extend_from_slice(b"'\\''");
        } else {
            out.push(*byte);
        }
    }
    out.extend_from_slice(b"'\n");
    Ok(())
}

/// The escapes of `java.util.Properties`; characters beyond ASCII by their four hex digits, so that the
/// file reads the same in ISO 8859-1 (before Java 9) and UTF-8.
/// <https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/util/Properties.html#load(java.io.Reader)>
fn escaped(text: &str, key: bool, out: &mut Vec<u8>) {
    let mut leading = true;
    for character in text.chars() {
        match character {
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            ' ' if key || leading => out.extend_from_slice(b"\\ "),
            '=' | ':' | '#' | '!' => out.extend_from_slice(&[b'\\', character as u8]),
            ' '..='~' => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
        leading = leading && character == ' ';
    }
}
