use std::fmt;

/// What somebody may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Right {
    /// See documents, buckets and namespaces.
    Read,
    /// Make and change them.
    Write,
    /// Delete documents, remove buckets and namespaces; all of it can be restored.
    Remove,
    /// See what is removed, and bring it back.
    Restore,
    /// The same with what one has removed oneself.
    RestoreOwn,
    /// Destroy for good what is removed.
    Purge,
    /// Hold and protect: forbid removal and purge.
    Hold,
    /// Run the server; in a namespace: restore and hold.
    Admin,
}

impl Right {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Remove,
        Self::Restore,
        Self::RestoreOwn,
        Self::Purge,
        Self::Hold,
        Self::Admin,
    ];

    /// As rules name it behind `+@`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
            Self::Restore => "restore",
            Self::RestoreOwn => "restore-own",
            Self::Purge => "purge",
            Self::Hold => "hold",
            Self::Admin => "admin",
        }
    }

    /// Reads a name in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name().eq_ignore_ascii_case(name))
    }

    const fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u16);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// Every right.
    pub const ALL: Self = Self((1 << Right::ALL.len()) - 1);

    /// Adds one.
    pub const fn insert(&mut self, right: Right) {
        self.0 |= right.bit();
    }

    /// Takes one away.
    pub const fn remove(&mut self, right: Right) {
        self.0 &= !right.bit();
    }

    /// Whether this one was given.
    #[must_use]
    pub const fn contains(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Whether these allow it: an administrator restores and holds, and who restores
    /// everything restores his own.
    #[must_use]
    pub const fn allow(self, right: Right) -> bool {
        self.contains(right)
            || match right {
                Right::Restore | Right::Hold => self.contains(Right::Admin),
                Right::RestoreOwn => self.contains(Right::Restore) || self.contains(Right::Admin),
                _ => false,
            }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that were given, in order.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.contains(*right))
    }
}

/// Where a right is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this namespace.
    Namespace(String),
    /// In this namespace and in all below it.
    Tree(String),
    /// To know of this namespace: any right in it will do, and any below it.
    Seen(String),
    /// In all namespaces: also for what is in none, such as the server itself.
    Everywhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(path) | Self::Seen(path) => write!(f, " in namespace '{path}'"),
            Self::Tree(path) => write!(f, " in namespace '{path}' and all below it"),
            Self::Everywhere => Ok(()),
        }
    }
}

/// One thing that a command needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub right: Right,
    pub place: Place,
    /// What the command is for, so that a rule that allows the command gives it. What only
    /// an option of it needs takes the right itself.
    pub own: bool,
}

impl Need {
    /// What a command is for.
    #[must_use]
    pub const fn of(right: Right, place: Place) -> Self {
        Self { right, place, own: true }
    }

    /// What an option of a command needs besides.
    #[must_use]
    pub const fn besides(right: Right, place: Place) -> Self {
        Self { right, place, own: false }
    }
}
