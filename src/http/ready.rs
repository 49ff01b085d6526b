//! Whether clients should be sent here.

use std::time::Duration;

use crate::command::Services;
use crate::error::Error;
use crate::store::Transaction;

/// How long the store may take to answer one read.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// Ready is who is a member, follows the journal, and reaches the store: reading, by one read now, and
/// writing, by its last heartbeat. The error says what is missing.
pub(super) async fn check(services: &Services) -> Result<(), String> {
    if services.is_leaving() || services.is_stopping() {
        return Err("the node is stopping".to_owned());
    }
    let Ok(lifecycle) = services.lifecycle() else {
        return Err("the node is starting".to_owned());
    };
    lifecycle.catalog().store().writable().map_err(|error| error.to_string())?;
    let cluster = lifecycle.catalog().cluster();
    let progress = cluster.progress();
    if progress.ended {
        return Err("the node is no member of its cluster any more".to_owned());
    }
    let Some(silent) = progress.beat_ago else {
        return Err("the node has not followed the journal yet".to_owned());
    };
    if silent >= cluster.options().silent_after {
        let seconds = silent.as_secs();
        return Err(format!("the store has taken no heartbeat of the node for {seconds} s"));
    }
    let read = lifecycle.catalog().read("ready", |txn: Transaction| async move {
        let txn = &txn;
        Ok::<(), Error>(cluster.check_member(txn).await?)
    });
    match tokio::time::timeout(STORE_TIMEOUT, read).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the store answers: {error}")),
        Err(_elapsed) => Err(format!("the store does not answer within {STORE_TIMEOUT:?}")),
    }
}
