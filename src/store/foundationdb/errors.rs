//! What FoundationDB's error codes mean for a transaction.
//!
//! A code means one thing to a read, which changes nothing, and another to a commit, which may have landed.

use ::foundationdb::FdbError;

use super::Error;

const TIMED_OUT: i32 = 1004;
const TRANSACTION_TOO_OLD: i32 = 1007;
const FUTURE_VERSION: i32 = 1009;
const NOT_COMMITTED: i32 = 1020;
const COMMIT_UNKNOWN_RESULT: i32 = 1021;
const TRANSACTION_CANCELLED: i32 = 1025;
const TRANSACTION_TIMED_OUT: i32 = 1031;
const CLUSTER_VERSION_CHANGED: i32 = 1039;
const OPERATION_CANCELLED: i32 = 1101;
/// Codes from here to below 3000 say that the client was used wrongly: nothing was sent.
const USE: std::ops::Range<i32> = 2000..3000;

/// Of a read or a read version.
pub(super) fn of_read(error: FdbError) -> Error {
    match error.code() {
        // Of a commit they would say more; a read has nothing that could land.
        COMMIT_UNKNOWN_RESULT | CLUSTER_VERSION_CHANGED | TIMED_OUT => again(error),
        _ => known(error).unwrap_or_else(|| other(error)),
    }
}

/// Of a commit that was handed to the client. Whatever is not known for certain not to have landed counts as unknown.
pub(super) fn of_commit(error: FdbError) -> Error {
    if let Some(known) = known(error) {
        return known;
    }
    if error.code() == TIMED_OUT {
        return Error::TimedOut;
    }
    let cannot_land = error.is_retryable_not_committed() || USE.contains(&error.code());
    if cannot_land { other(error) } else { Error::CommitUnknown }
}

/// The codes that mean the same to both.
fn known(error: FdbError) -> Option<Error> {
    Some(match error.code() {
        TRANSACTION_TOO_OLD => Error::TooOld,
        FUTURE_VERSION => Error::FutureVersion,
        NOT_COMMITTED => Error::Conflict,
        COMMIT_UNKNOWN_RESULT | CLUSTER_VERSION_CHANGED => Error::CommitUnknown,
        TRANSACTION_CANCELLED | OPERATION_CANCELLED => Error::Cancelled,
        TRANSACTION_TIMED_OUT => Error::TimedOut,
        _ => return None,
    })
}

fn other(error: FdbError) -> Error {
    Error::FoundationDb {
        code: error.code(),
        message: error.message(),
        retryable: error.is_retryable(),
    }
}

fn again(error: FdbError) -> Error {
    Error::FoundationDb { code: error.code(), message: error.message(), retryable: true }
}

/// Whether the client gave up because nobody answered in time.
pub(super) fn is_silence(error: FdbError) -> bool {
    matches!(error.code(), TRANSACTION_TIMED_OUT | TIMED_OUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: i32) -> Error {
        of_read(FdbError::from_code(code))
    }

    fn commit(code: i32) -> Error {
        of_commit(FdbError::from_code(code))
    }

    #[test]
    fn a_commit_is_refused_for_certain_or_counts_as_unknown() {
        assert!(matches!(commit(NOT_COMMITTED), Error::Conflict));
        assert!(matches!(commit(TRANSACTION_TOO_OLD), Error::TooOld));
        assert!(matches!(commit(2101), Error::FoundationDb { code: 2101, retryable: false, .. }));
        // commit_proxy_memory_limit_exceeded
        assert!(matches!(commit(1042), Error::FoundationDb { code: 1042, retryable: true, .. }));
        for code in [
            TIMED_OUT,
            COMMIT_UNKNOWN_RESULT,
            TRANSACTION_CANCELLED,
            TRANSACTION_TIMED_OUT,
            CLUSTER_VERSION_CHANGED,
            OPERATION_CANCELLED,
            // broken_promise, internal_error: whatever they say, they do not say that it did not land.
            1100,
            4100,
        ] {
            assert!(commit(code).maybe_committed(), "{code}: {:?}", commit(code));
        }
    }

    #[test]
    fn a_read_never_says_that_a_commit_is_unknown() {
        assert!(matches!(read(FUTURE_VERSION), Error::FutureVersion));
        assert!(matches!(read(TRANSACTION_TIMED_OUT), Error::TimedOut));
        for code in [TIMED_OUT, COMMIT_UNKNOWN_RESULT, CLUSTER_VERSION_CHANGED] {
            assert!(matches!(read(code), Error::FoundationDb { retryable: true, .. }), "{code}");
        }
        let refused = read(2004);
        assert!(!refused.is_retryable(), "{refused:?}");
        assert!(refused.to_string().contains("outside"), "{refused}");
    }
}
