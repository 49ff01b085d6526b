//! Completions for shells and pages for `man`, made from the command line itself.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, Outcome};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell they are for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Folder for a page of each subcommand; without it the page of `lethe` itself is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// `lethe completions`.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lethe", &mut script);
    print(&script)
}

/// `lethe man`.
pub(super) fn man(args: &ManArgs) -> Result<Outcome, Failure> {
    let command = Cli::command();
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return print(&page);
    };
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)?;
    Ok(Outcome::Done)
}

fn print(text: &[u8]) -> Result<Outcome, Failure> {
    let mut out = std::io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        // Whoever read it wants no more.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Outcome::Done),
        written => Ok(written.map(|()| Outcome::Done)?),
    }
}
