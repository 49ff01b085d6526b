use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Colours, DOCUMENTS, Error};
use crate::client::{Answer, Client};
use crate::codec::BucketId;

/// Documents of one BUCKET.INSERT, and of one batch of a query.
const BATCH: usize = 100;
/// How long the barrier may take on a node that has nothing else to do.
const BARRIER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long giving back the bytes may take.
const RECLAIM_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks at either.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 100;

/// Tells the story to `out`, against the node at `address`.
///
/// `keys_left` looks into the store itself and counts what is there of a
/// purged bucket.
///
/// # Errors
/// With the first answer that is not as told, or when the connection breaks.
pub async fn tell(
    address: SocketAddr,
    out: &mut (dyn Write + Send),
    colours: Colours,
    keys_left: impl AsyncFnOnce(BucketId) -> Result<usize, Error>,
) -> Result<(), Error> {
    let (client, other) = (Client::connect(address).await?, Client::connect(address).await?);
    let mut teller = Teller { out, colours, chapter: 0, step: String::new(), client, other };
    teller.fill().await?;
    let before = teller.query().await?;
    let once = "Remove the bucket: one small transaction, whatever its size";
    let (bucket, _) = teller.remove(once, "the lease ran out").await?;
    teller.see_it_refused().await?;
    teller.see_it_listed().await?;
    teller.restore(&before).await?;
    let (again, removal) = teller.remove("Remove it again", "and now for good").await?;
    teller.expect(again == bucket, "the same bucket as before", &again)?;
    teller.await_barrier().await?;
    teller.purge(&removal).await?;
    teller.await_reclaim().await?;
    let bucket = BucketId::parse(&bucket)
        .ok_or_else(|| teller.not_as_told("the id of a bucket", &bucket))?;
    teller.see_it_gone(&removal, keys_left(bucket).await?).await
}

struct Teller<'a> {
    out: &'a mut (dyn Write + Send),
    colours: Colours,
    chapter: u32,
    /// What is being told, for the error that ends it.
    step: String,
    client: Client,
    /// A second connection, which knows nothing of the first.
    other: Client,
}

/// Every document by its id.
type Documents = BTreeMap<String, serde_json::Value>;

/// The steps of the story.
impl Teller<'_> {
    async fn fill(&mut self) -> Result<(), Error> {
        self.open_chapter("A bucket, and a week of earthquakes in it")?;
        self.ok(&["BUCKET.CREATE", "quakes"]).await?;
        let lines: Vec<&str> = DOCUMENTS.lines().collect();
        for (number, batch) in lines.chunks(BATCH).enumerate() {
            let head = ["BUCKET.INSERT", "quakes", "DOCS"];
            let argv: Vec<&str> = head.into_iter().chain(batch.iter().copied()).collect();
            if number == 0 {
                self.show_command(&argv)?;
            }
            let answer = self.client.call(&argv).await?;
            self.expect(answer.list().len() == batch.len(), "an id for each document", &answer)?;
        }
        let commands = lines.len().div_ceil(BATCH);
        self.say(format_args!("{} documents in {commands} commands", lines.len()))
    }

    async fn query(&mut self) -> Result<Documents, Error> {
        self.open_chapter("Ask for the strong ones")?;
        let answer = self.call(&["BUCKET.QUERY", "quakes", r#"{"magnitude":{"$gte":6}}"#]).await?;
        let found = self.entries(&answer)?;
        let strong = DOCUMENTS
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|document| document["magnitude"].as_f64().is_some_and(|it| it >= 6.0))
            .count();
        self.expect(found.len() == strong, &format!("{strong} documents"), &answer)?;
        for document in &found {
            let place = document["place"].as_str().unwrap_or_default();
            self.say(format_args!("{}  {place}", document["magnitude"]))?;
        }
        let all = self.all_documents().await?;
        self.say(format_args!("and {} documents in all", all.len()))?;
        let expected = DOCUMENTS.lines().count();
        self.expect(all.len() == expected, &format!("{expected} documents"), &all.len())?;
        Ok(all)
    }

    /// Gives the ids of the bucket and of its removal.
    async fn remove(&mut self, title: &str, reason: &str) -> Result<(String, String), Error> {
        self.open_chapter(title)?;
        let argv = ["BUCKET.REMOVE", "quakes", "RETAIN", "7d", "REASON", reason, "INFO"];
        let answer = self.call(&argv).await?;
        let mut ids = Vec::new();
        for name in ["id", "removal_id", "removed_at", "expires_at"] {
            let Some(value) = answer.field(name).map(Answer::line) else {
                return Err(self.not_as_told(&format!("`{name}`"), &answer.line()));
            };
            self.say(format_args!("{name:<11} {value}"))?;
            ids.push(value);
        }
        let [bucket, removal, ..] = ids.as_slice() else {
            return Err(self.not_as_told("two ids", &answer.line()));
        };
        Ok((bucket.clone(), removal.clone()))
    }

    async fn see_it_refused(&mut self) -> Result<(), Error> {
        self.open_chapter("It is refused at once, on every connection")?;
        for argv in [
            ["BUCKET.QUERY", "quakes", "{}"].as_slice(),
            &["BUCKET.INSERT", "quakes", "DOCS", r#"{"magnitude":9}"#],
        ] {
            self.show_command(argv)?;
            let answer = self.other.call(argv).await?;
            self.say(format_args!("{}", answer.line()))?;
            let refusal = "BUCKETBEINGREMOVED Bucket 'quakes' is being removed".to_owned();
            self.expect(answer == Answer::Error(refusal), "the bucket to be refused", &answer)?;
        }
        Ok(())
    }

    async fn see_it_listed(&mut self) -> Result<(), Error> {
        self.open_chapter("Nobody sees it, and it is not lost: it waits for its expiry")?;
        let answer = self.call(&["BUCKET.LIST"]).await?;
        self.say(format_args!("{}", answer.line()))?;
        self.expect(answer.list().is_empty(), "no active bucket", &answer)?;
        let answer = self.call(&["BUCKET.REMOVED"]).await?;
        let [removed] = answer.list() else {
            return Err(self.not_as_told("one removed bucket", &answer.line()));
        };
        for name in ["bucket", "state", "reason", "expires_at", "documents"] {
            let value = removed.field(name).map_or_else(String::new, Answer::line);
            self.say(format_args!("{name:<11} {value}"))?;
        }
        let state = removed.field("state").map_or_else(String::new, Answer::line);
        self.expect(state == "removed", "the state `removed`", &state)
    }

    async fn restore(&mut self, before: &Documents) -> Result<(), Error> {
        self.open_chapter("Restore it, whole")?;
        self.ok(&["BUCKET.RESTORE", "quakes"]).await?;
        let after = self.all_documents().await?;
        let same = after == *before;
        self.expect(same, "every document as it was before", &format!("{} of them", after.len()))?;
        self.say(format_args!("{} documents, each as it was before", after.len()))
    }

    async fn await_barrier(&mut self) -> Result<(), Error> {
        self.open_chapter("The barrier: has everybody who could still touch it seen the removal?")?;
        self.show_command(&["BUCKET.BARRIER", "quakes"])?;
        let deadline = tokio::time::Instant::now() + BARRIER_TIME_MAX;
        loop {
            let answer = self.client.call(&["BUCKET.BARRIER", "quakes"]).await?;
            let text =
                |row: &Answer, name: &str| row.field(name).map_or_else(String::new, Answer::line);
            let waits = |row: &&Answer| text(row, "satisfied") != "1";
            let waiting = answer.list().iter().filter(waits).count();
            let over = tokio::time::Instant::now() >= deadline;
            if waiting > 0 && !over {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            for row in answer.list() {
                let [shard, node, witnessed] =
                    ["shard", "node", "witnessed"].map(|name| text(row, name));
                self.say(format_args!("shard {shard}  {node}  has seen {witnessed}"))?;
            }
            let some = !answer.list().is_empty();
            return self.expect(
                some && waiting == 0,
                "every shard to have seen the removal",
                &answer,
            );
        }
    }

    async fn purge(&mut self, removal: &str) -> Result<(), Error> {
        self.open_chapter("Purge it: this cannot be undone")?;
        self.ok(&["BUCKET.PURGE", removal]).await
    }

    /// The purge is committed; what follows gives its bytes back.
    async fn await_reclaim(&mut self) -> Result<(), Error> {
        self.show_command(&["PURGE.STATUS"])?;
        let deadline = tokio::time::Instant::now() + RECLAIM_TIME_MAX;
        loop {
            let answer = self.client.call(&["PURGE.STATUS"]).await?;
            if answer == Answer::List(Vec::new()) {
                return self.say("all bytes are given back");
            }
            let over = tokio::time::Instant::now() >= deadline;
            self.expect(!over, "the bytes of the bucket to be given back", &answer)?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn see_it_gone(&mut self, removal: &str, keys_left: usize) -> Result<(), Error> {
        self.open_chapter("Nothing is left")?;
        let gone = "NOSUCHBUCKET No such bucket: 'quakes'";
        let answer = self.refused(&["BUCKET.QUERY", "quakes", "{}"]).await?;
        self.expect(answer == gone, gone, &answer)?;
        self.refused(&["BUCKET.RESTORE", removal]).await?;
        let answer = self.call(&["BUCKET.REMOVED"]).await?;
        self.say(format_args!("{}", answer.line()))?;
        self.expect(answer.list().is_empty(), "no removed bucket", &answer)?;
        self.say(format_args!("keys of the bucket in the store: {keys_left}"))?;
        self.expect(keys_left == 0, "no key of the bucket in the store", &keys_left)?;
        let answer = self.call(&["AUDIT.LOG", "COUNT", "10"]).await?;
        for row in answer.list() {
            let [time, action, reason] = ["time", "action", "reason"].map(|name| {
                row.field(name)
                    .filter(|it| **it != Answer::Null)
                    .map_or_else(String::new, Answer::line)
            });
            self.say(format_args!("{time}  {action:<14} {reason}"))?;
        }
        self.expect(!answer.list().is_empty(), "who did what, in the audit log", &answer)
    }
}

/// How a step speaks, asks and judges.
impl Teller<'_> {
    fn open_chapter(&mut self, title: &str) -> Result<(), Error> {
        self.chapter += 1;
        title.clone_into(&mut self.step);
        let (bold, plain) = self.style("\x1b[1m");
        Ok(writeln!(self.out, "\n{bold}{}. {title}{plain}", self.chapter)?)
    }

    fn say(&mut self, line: impl Display) -> Result<(), Error> {
        Ok(writeln!(self.out, "     {line}")?)
    }

    fn show_command(&mut self, argv: &[&str]) -> Result<(), Error> {
        let quoted = |word: &&str| {
            let plain = word.starts_with('{') || !word.contains(' ');
            if plain { (*word).to_owned() } else { format!("\"{word}\"") }
        };
        let line = argv.iter().map(quoted).collect::<Vec<_>>().join(" ");
        let mut shown: String = line.chars().take(COMMAND_WIDTH).collect();
        if shown.len() < line.len() {
            shown.push_str(" ...");
        }
        let (cyan, plain) = self.style("\x1b[36m");
        Ok(writeln!(self.out, "   {cyan}> {shown}{plain}")?)
    }

    const fn style(&self, code: &'static str) -> (&'static str, &'static str) {
        match self.colours {
            Colours::On => (code, "\x1b[0m"),
            Colours::Off => ("", ""),
        }
    }

    /// Shows a command, sends it, and takes any answer that is no error.
    async fn call(&mut self, argv: &[&str]) -> Result<Answer, Error> {
        self.show_command(argv)?;
        let answer = self.client.call(argv).await?;
        let failed = matches!(answer, Answer::Error(_));
        self.expect(!failed, "no error", &answer)?;
        Ok(answer)
    }

    /// A command that answers OK.
    async fn ok(&mut self, argv: &[&str]) -> Result<(), Error> {
        let answer = self.call(argv).await?;
        self.say(format_args!("{}", answer.line()))?;
        self.expect(answer == Answer::Text("OK".to_owned()), "OK", &answer)
    }

    /// A command that answers an error; gives its text.
    async fn refused(&mut self, argv: &[&str]) -> Result<String, Error> {
        self.show_command(argv)?;
        let answer = self.client.call(argv).await?;
        self.say(format_args!("{}", answer.line()))?;
        match answer {
            Answer::Error(text) => Ok(text),
            other => Err(self.not_as_told("an error", &other.line())),
        }
    }

    /// All documents of the bucket, batch by batch.
    async fn all_documents(&mut self) -> Result<Documents, Error> {
        let batch = BATCH.to_string();
        let mut answer =
            self.client.call(&["BUCKET.QUERY", "quakes", "{}", "LIMIT", &batch]).await?;
        let cursor = answer.list().first().map_or_else(String::new, Answer::line);
        let mut documents = Documents::new();
        loop {
            let entries = self.entries(&answer)?;
            if entries.is_empty() {
                break;
            }
            for document in entries {
                documents.insert(document["_id"].to_string(), document);
            }
            answer = self.client.call(&["BUCKET.ADVANCE", "QUERY", &cursor]).await?;
        }
        self.client.call(&["BUCKET.CLOSE", "QUERY", &cursor]).await?;
        Ok(documents)
    }

    /// The documents in the reply of a query.
    fn entries(&self, answer: &Answer) -> Result<Vec<serde_json::Value>, Error> {
        let [_, entries] = answer.list() else {
            return Err(self.not_as_told("a cursor and documents", &answer.line()));
        };
        let parse = |entry: &Answer| {
            serde_json::from_str(&entry.line())
                .map_err(|_| self.not_as_told("a document", &entry.line()))
        };
        entries.list().iter().map(parse).collect()
    }

    fn expect(&self, holds: bool, expected: &str, got: &impl Shown) -> Result<(), Error> {
        if holds { Ok(()) } else { Err(self.not_as_told(expected, &got.shown())) }
    }

    fn not_as_told(&self, expected: &str, got: &str) -> Error {
        let step = self.step.clone();
        Error::NotAsTold { step, expected: expected.to_owned(), got: got.to_owned() }
    }
}

/// What an unexpected answer is shown as.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for Answer {
    fn shown(&self) -> String {
        self.line()
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        self.clone()
    }
}

impl Shown for usize {
    fn shown(&self) -> String {
        self.to_string()
    }
}
