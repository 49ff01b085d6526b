//! Watches: a task for each compares, arms a watch of the client, waits, and begins again when the client loses it.
//!
//! Since it compares with the value that is to change each time before it waits, nothing is missed while a connection is
//! lost: what changed meanwhile is found by the comparison.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::watch::{Arming, Expected};
use super::{Error, FoundationDb, Result, errors};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Guards one watch until it has fired, is given up, or the store is closed.
pub(super) async fn guard(engine: Arc<FoundationDb>, mut arming: Arming, committed: Option<u64>) {
    let key = engine.prefix().full(&arming.key);
    let expected = std::mem::replace(&mut arming.expected, Expected::Unknown);
    let result = tokio::select! {
        () = arming.given_up() => return,
        // Without an answer a watch ends as cancelled.
        () = engine.closed() => return,
        result = changed(&engine, &key, expected, committed) => result,
    };
    arming.end(result);
}

async fn changed(
    engine: &FoundationDb,
    key: &[u8],
    expected: Expected,
    committed: Option<u64>,
) -> Result<()> {
    let expected = match (expected, committed) {
        (Expected::Value(value), _) => value,
        (Expected::Unknown, Some(version)) => match left_behind(engine, key, version).await {
            Ok(value) => value,
            // What the commit left cannot be told any more, so that the waiter has to look for itself.
            Err(_) => return Ok(()),
        },
        (Expected::Unknown, None) => return Ok(()),
    };
    let mut pause = PAUSE_MIN;
    loop {
        match wait(engine, key, expected.as_ref()).await {
            Ok(()) => return Ok(()),
            Err(error) if is_passing(&error) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Ends when the value is another.
async fn wait(engine: &FoundationDb, key: &[u8], expected: Option<&Bytes>) -> Result<()> {
    let transaction = engine.plain_transaction()?;
    engine.read_version(&transaction).await?;
    let value = transaction.get(key, true).await.map_err(errors::of_read)?;
    if value.as_deref() != expected.map(AsRef::as_ref) {
        return Ok(());
    }
    let watch = transaction.watch(key);
    // Reads only, so that nothing is sent; it arms the watch. The transaction and its timeout end here.
    drop(transaction.commit().await.map_err(|error| errors::of_read(*error))?);
    watch.await.map_err(errors::of_read)
}

/// The value right after the commit with this version.
async fn left_behind(engine: &FoundationDb, key: &[u8], version: u64) -> Result<Option<Bytes>> {
    let transaction = engine.transaction()?;
    transaction.set_read_version(i64::try_from(version).unwrap_or(i64::MAX));
    let value = transaction.get(key, true).await.map_err(errors::of_read)?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

/// Whether it is over once the servers are there again.
fn is_passing(error: &Error) -> bool {
    error.is_retryable() || matches!(error, Error::Unavailable(_))
}
