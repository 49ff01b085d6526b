//! The heads of the command pages, made from the command table.
//!
//! A page begins with what the table says: name, summary, synopsis, since when,
//! what it costs. A subcommand has the same below a `##` title on its
//! container's page. What follows is written by hand.

use std::fmt::Write as _;

use lethe::command::registry::table;
use lethe::command::{Argument, Handler, Kind, Spec, flags};

/// File name of the page below `docs/commands/`.
pub(crate) fn file_name(spec: &Spec) -> String {
    if spec.has(flags::REFUSED) {
        return "refused.md".to_owned();
    }
    let command = spec.subcommand().map_or(spec.name, |(container, _)| container);
    format!("{}.md", command.to_ascii_lowercase().replace('.', "-"))
}

/// The block that a page must contain for this command.
pub(crate) fn head(spec: &Spec) -> String {
    if spec.has(flags::REFUSED) {
        return format!("## {}\n\n{}\n\nSince {}.\n", spec.name, spec.summary, spec.since);
    }
    let mark = if spec.subcommand().is_some() { "##" } else { "#" };
    let mut head =
        format!("{mark} {}\n\n{}\n\n```text\n{}\n```\n\n", spec.name, spec.summary, synopsis(spec));
    let container = matches!(spec.handler, Handler::Container(_));
    let cost = if container { String::new() } else { format!("; {}", spec.complexity) };
    writeln!(head, "Since {}{cost}.", spec.since).expect(STRING);
    if spec.has(flags::NO_TRANSACTION) {
        head.push_str("It commits on its own and is refused between `BEGIN` and `COMMIT`.\n");
    }
    head
}

/// How it is called, as in the manual of Redis.
pub(crate) fn synopsis(spec: &Spec) -> String {
    let mut line = spec.name.to_owned();
    if matches!(spec.handler, Handler::Container(_)) && spec.arguments.is_empty() {
        line.push_str(" <subcommand> [argument ...]");
    }
    for argument in spec.arguments {
        line.push(' ');
        line.push_str(&shown(argument));
    }
    line
}

fn shown(argument: &Argument) -> String {
    let parts: Vec<String> = argument.parts.iter().map(shown).collect();
    let value = match argument.kind {
        Kind::PureToken => argument.token.unwrap_or(argument.name).to_owned(),
        Kind::OneOf => parts.join(" | "),
        Kind::Block => parts.join(" "),
        Kind::String | Kind::Integer | Kind::Pattern => argument.name.to_owned(),
    };
    let token = argument.token.filter(|_| argument.kind != Kind::PureToken);
    let grouped = argument.kind == Kind::OneOf && (!argument.optional || token.is_some());
    let value = if grouped { format!("<{value}>") } else { value };
    let mut shown = token.map_or(value.clone(), |token| format!("{token} {value}"));
    if argument.multiple && argument.parts.is_empty() {
        shown = format!("{shown} [{value} ...]");
    } else if argument.multiple {
        shown.push_str(" ...");
    }
    if argument.optional { format!("[{shown}]") } else { shown }
}

/// The index of all pages.
pub(crate) fn index() -> String {
    let mut index = String::from(
        "# Commands\n\nOne page per command; a subcommand is on its container's page.\n\
         Names, subcommands and options are taken in any case; options come in any order.\n",
    );
    let mut groups: Vec<&str> = Vec::new();
    for spec in table().specs() {
        if !groups.contains(&spec.group.name()) {
            groups.push(spec.group.name());
        }
    }
    groups.sort_unstable();
    for group in groups {
        let title: String = group[..1].to_uppercase() + &group[1..];
        write!(index, "\n## {title}\n\n| command | |\n|---|---|\n").expect(STRING);
        for spec in table().specs().iter().filter(|spec| spec.group.name() == group) {
            writeln!(index, "| [`{}`]({}) | {} |", spec.name, file_name(spec), spec.summary)
                .expect(STRING);
        }
    }
    index
}

/// A page with the head of this command as the table has it, added where it is missing;
/// what is written by hand stays.
pub(crate) fn with_head(spec: &Spec, page: &str) -> String {
    let head = head(spec);
    let title = head.lines().next().unwrap_or_default();
    let lines: Vec<&str> = page.lines().collect();
    let Some(start) = lines.iter().position(|line| *line == title) else {
        let separator = if page.is_empty() { "" } else { "\n" };
        return format!("{page}{separator}{head}");
    };
    // The old head ends with the paragraph that begins with "Since".
    let since = lines.iter().skip(start).position(|line| line.starts_with("Since "));
    let end = since.map_or(start + 1, |since| {
        let paragraph = lines.iter().skip(start + since).take_while(|line| !line.is_empty());
        start + since + paragraph.count()
    });
    let mut renewed = String::new();
    for line in &lines[..start] {
        renewed.push_str(line);
        renewed.push('\n');
    }
    renewed.push_str(&head);
    for line in &lines[end..] {
        renewed.push_str(line);
        renewed.push('\n');
    }
    renewed
}

const STRING: &str = "a string takes everything";
