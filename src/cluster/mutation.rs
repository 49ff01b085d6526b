//! Deliberate mistakes, to prove that the tests would notice them.
//!
//! Each is one of the mutations of the protocol's section 3, or one that a command about
//! documents could make as well: switched on, a scenario or a seed of the simulation must fail. Outside test builds there is
//! no way to make any [`Mutations`] but the default, in which none is on.

macro_rules! mutations {
    ($($(#[$doc:meta])* $variant:ident => $field:ident,)*) => {
        /// One deliberate mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutation {
            $($(#[$doc])* $variant,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        /// Which mistakes are made. By default none.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
        pub struct Mutations {
            $($(#[$doc])* pub(crate) $field: bool,)*
        }

        impl Mutations {
            /// These mistakes and no others.
            #[cfg(any(test, feature = "mutations"))]
            #[must_use]
            pub fn of(chosen: &[Mutation]) -> Self {
                Self { $($field: chosen.contains(&Mutation::$variant),)* }
            }
        }
    };
}

mutations! {
    /// Data transactions do not add the fences to their read conflicts.
    NoFenceConflict => no_fence_conflict,
    /// The follower writes seen and witnesses at once, without waiting for
    /// stopped work and without a busy row.
    WitnessBeforeDrain => witness_before_drain,
    /// The flip trusts a barrier that an earlier transaction evaluated.
    BarrierInEarlierTransaction => barrier_in_earlier_transaction,
    /// The purge looks its bucket up by name.
    PurgeByName => purge_by_name,
    /// Eviction does not read the heartbeat counter again.
    EvictWithoutCounter => evict_without_counter,
    /// Shard work does not read owner and epoch of its shard.
    WorkersIgnoreEpoch => workers_ignore_epoch,
    /// The follower commits without reading its member row and its shards.
    FollowerIgnoresMembership => follower_ignores_membership,
    /// A cached handle is taken as valid whatever the metadata version says.
    LevelOneIgnoresMetadataVersion => level_one_ignores_metadata_version,
    /// Seen and witnesses are set to the journal's head, not to what was applied.
    SeenIsJournalHead => seen_is_journal_head,
    /// The barrier does not look at busy rows.
    BusyRowsIgnored => busy_rows_ignored,
    /// The flip reads removal and fence by snapshot.
    FlipIgnoresRemovalAndFence => flip_ignores_removal_and_fence,
    /// The flip reads the busy range by snapshot.
    FlipIgnoresBusyRange => flip_ignores_busy_range,
    /// RESTORE leaves the purge request behind.
    RequestSurvivesRestore => request_survives_restore,
    /// The barrier asks only members that own a shard.
    MembersWithoutShardsIgnored => members_without_shards_ignored,
    /// An absent fence counts as equal to what was cached.
    AbsentFenceEquals => absent_fence_equals,
    /// COMMIT takes an unknown result for a conflict and does not look.
    UnknownIsNotCommitted => unknown_is_not_committed,
    /// UPDATE and DELETE look for their documents without conflict.
    ChangesSearchBySnapshot => changes_search_by_snapshot,
    /// DELETE keeps documents as long as the server says, whatever its RETAIN says.
    DeleteIgnoresRetain => delete_ignores_retain,
    /// DELETE keeps documents as long as the server says, whatever the bucket says.
    DeleteIgnoresBucketRetention => delete_ignores_bucket_retention,
    /// A changed setting of a bucket leaves the handles on it as they were.
    SettingsLeaveHandles => settings_leave_handles,
    /// UNDELETE does not ask unique indexes.
    UndeleteIgnoresUnique => undelete_ignores_unique,
    /// UNDELETE brings back what has expired.
    UndeleteFindsExpired => undelete_finds_expired,
    /// EXPUNGE destroys what a replica has not heard of.
    ExpungeIgnoresReplicas => expunge_ignores_replicas,
    /// EXPUNGE does not guard that what it destroys is still there.
    ExpungeHoldsNothing => expunge_holds_nothing,
    /// What has expired is destroyed though a replica has not heard of it.
    VacuumIgnoresReplicas => vacuum_ignores_replicas,
    /// What has expired is destroyed, and the floor is not raised.
    VacuumForgetsFloor => vacuum_forgets_floor,
    /// TTL goes by the clock of the member that does it.
    TtlByOwnClock => ttl_by_own_clock,
    /// TTL deletes though all destruction is paused.
    TtlIgnoresPause => ttl_ignores_pause,
    /// A swap does not wait for the last changes of its source.
    SwapIgnoresTail => swap_ignores_tail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_no_mistake_is_made() {
        assert_eq!(Mutations::default(), Mutations::of(&[]));
        assert_eq!(Mutation::ALL.len(), 29);
        for mutation in Mutation::ALL {
            assert_ne!(Mutations::of(&[*mutation]), Mutations::default(), "{mutation:?}");
        }
    }
}
