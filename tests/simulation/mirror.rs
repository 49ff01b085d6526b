//! Replicas: clients that copy a bucket by its change log, slowly, with crashes
//! of the nodes that they talk to in between.
//!
//! A mirror registers, takes a snapshot, then applies changes and acknowledges
//! them. At the end it must be what the bucket is, or have been told to start anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lethe::resp::Reply;
use tokio::time::sleep;

use crate::cluster::{Claim, claim, field, line};
use crate::seat::Seat;
use crate::tally;

/// Short enough that some are over within a run.
const LEASE: &str = "20s";

/// What a replica holds.
#[derive(Debug, Default)]
struct Copy {
    /// The instance that it is of.
    id: String,
    /// Up to where it has applied the changes.
    sequence: String,
    documents: BTreeMap<String, String>,
}

/// One replica of what a name means.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub name: String,
    pub bucket: &'static str,
    /// `None`: it has to begin with a snapshot.
    copy: Arc<Mutex<Option<Copy>>>,
}

/// What keeps a mirror from going on; it starts anew.
struct Anew;

impl Mirror {
    pub fn new(number: usize, bucket: &'static str) -> Self {
        Self { name: format!("m{number}"), bucket, copy: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Copy>> {
        self.copy.lock().expect("no test panics while it holds this")
    }

    /// Some rounds, with a pause before each.
    pub async fn follow(self, mut seat: Seat, pauses: Vec<Duration>) -> Vec<Reply> {
        for pause in pauses {
            sleep(pause).await;
            match self.round(&mut seat, true).await {
                Ok(true) => tally::event("replica took over something"),
                Ok(false) => {}
                Err(Anew) => {
                    tally::event("replica told to start anew");
                    *self.lock() = None;
                }
            }
        }
        Vec::new()
    }

    /// Takes a snapshot, or the next changes. Tells whether there was something new.
    async fn round(&self, seat: &mut Seat, slow: bool) -> Result<bool, Anew> {
        let known = self.lock().as_ref().map(|copy| (copy.id.clone(), copy.sequence.clone()));
        let Some((id, sequence)) = known else {
            let copy = self.snapshot(seat).await?;
            *self.lock() = Some(copy);
            return Ok(true);
        };
        let Self { name, bucket, .. } = self;
        let count = if slow { 3 } else { 999 };
        let changes = format!("BUCKET.CHANGES {bucket} FROM {sequence} COUNT {count} WITH-DOCS");
        let Some(reply) = said(seat, &changes).await? else { return Ok(false) };
        let next = field(&reply, "sequence").map(line).map_err(|_| Anew)?;
        let changes = match field(&reply, "changes") {
            Ok(Reply::Array(changes)) => changes.clone(),
            _ => return Err(Anew),
        };
        // What the name means may have become something else meanwhile.
        match self.instance(seat).await? {
            Some(now) if now == id => {}
            Some(_) => return Err(Anew),
            None => return Ok(false),
        }
        if let Some(copy) = self.lock().as_mut() {
            for change in &changes {
                let text = |name| field(change, name).map(line).unwrap_or_default();
                match text("document") {
                    gone if gone == "null" => copy.documents.remove(&text("_id")),
                    document => copy.documents.insert(text("_id"), document),
                };
            }
            copy.sequence.clone_from(&next);
        }
        said(seat, &format!("BUCKET.REPLICA ACK {bucket} {name} {next}")).await?;
        Ok(!changes.is_empty())
    }

    async fn snapshot(&self, seat: &mut Seat) -> Result<Copy, Anew> {
        let Self { name, bucket, .. } = self;
        let register = format!("BUCKET.REPLICA REGISTER {bucket} {name} LEASE {LEASE}");
        said(seat, &register).await?.ok_or(Anew)?;
        let id = self.instance(seat).await?.ok_or(Anew)?;
        let list = said(seat, &format!("BUCKET.REPLICA LIST {bucket}")).await?.ok_or(Anew)?;
        let Reply::Array(replicas) = &list else { return Err(Anew) };
        let mine = |replica: &&Reply| field(replica, "replica").is_ok_and(|it| line(it) == *name);
        let mine = replicas.iter().find(mine).ok_or(Anew)?;
        let sequence = field(mine, "sequence").map(line).map_err(|_| Anew)?;
        let documents = self.documents(seat).await?;
        if self.instance(seat).await? != Some(id.clone()) {
            return Err(Anew);
        }
        Ok(Copy { id, sequence, documents })
    }

    async fn documents(&self, seat: &mut Seat) -> Result<BTreeMap<String, String>, Anew> {
        let query = format!("BUCKET.QUERY {} {{}} LIMIT 9999", self.bucket);
        let reply = said(seat, &query).await?.ok_or(Anew)?;
        let Reply::Array(batch) = &reply else { return Err(Anew) };
        let Some(Reply::Array(documents)) = batch.get(1) else { return Err(Anew) };
        let id = |text: &String| {
            let (_, rest) = text.split_once(r#""_id":""#)?;
            Some(rest.get(..24)?.to_owned())
        };
        Ok(documents.iter().map(line).filter_map(|text| Some((id(&text)?, text))).collect())
    }

    async fn instance(&self, seat: &mut Seat) -> Result<Option<String>, Anew> {
        let described = said(seat, &format!("BUCKET.DESCRIBE {}", self.bucket)).await?;
        Ok(described.and_then(|described| field(&described, "id").map(line).ok()))
    }

    /// At the end, when nothing else happens: what it has copied is what there is.
    pub async fn is_true(&self, seat: &mut Seat) -> Claim {
        loop {
            if self.lock().is_none() {
                return Ok(());
            }
            match self.round(seat, false).await {
                Ok(true) => {}
                Ok(false) => break,
                // It was told so, and starts anew.
                Err(Anew) => return Ok(()),
            }
        }
        let Ok(Some(id)) = self.instance(seat).await else { return Ok(()) };
        let Ok(documents) = self.documents(seat).await else { return Ok(()) };
        let copy = self.lock();
        let Some(copy) = copy.as_ref().filter(|copy| copy.id == id) else { return Ok(()) };
        let other = |id: &&String| copy.documents.get(*id) != documents.get(*id);
        let differs = copy.documents.keys().chain(documents.keys()).find(other);
        claim!(
            differs.is_none(),
            "replica {} of {} has {:?} for {differs:?}, which is {:?}",
            self.name,
            self.bucket,
            differs.and_then(|id| copy.documents.get(id)),
            differs.and_then(|id| documents.get(id)),
        );
        Ok(())
    }
}

/// The answer to a command; nothing when it could not be given now.
async fn said(seat: &mut Seat, command: &str) -> Result<Option<Reply>, Anew> {
    let reply = seat.ask(command).await;
    let Reply::Error(text) = &reply else { return Ok(Some(reply)) };
    let anew = ["RESYNCREQUIRED", "FEEDTRUNCATED", "NOSUCHREPLICA", "ERR Invalid sequence"];
    if anew.iter().any(|code| text.starts_with(code)) {
        return Err(Anew);
    }
    Ok(None)
}
