//! What the secrets hold: every byte follows from the secret's name, the field and the version, so that a reader
//! knows without asking anybody what Vault holds.

/// Files of a volume for first reads, a secret each.
pub const FRESH: usize = 24;

/// What a field holds in a version.
pub fn value(secret: &str, field: &str, version: u64) -> String {
    let head = format!("{secret} {field} {version} ");
    // More than one page; and sizes that differ from version to version.
    let size = if secret == "big" { 5000 } else { 200 + (version % 50) as usize };
    let mut state = head.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let filler = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + ((state >> 33) % 26) as u8)
    });
    let length = size - head.len();
    head.chars().chain(filler.take(length)).collect()
}

/// The version that these bytes are, if they are one, whole and of this field.
pub fn version(secret: &str, field: &str, bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let version = text.split(' ').nth(2)?.parse().ok()?;
    (value(secret, field, version).as_bytes() == bytes).then_some(version)
}
