//! The parser against serde_json, and what is kept that serde_json loses.

use proptest::prelude::*;

use super::*;

fn compact(text: &str) -> String {
    let mut out = Vec::new();
    Json::parse(text.as_bytes()).ok().unwrap().write_compact(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn numbers_keep_their_text_and_keys_are_sorted() {
    assert_eq!(
        compact(r#" {"b": 1.50, "a": 12345678901234567890, "c": [1e+08, -0, null, true]} "#),
        r#"{"a":12345678901234567890,"b":1.50,"c":[1e+08,-0,null,true]}"#
    );
    assert_eq!(compact(r#"{"a":1,"a":2}"#), r#"{"a":2}"#, "the last of equal keys counts");
}

#[test]
fn strings_are_escaped_as_go_does_without_html() {
    assert_eq!(
        compact(r#""<a&b> \u2028 \u0001 \/ \ud83d\ude00 \ud83d \"""#),
        "\"<a&b> \\u2028 \\u0001 / \u{1f600} \u{fffd} \\\"\""
    );
}

#[test]
fn what_is_not_json_is_told_by_place_only() {
    for (text, at) in [
        ("", 0),
        ("{\"canary\":}", 10),
        ("[1,]", 3),
        ("[1 2]", 4),
        ("01", 1),
        ("1.", 2),
        ("\"canary", 7),
        ("nul", 0),
        ("{} x", 3),
        ("\"\\x\"", 3),
    ] {
        let error = Json::parse(text.as_bytes()).err().unwrap();
        assert_eq!(error.at, at, "{text}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    assert!(Json::parse(b"\"\xff\"").is_err());
    assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err(), "bounded in depth");
    assert!(Json::parse(format!("{}{}", "[".repeat(60), "]".repeat(60)).as_bytes()).is_ok());
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC*".prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(value in any_json()) {
        let mut out = Vec::new();
        Json::parse(value.to_string().as_bytes()).ok().unwrap().write_compact(&mut out);
        let again: serde_json::Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(again, value);
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let ours = Json::parse(&bytes).is_ok();
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
        // serde_json refuses numbers that are out of range and lone surrogates; we keep their text.
        prop_assert!(ours || !theirs);
    }
}
