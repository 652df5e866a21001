//! The demo.

/// Not built yet.
///
/// # Errors
/// Always.
pub fn run(_: &crate::cli::DemoOptions) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
