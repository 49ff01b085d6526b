use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What a client library says of itself (CLIENT SETINFO).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Library {
    /// `lib-name`
    pub name: Option<String>,
    /// `lib-ver`
    pub version: Option<String>,
}

#[derive(Debug, Default)]
struct Names {
    name: Option<String>,
    library: Library,
    /// Empty until somebody is known.
    user: String,
}

/// What everybody may know of a connection. Its own task alone writes the counters, so that counting
/// takes no lock and no atomic addition.
#[derive(Debug)]
pub struct Client {
    id: u64,
    address: SocketAddr,
    local_address: SocketAddr,
    connected: Instant,
    names: Mutex<Names>,
    /// Milliseconds after `connected`.
    last_active: AtomicU64,
    commands: AtomicU64,
    /// The place of the last command in the table of commands, plus 1.
    last_command: AtomicUsize,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    input_buffer: AtomicUsize,
    output_buffer: AtomicUsize,
    resp3: AtomicBool,
    no_evict: AtomicBool,
    no_touch: AtomicBool,
    killed: AtomicBool,
    /// The user has been changed since this was last looked at.
    changed: AtomicBool,
    alert: Arc<Notify>,
}

impl Client {
    /// Not in any list; [`Clients::connect`] makes one that is.
    pub fn new(id: u64, address: SocketAddr, local_address: SocketAddr) -> Self {
        Self {
            id,
            address,
            local_address,
            connected: Instant::now(),
            names: Mutex::default(),
            last_active: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            last_command: AtomicUsize::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            input_buffer: AtomicUsize::new(0),
            output_buffer: AtomicUsize::new(0),
            resp3: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            alert: Arc::default(),
        }
    }

    /// A number that no other client of this process has or will have.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Where it comes from.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which of our addresses it came to.
    pub const fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// CLIENT SETNAME; `None` takes the name away.
    pub fn set_name(&self, name: Option<String>) {
        self.names().name = name;
    }

    /// CLIENT GETNAME.
    pub fn name(&self) -> Option<String> {
        self.names().name.clone()
    }

    /// Who has logged in.
    pub fn set_user(&self, user: String) {
        self.names().user = user;
    }

    /// Who has logged in; empty where nobody has.
    pub fn user(&self) -> String {
        self.names().user.clone()
    }

    /// Tells the connection that what its user may do has changed.
    pub fn note_change_of_user(&self) {
        self.changed.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether that was told since this was last asked.
    pub fn take_change_of_user(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// CLIENT SETINFO.
    pub fn set_library(&self, library: Library) {
        self.names().library = library;
    }

    /// What CLIENT SETINFO said.
    pub fn library(&self) -> Library {
        self.names().library.clone()
    }

    /// The place of the last command in the table of commands.
    pub fn last_command(&self) -> Option<usize> {
        self.last_command.load(Ordering::Relaxed).checked_sub(1)
    }

    /// CLIENT NO-EVICT.
    pub fn set_no_evict(&self, on: bool) {
        self.no_evict.store(on, Ordering::Relaxed);
    }

    /// CLIENT NO-TOUCH.
    pub fn set_no_touch(&self, on: bool) {
        self.no_touch.store(on, Ordering::Relaxed);
    }

    /// Whether CLIENT NO-EVICT is on.
    pub fn no_evict(&self) -> bool {
        self.no_evict.load(Ordering::Relaxed)
    }

    /// Whether CLIENT NO-TOUCH is on.
    pub fn no_touch(&self) -> bool {
        self.no_touch.load(Ordering::Relaxed)
    }

    /// Which protocol version the session speaks.
    pub fn set_resp3(&self, on: bool) {
        self.resp3.store(on, Ordering::Relaxed);
    }

    /// 2 or 3.
    pub fn protocol_number(&self) -> u8 {
        if self.resp3.load(Ordering::Relaxed) { 3 } else { 2 }
    }

    /// Ends the connection, and whatever command it runs.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the connection is to end.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Makes the connection look up from what it waits for.
    pub fn wake(&self) {
        self.alert.notify_one();
    }

    /// Fires after [`Client::wake`] and [`Client::kill`]; for the connection's own task.
    pub fn alert(&self) -> Arc<Notify> {
        Arc::clone(&self.alert)
    }

    /// Notes commands, once for all that arrived together, and the place in the table of the last one.
    pub fn note_commands(&self, count: u64, last: Option<usize>, now: Instant) {
        add(&self.commands, count);
        self.note_active(now);
        if let Some(index) = last {
            self.last_command.store(index + 1, Ordering::Relaxed);
        }
    }

    /// Notes that something came from the client.
    pub fn note_active(&self, now: Instant) {
        let since = now.saturating_duration_since(self.connected);
        self.last_active
            .store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Notes bytes read and how many of them wait.
    pub fn note_input(&self, read: usize, buffered: usize) {
        add(&self.bytes_in, read as u64);
        self.input_buffer.store(buffered, Ordering::Relaxed);
    }

    /// Notes bytes written and how many wait.
    pub fn note_output(&self, written: usize, buffered: usize) {
        add(&self.bytes_out, written as u64);
        self.output_buffer.store(buffered, Ordering::Relaxed);
    }

    /// How long it has been connected.
    pub fn age(&self) -> Duration {
        self.connected.elapsed()
    }

    /// How long nothing has come from it.
    pub fn idle(&self) -> Duration {
        self.age().saturating_sub(Duration::from_millis(self.last_active.load(Ordering::Relaxed)))
    }

    /// Commands so far.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Bytes read and written so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed))
    }

    /// Bytes that wait to be understood, and replies that wait to be sent.
    pub fn buffers(&self) -> (usize, usize) {
        (self.input_buffer.load(Ordering::Relaxed), self.output_buffer.load(Ordering::Relaxed))
    }
}

/// For counters with one writer: an ordinary addition, without a lock on the memory.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Everybody who is connected to this node.
#[derive(Debug, Default)]
pub struct Clients {
    last_id: AtomicU64,
    /// What those who are gone have sent and got.
    gone_bytes_in: AtomicU64,
    gone_bytes_out: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new connection, unless `limit` are there already.
    pub fn connect(
        &self,
        limit: usize,
        address: SocketAddr,
        local_address: SocketAddr,
    ) -> Option<Arc<Client>> {
        let mut connected = self.lock();
        if connected.len() >= limit {
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, address, local_address));
        connected.insert(id, Arc::clone(&client));
        Some(client)
    }

    /// Takes a connection out of the list.
    pub fn disconnect(&self, id: u64) {
        let mut connected = self.lock();
        if let Some(client) = connected.remove(&id) {
            let (bytes_in, bytes_out) = client.traffic();
            add(&self.gone_bytes_in, bytes_in);
            add(&self.gone_bytes_out, bytes_out);
        }
    }

    /// Bytes read from and written to everybody, since the start.
    pub fn traffic(&self) -> (u64, u64) {
        let connected = self.lock();
        let gone = (
            self.gone_bytes_in.load(Ordering::Relaxed),
            self.gone_bytes_out.load(Ordering::Relaxed),
        );
        connected
            .values()
            .map(|client| client.traffic())
            .fold(gone, |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)))
    }

    /// Everybody, by id.
    pub fn list(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.lock().get(&id).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
