//! What every test that ends with a store can ask: is it in order?

use lethe::check::{self, Severity};
use lethe::store::Store;

/// Fails with all findings unless the store is in order. Warnings do not
/// count: they are what the cluster sweeps sooner or later.
pub(crate) async fn assert_clean(store: &Store) {
    let findings = check::all(store).await.expect("the store can be read");
    let errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Error)
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "the store is not in order:\n  {}", errors.join("\n  "));
}
