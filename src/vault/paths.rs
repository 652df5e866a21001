//! Where a request goes: paths under `/v1/`, the `data/` of KV 2, percent-encoding.

use std::collections::BTreeMap;

use reqwest::Url;

use crate::secret::store::Mount;

/// The URL of `path` below an address, which may have a path prefix of its own.
pub(super) fn url(address: &str, path: &str, query: &BTreeMap<String, String>) -> Option<Url> {
    let mut url = Url::parse(address).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().push("v1").extend(path.split('/'));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Some(url)
}

/// The path of a read: KV 2 wants `data/` after its mount, which people may leave out. Tells whether it is
/// KV 2 data.
pub(super) fn read(mount: &Mount, path: &str) -> (String, bool) {
    if !mount.kv2 {
        return (path.to_owned(), false);
    }
    let Some(rest) = path.strip_prefix(&mount.path) else {
        return (path.to_owned(), false);
    };
    match rest.strip_prefix("data/") {
        Some(_) => (path.to_owned(), true),
        None => (format!("{}data/{rest}", mount.path), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv2() -> Mount {
        Mount { path: "team/secret/".into(), kv2: true }
    }

    #[test]
    fn data_is_put_in_where_it_is_missing() {
        assert_eq!(read(&kv2(), "team/secret/app"), ("team/secret/data/app".into(), true));
        assert_eq!(read(&kv2(), "team/secret/data/app"), ("team/secret/data/app".into(), true));
        assert_eq!(read(&kv2(), "team/secret/dataset"), ("team/secret/data/dataset".into(), true));
        let kv1 = Mount { path: "kv/".into(), kv2: false };
        assert_eq!(read(&kv1, "kv/app"), ("kv/app".into(), false));
    }

    #[test]
    fn urls_keep_prefixes_and_escape_what_must_be() {
        let none = BTreeMap::new();
        let at = |address: &str, path: &str| url(address, path, &none).unwrap().to_string();
        assert_eq!(at("https://v:8200", "kv/a b?c#d"), "https://v:8200/v1/kv/a%20b%3Fc%23d");
        assert_eq!(at("https://v/proxy", "kv/x"), "https://v/proxy/v1/kv/x");
        assert_eq!(at("https://v/proxy/", "kv/%2e"), "https://v/proxy/v1/kv/%252e");
        let version = BTreeMap::from([("version".to_owned(), "3".to_owned())]);
        assert_eq!(
            url("http://v", "kv/x", &version).unwrap().as_str(),
            "http://v/v1/kv/x?version=3"
        );
    }
}
