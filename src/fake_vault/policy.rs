//! ACL policies in Vault's JSON form: `{"path":{"secret/data/*":{"capabilities":["read"]}}}`.
//! <https://developer.hashicorp.com/vault/docs/concepts/policies>

use serde_json::Value;

/// One rule of a policy.
#[derive(Clone)]
struct Rule {
    path: String,
    capabilities: Vec<String>,
}

/// A policy.
#[derive(Clone)]
pub(super) struct Policy(Vec<Rule>);

impl Policy {
    /// Reads the JSON form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let paths = value.get("path")?.as_object()?;
        let rules = paths.iter().map(|(path, rule)| {
            let capabilities = rule.get("capabilities")?.as_array()?.iter();
            let capabilities = capabilities.map(|had| had.as_str().map(str::to_owned));
            Some(Rule { path: path.clone(), capabilities: capabilities.collect::<Option<_>>()? })
        });
        rules.collect::<Option<_>>().map(Self)
    }

    /// What every token may do.
    pub(super) fn default_policy() -> Self {
        let rule = |path: &str, capability: &str| Rule {
            path: path.to_owned(),
            capabilities: vec![capability.to_owned()],
        };
        Self(vec![
            rule("auth/token/lookup-self", "read"),
            rule("auth/token/renew-self", "update"),
            rule("auth/token/revoke-self", "update"),
            rule("sys/leases/renew", "update"),
            rule("sys/leases/lookup", "update"),
        ])
    }

    /// Whether a path in the mount `prefix` is named: enough to be told of the mount.
    pub(super) fn touches(&self, prefix: &str) -> bool {
        self.0.iter().any(|rule| {
            let plain = rule.path.trim_end_matches('*');
            !rule.capabilities.iter().any(|had| had == "deny")
                && (plain.starts_with(prefix) || (plain != rule.path && prefix.starts_with(plain)))
        })
    }
}

/// Whether `policies` allow `capability` at `path`: the most specific rule decides.
pub(super) fn allows(policies: &[&Policy], path: &str, capability: &str) -> bool {
    let fitting =
        policies.iter().flat_map(|policy| &policy.0).filter(|rule| fits(&rule.path, path));
    let fitting: Vec<&Rule> = fitting.collect();
    let Some(best) = fitting.iter().map(|rule| weight(&rule.path)).max() else { return false };
    let mut said = fitting.iter().filter(|rule| weight(&rule.path) == best);
    let denied = said.clone().any(|rule| rule.capabilities.iter().any(|had| had == "deny"));
    !denied && said.any(|rule| rule.capabilities.iter().any(|had| had == capability))
}

/// An exact path before a pattern, a longer one before a shorter one.
fn weight(rule: &str) -> (bool, usize) {
    let exact = !rule.ends_with('*') && !rule.split('/').any(|part| part == "+");
    (exact, rule.trim_end_matches('*').len())
}

fn fits(rule: &str, path: &str) -> bool {
    let (rule, open) = match rule.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (rule, false),
    };
    let mut parts = path.split('/');
    let mut wanted = rule.split('/').peekable();
    while let Some(want) = wanted.next() {
        let Some(part) = parts.next() else { return false };
        let last = wanted.peek().is_none();
        let here = want == "+" || want == part || (last && open && part.starts_with(want));
        if !here {
            return false;
        }
    }
    open || parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_decides() {
        let policy = Policy::parse(
            r#"{"path":{"kv/data/*":{"capabilities":["read"]},"kv/data/x":{"capabilities":["deny"]},"kv/+/y/z":{"capabilities":["list"]}}}"#,
        )
        .unwrap();
        let may = |path: &str, capability: &str| allows(&[&policy], path, capability);
        assert!(may("kv/data/app", "read") && may("kv/data/a/b", "read"));
        assert!(!may("kv/data/x", "read"), "denied");
        assert!(!may("kv/data/app", "update") && !may("kv/metadata/app", "read"));
        assert!(may("kv/q/y/z", "list") && !may("kv/q/y", "list"));
        assert!(policy.touches("kv/") && !policy.touches("pki/"));
        assert!(Policy::parse("path \"x\" {}").is_none(), "HCL is refused");
    }
}
