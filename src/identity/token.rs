//! [`ServiceAccountTokens`]: the pod's own tokens, as kubelet passes them (`tokenRequests`).
//!
//! They are read from kubelet's JSON once and never printed; their content is not looked into: Vault
//! checks them, we only need to know until when they are good.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::redact::SecretText;

/// A service-account token of one audience.
#[derive(Clone)]
pub struct ServiceAccountToken {
    /// The JWT.
    pub jwt: SecretText,
    /// `expirationTimestamp` that kubelet gave with it.
    pub expires: SystemTime,
}

/// The tokens of one pod, by audience.
#[derive(Clone, Default)]
pub struct ServiceAccountTokens(BTreeMap<String, ServiceAccountToken>);

/// What is wrong with kubelet's JSON; never what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// Not the JSON that kubelet writes.
    #[error("not the JSON object of audiences that kubelet writes")]
    Shape,
    /// A time that is not RFC 3339.
    #[error("an expirationTimestamp is not an RFC 3339 time")]
    Time,
}

#[derive(Deserialize)]
struct Wire {
    token: String,
    #[serde(rename = "expirationTimestamp")]
    expires: String,
}

impl ServiceAccountTokens {
    /// Reads `{"vault":{"token":"…","expirationTimestamp":"2026-11-24T13:00:00Z"}}`.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(json: &SecretText) -> Result<Self, TokensError> {
        let wire: BTreeMap<String, Wire> =
            serde_json::from_str(json.expose()).map_err(|_| TokensError::Shape)?;
        let tokens = wire.into_iter().map(|(audience, wire)| {
            let jwt = SecretText::new(wire.token);
            let expires = rfc3339(&wire.expires).ok_or(TokensError::Time)?;
            Ok((audience, ServiceAccountToken { jwt, expires }))
        });
        tokens.collect::<Result<_, _>>().map(Self)
    }

    /// Kubelet sent none.
    pub fn none() -> Self {
        Self::default()
    }

    /// The token for `audience`.
    pub fn audience(&self, audience: &str) -> Option<ServiceAccountToken> {
        self.0.get(audience).cloned()
    }

    /// The audiences that there are tokens for.
    pub fn audiences(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Reads an RFC 3339 time (`2026-11-24T13:00:00Z`, with fraction or offset); `None` when it is none.
pub fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) =
        (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    let clock = rest.get(..8)?;
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) =
        (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let last = *days.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year < 1970 || day == 0 || day > last || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = rest.get(8..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (sign, digits) = (zone.get(..1)?, zone.get(1..)?);
            let (hours, minutes) = digits.split_once(':')?;
            let seconds = number(hours, 2)? * 3600 + number(minutes, 2)? * 60;
            match sign {
                "+" => seconds,
                "-" => -seconds,
                _ => return None,
            }
        }
    };
    // Days since 1970-01-01, counting years from March so that the leap day comes last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn number(digits: &str, width: usize) -> Option<i64> {
    let plain = digits.len() == width && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        rfc3339(text)?.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
    }

    #[test]
    fn times_are_read() {
        // Right-hand sides from `date -u -d TEXT +%s`.
        for (text, wanted) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:30:15Z", 951_827_415),
            ("2026-11-24T13:00:00Z", 1_795_525_200),
            ("2026-11-24T13:00:00.123456Z", 1_795_525_200),
            ("2026-11-24T15:00:00+02:00", 1_795_525_200),
            ("2026-11-24T07:30:00-05:30", 1_795_525_200),
            ("2024-12-31T23:59:59Z", 1_735_689_599),
        ] {
            assert_eq!(seconds(text), Some(wanted), "{text}");
        }
        for text in [
            "",
            "2026-11-24",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-11-24T13:00:00",
            "x026-11-24T13:00:00Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_are_found_by_audience_and_errors_hold_nothing() {
        let json = r#"{"vault":{"token":"a","expirationTimestamp":"2026-11-24T13:00:00Z"},
            "":{"token":"b","expirationTimestamp":"2026-11-24T13:00:00Z"}}"#;
        let tokens = ServiceAccountTokens::parse(&SecretText::new(json.into())).ok().unwrap();
        assert_eq!(tokens.audiences(), ["", "vault"]);
        assert_eq!(tokens.audience("vault").unwrap().jwt.expose(), "a");
        assert!(tokens.audience("other").is_none());
        for bad in ["canary", "{\"vault\":\"canary\"}", "[]", "{\"v\":{\"token\":\"canary\"}}"] {
            let error = ServiceAccountTokens::parse(&SecretText::new(bad.into())).err().unwrap();
            assert_eq!(error, TokensError::Shape);
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        let bad = r#"{"v":{"token":"t","expirationTimestamp":"soon"}}"#;
        let error = ServiceAccountTokens::parse(&SecretText::new(bad.into())).err();
        assert_eq!(error, Some(TokensError::Time));
    }
}
