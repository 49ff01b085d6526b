use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::password::{FROM_PASSWORD, TO_PASSWORD, with_password};
use super::run::told_to_stop;
use super::shown::escape;
use super::{Failure, Outcome, ReplicateArgs};
use crate::replicate::{self, Options, Progress};

/// Where nobody looks at a terminal, progress is told this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// `lethe replicate`: until it is told to stop, or with `--once` until nothing is left.
pub(super) async fn replicate(args: &ReplicateArgs) -> Result<Outcome, Failure> {
    // Before a password is asked for: without it Ctrl-C would leave a terminal behind that shows nothing.
    let told = told_to_stop();
    let options = Options {
        from: with_password(args.trust.address(&args.from)?, FROM_PASSWORD).await?,
        to: with_password(args.trust.address(&args.to)?, TO_PASSWORD).await?,
        bucket: args.bucket.clone(),
        to_bucket: args.to_bucket.clone().unwrap_or_else(|| args.bucket.clone()),
        name: args.name.clone(),
        lease: args.lease.clone(),
        once: args.once,
    };
    let stop = CancellationToken::new();
    let mut screen = Screen::new(&options);
    let result = {
        let work = replicate::run(&options, &stop, |progress| screen.show(&progress));
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => result,
            () = told => {
                stop.cancel();
                work.await
            }
        }
    };
    screen.line.end();
    // What a node says may be anything.
    result.map_err(|error| Failure::Told(escape(&error.to_string())))?;
    Ok(Outcome::Done)
}

/// What is shown while it goes on: where nobody looks at a terminal, only now and then.
struct Screen {
    what: String,
    line: Line,
    told: Option<Instant>,
    /// Since when the target has been behind.
    behind_since: Option<Instant>,
}

impl Screen {
    fn new(options: &Options) -> Self {
        let Options { from, to, bucket, to_bucket, .. } = options;
        let what = escape(&format!("{from} {bucket} -> {to} {to_bucket}"));
        Self { what, line: Line::new(), told: None, behind_since: None }
    }

    fn show(&mut self, progress: &Progress) {
        let important = matches!(progress, Progress::Waiting { .. });
        let text = escape(&self.text(progress));
        let due = self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if !self.line.is_terminal() && !important && !due {
            return;
        }
        self.told = Some(Instant::now());
        match (self.line.is_terminal(), important) {
            (true, false) => self.line.show(&text),
            (true, true) => self.line.keep(&text),
            (false, _) => self.line.show(&format!("{}: {text}", self.what)),
        }
    }

    fn text(&mut self, progress: &Progress) -> String {
        match progress {
            Progress::Resumed { after } => format!("the snapshot goes on behind {after}"),
            Progress::Snapshot { documents, deleted } => {
                format!("snapshot: {documents} documents, {deleted} deleted at the target")
            }
            Progress::Changes { applied, behind } => {
                let since = *self.behind_since.get_or_insert_with(Instant::now);
                let seconds = since.elapsed().as_secs();
                format!("{applied} changes taken over, {behind} behind, for {seconds} s")
            }
            Progress::CaughtUp { applied } => {
                self.behind_since = None;
                format!("{applied} changes taken over, nothing left")
            }
            Progress::Waiting { error, again_in } => {
                self.behind_since.get_or_insert_with(Instant::now);
                format!("{error}; again in {:.1} s", again_in.as_secs_f64())
            }
        }
    }
}
