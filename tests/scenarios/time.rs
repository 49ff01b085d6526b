//! Clocks that jump: nothing is purged before its time, it is said why purging
//! has stopped, and it goes on when the clocks agree or somebody confirms them.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, Removed, claim, fail, field, line, within};

const HOUR: i64 = 3_600_000;
const YEAR: i64 = 365 * 24 * HOUR;
/// Longer than all of one scenario.
const LIMIT: Duration = Duration::from_secs(2 * 3_600);
/// Longer than the observer's rounds and any worker's sleep.
const LONG: Duration = Duration::from_secs(90);
/// So long all clocks have to agree on a new time before it is believed.
const QUIET: Duration = Duration::from_secs(600);

/// What the nodes log while this lives.
struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _collecting: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn keep() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Lines(Arc::clone(&lines));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { lines, _collecting: tracing::subscriber::set_default(subscriber) }
    }

    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.lines.lock().unwrap()).contains(text)
    }
}

/// Nodes that are not in a hurry, since hours pass here.
async fn nodes(names: &[&'static str]) -> Claim<Cluster> {
    let calm = |config: &mut Config| {
        config.http.listen = vec![([127, 0, 0, 1], 0).into()];
        config.cluster.heartbeat = Duration::from_secs(2);
        config.cluster.silent_after = Duration::from_secs(10);
    };
    Cluster::with(names, Mutations::default(), calm).await
}

/// A bucket with a document, removed for this long.
async fn removed(cluster: &Cluster, name: &str, retain: &str) -> Claim<Removed> {
    cluster.expect("A", &format!("BUCKET.CREATE {name}"), "OK").await?;
    cluster.insert("A", name, 1).await?;
    cluster.remove("A", &format!("{name} RETAIN {retain}")).await
}

/// What CLUSTER.DESCRIBE tells of why nothing is purged; `null` while all is well.
async fn stopped(cluster: &Cluster) -> Claim<String> {
    let reply = cluster.run("A", "CLUSTER.DESCRIBE").await?;
    field(&reply, "purging_stopped").map(line)
}

async fn metric(cluster: &Cluster, name: &str) -> Claim<String> {
    let address = cluster.node("A").http_addresses()[0];
    let mut stream = TcpStream::connect(address).await.map_err(fail)?;
    let request = "GET /metrics HTTP/1.1\r\nHost: lethe\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.map_err(fail)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map_err(fail)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(str::to_owned).ok_or_else(|| format!("no metric {name}"))
}

/// One of three jumps.
async fn one_clock_jumps(jump: i64) -> Claim {
    let log = Log::keep();
    let cluster = nodes(&["A", "B", "C"]).await?;
    let long = removed(&cluster, "long", "30m").await?;
    let short = removed(&cluster, "short", "60s").await?;
    claim!(stopped(&cluster).await? == "null", "purging is stopped while all clocks agree");
    claim!(metric(&cluster, "lethe_clock_suspect").await? == "0", "the metric says otherwise");
    cluster.clock("B").jump(jump);
    sleep(LONG).await;
    let why = stopped(&cluster).await?;
    claim!(why.contains("the clock of") && why.contains('B'), "it says '{why}', for {jump}");
    claim!(metric(&cluster, "lethe_clock_suspect").await? == "1", "no metric tells of it");
    claim!(log.has("purging is stopped"), "the log does not tell of it");
    cluster.expect_start("C", "BUCKET.PURGE long", "CLOCKSUSPECT ").await?;
    for removed in [&long, &short] {
        claim!(!cluster.is_purged(removed).await?, "{} was purged", removed.bucket);
    }
    // Everything but destroying goes on.
    cluster.expect("C", "BUCKET.RESTORE long", "OK").await?;
    let again = cluster.remove("B", "long RETAIN 30m").await?;
    cluster.clock("B").jump(-jump);
    // What was due meanwhile is purged now, and nothing else.
    cluster.purged(&short, LONG).await?;
    claim!(stopped(&cluster).await? == "null", "purging is still stopped");
    sleep(Duration::from_secs(25 * 60)).await;
    claim!(!cluster.is_purged(&again).await?, "purged before its time");
    cluster.purged(&again, Duration::from_secs(10 * 60)).await?;
    cluster.finish().await
}

/// All jump by the same: nobody can tell whether time has passed.
async fn all_clocks_jump(jump: i64) -> Claim {
    let cluster = nodes(&["A", "B", "C"]).await?;
    let before = removed(&cluster, "before", "30m").await?;
    for node in ["A", "B", "C"] {
        cluster.clock(node).jump(jump);
    }
    sleep(LONG).await;
    let why = stopped(&cluster).await?;
    let told = if jump > 0 { "have jumped" } else { "behind cluster time" };
    claim!(why.contains(told), "it says '{why}', for {jump}");
    // What is promised now is kept for as long as was promised, whatever is believed later.
    let meanwhile = removed(&cluster, "meanwhile", "30m").await?;
    sleep(QUIET.saturating_sub(LONG * 2)).await;
    claim!(!cluster.is_purged(&before).await?, "purged by a time that nobody believes");
    sleep(LONG + LONG).await;
    claim!(stopped(&cluster).await? == "null", "not believed after ten quiet minutes: {jump}");
    if jump > 0 {
        // The new time is believed, and by that it has expired.
        cluster.purged(&before, LONG).await?;
    }
    sleep(Duration::from_secs(15 * 60)).await;
    claim!(!cluster.is_purged(&meanwhile).await?, "a promise was cut short, for {jump}");
    cluster.expect("B", "BUCKET.RESTORE meanwhile", "OK").await?;
    cluster.finish().await
}

/// A single node whose clock is wrong when it starts.
async fn a_clock_is_wrong_at_the_start(jump: i64) -> Claim {
    let mut cluster = nodes(&["A"]).await?;
    let kept = removed(&cluster, "kept", "7d").await?;
    cluster.kill("A").await;
    cluster.clock("A").jump(jump);
    cluster.start("A").await?;
    sleep(LONG).await;
    claim!(stopped(&cluster).await? != "null", "nothing is noticed of {jump}");
    sleep(QUIET.saturating_sub(LONG * 2)).await;
    claim!(!cluster.is_purged(&kept).await?, "purged by the clock at the start");
    cluster.expect("A", "BUCKET.RESTORE kept ALLOW-EXPIRED", "OK").await?;
    claim!(cluster.documents(kept.bucket).await? == 1, "the document is gone");
    cluster.finish().await
}

/// An administrator knows better.
async fn a_time_is_confirmed() -> Claim {
    let cluster = nodes(&["A", "B", "C"]).await?;
    let due = removed(&cluster, "due", "30m").await?;
    for node in ["A", "B", "C"] {
        cluster.clock(node).jump(HOUR);
    }
    sleep(LONG).await;
    claim!(!cluster.is_purged(&due).await?, "purged by a time that nobody has confirmed");
    let reply = cluster.run("B", "CLUSTER.CLOCK").await?;
    claim!(line(field(&reply, "suspect")?).contains("jumped"), "CLUSTER.CLOCK is content");
    let reply = cluster.run("B", "CLUSTER.CLOCK CONFIRM").await?;
    claim!(line(field(&reply, "suspect")?) == "null", "it was not confirmed");
    cluster.purged(&due, LONG).await?;
    // Confirming accepts the difference that there is, and no greater one.
    let kept = removed(&cluster, "kept", "30m").await?;
    cluster.clock("A").jump(HOUR);
    sleep(LONG).await;
    cluster.run("C", "CLUSTER.CLOCK CONFIRM").await?;
    sleep(LONG).await;
    claim!(stopped(&cluster).await? == "null", "what was confirmed is suspect again");
    claim!(!cluster.is_purged(&kept).await?, "one clock of three decides");
    cluster.clock("A").jump(HOUR);
    sleep(LONG).await;
    claim!(stopped(&cluster).await?.contains("ahead"), "a greater difference is accepted, too");
    cluster.finish().await
}

/// A jump that nobody believes yet has made nothing expire: what was removed is shown as
/// what it is, and comes back.
async fn a_removal_that_a_jump_would_end() -> Claim {
    let cluster = nodes(&["A"]).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.expect("A", "BUCKET.REMOVE b RETAIN 1h", "OK").await?;
    cluster.clock("A").jump(3 * HOUR);
    sleep(LONG).await;
    let shown = cluster.run("A", "BUCKET.REMOVED b").await?;
    let lethe::resp::Reply::Array(rows) = &shown else { return Err(line(&shown)) };
    let row = rows.first().ok_or("nothing is removed")?;
    let restorable = field(row, "restorable")?;
    claim!(*restorable == lethe::resp::Reply::Boolean(true), "{}", line(row));
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    cluster.finish().await
}

on_each_store! {
    a_clock_that_is_an_hour_ahead_at_the_start_purges_nothing:
        within(LIMIT, a_clock_is_wrong_at_the_start(HOUR));
    a_clock_that_is_an_hour_behind_at_the_start_purges_nothing:
        within(LIMIT, a_clock_is_wrong_at_the_start(-HOUR));
    a_clock_that_is_a_year_ahead_at_the_start_purges_nothing:
        within(LIMIT, a_clock_is_wrong_at_the_start(YEAR));
    a_clock_that_is_a_year_behind_at_the_start_purges_nothing:
        within(LIMIT, a_clock_is_wrong_at_the_start(-YEAR));
    a_confirmed_time_is_believed_at_once:
        within(LIMIT, a_time_is_confirmed());
    what_has_not_surely_expired_can_be_restored:
        within(LIMIT, a_removal_that_a_jump_would_end());
}

only_in_memory! { "it waits for half an hour",
    a_clock_an_hour_ahead_purges_nothing_early_and_says_why:
        within(LIMIT, one_clock_jumps(HOUR));
    a_clock_an_hour_behind_purges_nothing_early_and_says_why:
        within(LIMIT, one_clock_jumps(-HOUR));
    a_clock_a_year_ahead_purges_nothing_early_and_says_why:
        within(LIMIT, one_clock_jumps(YEAR));
    a_clock_a_year_behind_purges_nothing_early_and_says_why:
        within(LIMIT, one_clock_jumps(-YEAR));
    when_all_clocks_jump_an_hour_ahead_they_must_agree_first:
        within(LIMIT, all_clocks_jump(HOUR));
    when_all_clocks_jump_an_hour_back_they_must_agree_first:
        within(LIMIT, all_clocks_jump(-HOUR));
    when_all_clocks_jump_a_year_ahead_they_must_agree_first:
        within(LIMIT, all_clocks_jump(YEAR));
    when_all_clocks_jump_a_year_back_they_must_agree_first:
        within(LIMIT, all_clocks_jump(-YEAR));
}
