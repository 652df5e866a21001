//! What files show of an answer, and what stops them.

use std::collections::BTreeMap;
use std::process::Command;

use super::*;
use crate::secret::request::SecretRequest;

fn file(field: Field, format: Format, encoding: Encoding) -> FileSpec {
    FileSpec {
        name: "f".into(),
        secret: SecretRequest::read("kv/app"),
        field,
        format,
        encoding,
        mode: 0o444,
        uid: 0,
        gid: 0,
        refresh: None,
    }
}

fn show(
    field: Field,
    format: Format,
    encoding: Encoding,
    body: &str,
) -> Result<Rendered, RenderError> {
    let response = SecretResponse::parse(SecretBytes::new(body.into()), true).unwrap();
    render(&file(field, format, encoding), &response)
}

fn text(rendered: Result<Rendered, RenderError>) -> String {
    match rendered.unwrap_or_else(|error| panic!("{error}")) {
        Rendered::File(bytes) => String::from_utf8(bytes.expose().clone()).unwrap(),
        Rendered::Folder(_) => panic!("a folder"),
    }
}

fn failure(rendered: Result<Rendered, RenderError>) -> RenderError {
    rendered.err().expect("it was rendered")
}

const BODY: &str = r#"{"lease_id":"","data":{"data":{"b":"it's","a":1.50,"c":{"z":1,"y":["<&>"]},"n":null},"metadata":{"version":3}}}"#;

#[test]
fn json_is_compact_sorted_and_keeps_numbers() {
    let shown = text(show(Field::All, Format::Json, Encoding::Plain, BODY));
    assert_eq!(shown, r#"{"a":1.50,"b":"it's","c":{"y":["<&>"],"z":1},"n":null}"#);
}

#[test]
fn raw_is_the_whole_answer_byte_for_byte() {
    assert_eq!(text(show(Field::All, Format::Raw, Encoding::Plain, BODY)), BODY);
}

#[test]
fn a_field_is_shown_as_it_is() {
    let field =
        |name: &str| text(show(Field::One(name.into()), Format::Json, Encoding::Plain, BODY));
    assert_eq!(field("b"), "it's");
    assert_eq!(field("a"), "1.50");
    assert_eq!(field("c"), r#"{"y":["<&>"],"z":1}"#);
    assert_eq!(field("n"), "");
}

#[test]
fn a_shell_reads_a_dotenv_file_back() {
    let values = ["plain", "it's", "a b\"c`d$(x)\\", "two\nlines", "ünïcode", ""];
    let fields: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, value)| format!("\"V{at}\":{}", serde_json::to_string(value).unwrap()))
        .collect();
    let body = format!(r#"{{"data":{{"data":{{{}}}}}}}"#, fields.join(","));
    let shown = text(show(Field::All, Format::Dotenv, Encoding::Plain, &body));
    let script = format!("{shown}\nprintf '%s\\0' \"$V0\" \"$V1\" \"$V2\" \"$V3\" \"$V4\" \"$V5\"");
    let read = Command::new("sh").arg("-c").arg(script).output().unwrap();
    let read = String::from_utf8(read.stdout).unwrap();
    assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), values);
}

#[test]
fn a_yaml_reader_reads_a_yaml_file_back() {
    use saphyr::{LoadableYamlNode as _, Yaml};
    let shown = text(show(Field::All, Format::Yaml, Encoding::Plain, BODY));
    let documents = Yaml::load_from_str(&shown).unwrap();
    let read = documents.first().unwrap();
    assert_eq!(read.as_mapping_get("b").and_then(Yaml::as_str), Some("it's"));
    let inner = read.as_mapping_get("c").and_then(|c| c.as_mapping_get("z"));
    assert_eq!(inner.and_then(Yaml::as_integer), Some(1));
    let empty = text(show(Field::All, Format::Yaml, Encoding::Plain, r#"{"data":{"data":{}}}"#));
    assert_eq!(empty, "{}\n");
}

#[test]
fn properties_escape_what_java_would_misread() {
    let body = r##"{"data":{"data":{"a b":" x=1:#!","é":"\\n\n😀"}}}"##;
    let shown = text(show(Field::All, Format::Properties, Encoding::Plain, body));
    // By hand, from the grammar in the documentation of java.util.Properties.load.
    assert_eq!(shown, "a\\ b=\\ x\\=1\\:\\#\\!\n\\u00e9=\\\\n\\n\\ud83d\\ude00\n");
}

#[test]
fn a_folder_has_a_file_per_field() {
    match show(Field::Each, Format::Json, Encoding::Plain, BODY).unwrap_or_else(|e| panic!("{e}")) {
        Rendered::Folder(files) => {
            let shown: BTreeMap<_, _> = files
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.expose().as_slice()))
                .collect();
            assert_eq!(shown.keys().copied().collect::<Vec<_>>(), ["a", "b", "c", "n"]);
            assert_eq!(shown["b"], b"it's");
        }
        Rendered::File(_) => panic!("a file"),
    }
}

#[test]
fn base64_gives_bytes_that_need_not_be_text() {
    let body = r#"{"data":{"data":{"key":"/wD+\n","bad":"no!"}}}"#;
    let show = |field: &str| show(Field::One(field.into()), Format::Json, Encoding::Base64, body);
    match show("key").unwrap_or_else(|error| panic!("{error}")) {
        Rendered::File(bytes) => assert_eq!(bytes.expose(), &[0xff, 0x00, 0xfe]),
        Rendered::Folder(_) => panic!("a folder"),
    }
    assert_eq!(failure(show("bad")), RenderError::NotBase64 { field: "bad".into() });
}

#[test]
fn what_cannot_be_shown_says_why_and_never_what() {
    let missing = failure(show(Field::One("x".into()), Format::Json, Encoding::Plain, BODY));
    assert_eq!(missing.to_string(), r#"the secret has no field "x"; it has a, b, c, n"#);
    let deleted = r#"{"data":{"data":null,"metadata":{"version":4}}}"#;
    assert_eq!(
        failure(show(Field::All, Format::Json, Encoding::Plain, deleted)),
        RenderError::NoData
    );
    let slash = r#"{"data":{"data":{"a/b":"canary"}}}"#;
    let error = failure(show(Field::Each, Format::Json, Encoding::Plain, slash));
    assert_eq!(error, RenderError::FieldName { field: "a/b".into() });
    let dash = r#"{"data":{"data":{"a-b":"canary"}}}"#;
    let error = failure(show(Field::All, Format::Dotenv, Encoding::Plain, dash));
    assert_eq!(error, RenderError::DoesNotFit { field: "a-b".into(), format: "dotenv" });
    let list = r#"{"data":{"data":["canary"]}}"#;
    let error = failure(show(Field::All, Format::Json, Encoding::Plain, list));
    assert!(!format!("{error} {error:?}").contains("canary"));
    let many: Vec<String> = (0..=MAX_FIELDS).map(|at| format!("\"k{at}\":1")).collect();
    let many = format!(r#"{{"data":{{"data":{{{}}}}}}}"#, many.join(","));
    let error = failure(show(Field::Each, Format::Json, Encoding::Plain, &many));
    assert_eq!(error, RenderError::TooMany { count: MAX_FIELDS + 1 });
}
