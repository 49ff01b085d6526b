use bytes::Bytes;

/// Words of a request that need no allocation: names with a few options, the common case.
const INLINE: usize = 6;

/// One request: its words as ranges of one shared piece of memory.
///
/// Words taken out with [`Words::bytes`] keep the whole request alive, so what is
/// stored for longer than the command runs is copied instead.
#[derive(Clone, Debug, Default)]
pub struct Words {
    frame: Bytes,
    ranges: Ranges,
}

/// Start and end of each word within the frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    len: usize,
    first: [(u32, u32); INLINE],
    rest: Vec<(u32, u32)>,
}

impl Ranges {
    pub(super) const fn new() -> Self {
        Self { len: 0, first: [(0, 0); INLINE], rest: Vec::new() }
    }

    /// Frames are at most 1 GiB (see [`super::Limits`]), so that positions fit.
    pub(super) fn push(&mut self, start: usize, end: usize) {
        let at = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
        let range = (at(start), at(end));
        match self.first.get_mut(self.len) {
            Some(slot) => *slot = range,
            None => self.rest.push(range),
        }
        self.len += 1;
    }

    fn get(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        let range = match self.first.get(index) {
            Some(range) => range,
            None => self.rest.get(index - INLINE)?,
        };
        Some((range.0 as usize, range.1 as usize))
    }
}

impl Words {
    pub(super) fn new(frame: Bytes, ranges: Ranges) -> Self {
        Self { frame, ranges }
    }

    /// A request made of these words, for tests and for callers without a socket.
    pub fn from_words<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> Self {
        let mut frame = Vec::new();
        let mut ranges = Ranges::default();
        for word in words {
            let start = frame.len();
            frame.extend_from_slice(word.as_ref());
            ranges.push(start, frame.len());
        }
        Self { frame: Bytes::from(frame), ranges }
    }

    /// How many words there are, the command's name included.
    pub fn len(&self) -> usize {
        self.ranges.len
    }

    /// Whether there is no word at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.len == 0
    }

    /// The same request with its first words only; [`Words::len`] still tells how many there are.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let Ranges { len, first, rest } = &self.ranges;
        let rest = rest.iter().take(count.saturating_sub(INLINE)).copied().collect();
        let ranges = Ranges { len: *len, first: *first, rest };
        Self { frame: self.frame.clone(), ranges }
    }

    /// The word at `index`, where 0 is the command's name.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (start, end) = self.ranges.get(index)?;
        self.frame.get(start..end)
    }

    /// The word at `index` without copying it; it keeps the memory of the whole request.
    pub fn bytes(&self, index: usize) -> Option<Bytes> {
        Some(self.frame.slice_ref(self.get(index)?))
    }

    /// All words in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}
