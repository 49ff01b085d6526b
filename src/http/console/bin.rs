//! The recycle bin: what is removed and can come back.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::namespace::is_passed_over;
use super::page::{Live, Page, Place};
use super::removal::Removal;
use super::reply::{paged, rows};
use super::request::address;
use super::show::Column;
use super::{overview, show};

/// Rows of a page.
const PAGE: &str = "50";

/// The columns of the table here.
const COLUMNS: [Column<'_>; 8] = [
    Column::Text("Name"),
    Column::Text("State"),
    Column::Text("Time left"),
    Column::Number("Documents"),
    Column::Number("Size"),
    Column::Text("Removed"),
    Column::Text("Reason"),
    Column::Does,
];

/// Which removals are looked for.
struct Search {
    namespaces: bool,
    find: String,
    namespace: String,
    by: String,
    cursor: String,
}

impl Search {
    fn of(desk: &Desk) -> Result<Self, Fault> {
        let field = |name| desk.query.get(name).unwrap_or_default().trim().to_owned();
        let namespaces = match desk.query.get("kind").unwrap_or("buckets") {
            "buckets" => false,
            "namespaces" => true,
            _ => return Err(Fault::bad("The bin has buckets and namespaces.")),
        };
        Ok(Self {
            namespaces,
            find: field("find"),
            namespace: field("namespace"),
            by: field("by"),
            cursor: field("cursor"),
        })
    }

    fn kind(&self) -> &'static str {
        if self.namespaces { "namespaces" } else { "buckets" }
    }

    fn is_filtered(&self) -> bool {
        !(self.find.is_empty() && self.namespace.is_empty() && self.by.is_empty())
    }

    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        if self.namespaces {
            words.extend(["NAMESPACE".to_owned(), "REMOVED".to_owned()]);
            if !self.namespace.is_empty() {
                words.push(self.namespace.clone());
            }
        } else {
            let namespace = if self.namespace.is_empty() { "*" } else { &self.namespace };
            words.extend(["BUCKET.REMOVED", "NAMESPACE", namespace].map(str::to_owned));
        }
        words.extend(["ORDER", "NEWEST"].map(str::to_owned));
        words.extend(self.options());
        let cursor = if self.cursor.is_empty() { "0" } else { &self.cursor };
        words.extend(["CURSOR", cursor].map(str::to_owned));
        words
    }

    /// What is asked of all that is looked through.
    fn options(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if !self.find.is_empty() {
            option("MATCH", pattern(&self.find));
        }
        if !self.by.is_empty() {
            option("BY", self.by.clone());
        }
        option("COUNT", PAGE.to_owned());
        words
    }

    fn at(&self, cursor: &str) -> String {
        let fields = [
            ("kind", self.kind()),
            ("find", &self.find),
            ("namespace", &self.namespace),
            ("by", &self.by),
            ("cursor", cursor),
        ];
        address("bin", &fields)
    }
}

/// What is typed is looked for anywhere in a name; `*` and `?` mean what they mean in MATCH.
pub(super) fn pattern(find: &str) -> String {
    if find.contains(['*', '?']) { find.to_owned() } else { format!("*{}*", escaped(find)) }
}

fn escaped(find: &str) -> String {
    let mut text = String::new();
    for character in find.chars() {
        if matches!(character, '[' | ']' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// What was removed in several namespaces.
pub(super) struct Gathered {
    /// The newest first.
    pub(super) removals: Vec<Removal>,
    /// Some have more.
    is_cut: bool,
}

/// Gathers what was removed in these namespaces, for those who may not see all of them together;
/// `None` where the visitor may see it in none.
pub(super) async fn gather(
    desk: &mut Desk,
    paths: impl Iterator<Item = &str>,
    options: &[&str],
) -> Result<Option<Gathered>, Fault> {
    let mut gathered = Gathered { removals: Vec::new(), is_cut: false };
    let mut looked = false;
    for path in paths {
        let words = ["BUCKET.REMOVED", "NAMESPACE", path, "ORDER", "NEWEST"];
        let reply = match desk.look(words.iter().chain(options)).await {
            Err(fault) if is_passed_over(&fault) => continue,
            looked => looked?,
        };
        let Some(reply) = reply else { continue };
        looked = true;
        let (list, next) = paged(&reply);
        gathered.removals.extend(rows(list).into_iter().map(Removal::of));
        gathered.is_cut |= next.is_some();
    }
    gathered.removals.sort_by_key(|removal| std::cmp::Reverse(removal.removed_at));
    Ok(looked.then_some(gathered))
}

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let search = Search::of(desk)?;
    let is_wide = search.namespace.is_empty();
    let (list, next, advice) = match desk.look(search.words()).await? {
        Some(reply) => {
            let (list, next) = paged(&reply);
            let removals: Vec<Removal> = rows(list).into_iter().map(Removal::of).collect();
            (listing(desk, &search, &removals).await?, next, None)
        }
        None if is_wide && !search.namespaces => {
            let walk = overview::walk(desk).await?;
            let paths = walk.namespaces.iter().map(|listed| listed.path.as_str());
            let options = search.options();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            match gather(desk, paths, &options).await? {
                Some(found) => {
                    let advice = "Here is what you may see. Name a namespace to see all of it.";
                    let is_cut = found.is_cut || walk.is_cut;
                    let list = listing(desk, &search, &found.removals).await?;
                    (list, None, is_cut.then_some(advice))
                }
                // An administrator of some namespaces need not be able to list any.
                None if desk.may_somewhere(["BUCKET.REMOVED"]) => {
                    let text = "You may see what was removed from some namespaces, not from all.";
                    (show::empty("Name a namespace", text), None, None)
                }
                // Refused, and that is recorded.
                None => return Err(refused(desk, &search).await),
            }
        }
        None if is_wide && desk.may_somewhere(["NAMESPACE", "REMOVED", "any"]) => {
            let text = "You may see what was removed below some namespaces, not below all.";
            (show::empty("Name a namespace", text), None, None)
        }
        None => return Err(refused(desk, &search).await),
    };
    let body = html! {
        div class="head" {
            div {
                h1 { "Recycle bin" }
                p class="sub" { "What was removed stays here until its time is over, and comes back with all that was in it." }
            }
        }
        (form(&search))
        @if let Some(advice) = advice { p class="notice wait" { (advice) } }
        section class="card" aria-labelledby="removed" {
            header {
                h2 id="removed" { "Removed " (search.kind()) ", newest first" }
                p {
                    @if search.namespaces { a href=(address("bin", &[])) { "Show buckets" } }
                    @else { a href=(address("bin", &[("kind", "namespaces")])) { "Show namespaces" } }
                }
            }
            div data-part="bin" {
                (list)
                (show::more(
                    &next.as_deref().map(|cursor| search.at(cursor)).unwrap_or_default(),
                    (!search.cursor.is_empty()).then(|| search.at("")).as_deref(),
                ))
            }
        }
    };
    Ok(Page::new(Place::Bin, "Recycle bin", body).live(Live::Events))
}

async fn listing(desk: &mut Desk, search: &Search, removals: &[Removal]) -> Result<Markup, Fault> {
    let now = desk.now();
    if removals.is_empty() { Ok(nothing(search)) } else { table(desk, removals, now).await }
}

/// Why the visitor may not see what he looks for.
async fn refused(desk: &mut Desk, search: &Search) -> Fault {
    match desk.call(search.words()).await {
        Err(fault) => fault,
        // He was given the right this moment.
        Ok(_) => Fault::no_page(),
    }
}

fn form(search: &Search) -> Markup {
    html! {
        form class="filter" method="get" action=(address("bin", &[])) role="search" {
            div class="field" {
                label for="find" { "Name" }
                input type="search" id="find" name="find" value=(search.find) placeholder="any part of it";
            }
            div class="field" {
                label for="namespace" { (if search.namespaces { "Below namespace" } else { "In namespace" }) }
                input type="text" id="namespace" name="namespace" value=(search.namespace) placeholder="all";
            }
            div class="field" {
                label for="by" { "Removed by" }
                input type="text" id="by" name="by" value=(search.by) placeholder="anybody";
            }
            div class="field" {
                label for="kind" { "Kind" }
                select id="kind" name="kind" {
                    option value="buckets" selected[!search.namespaces] { "Buckets" }
                    option value="namespaces" selected[search.namespaces] { "Namespaces" }
                }
            }
            button class="button" type="submit" { "Find" }
        }
    }
}

fn nothing(search: &Search) -> Markup {
    if search.is_filtered() || !search.cursor.is_empty() {
        return show::empty(
            "Nothing here",
            "Nothing removed is as asked for. Try a part of the name, or all namespaces.",
        );
    }
    let text = format!(
        "What is removed shows up here. At the moment no {} can be restored, and none has to be.",
        search.kind()
    );
    show::empty("The bin is empty", &text)
}

/// Removals in a table, with what is done most, where the visitor may: restore.
pub(super) async fn table(
    desk: &mut Desk,
    removals: &[Removal],
    now: i64,
) -> Result<Markup, Fault> {
    let mut shown = Vec::with_capacity(removals.len());
    for removal in removals {
        let may = removal.may_restore(desk).await?;
        shown.push((removal, may));
    }
    Ok(html! {
        (show::table("Removed and not yet purged", &COLUMNS, &html! {
            tbody {
                @for (removal, may_restore) in shown {
                    tr {
                        th scope="row" {
                            a class="name" href=(removal.address()) { (show::clip(removal.name(), 80)) }
                            @if removal.bucket.is_some() {
                                span class="under" { "in " (show::clip(&removal.namespace, 80)) }
                            }
                        }
                        td data-label="State" {
                            span {
                                (removal.badge())
                                @if removal.witnessed < removal.shards {
                                    span class="under" { "seen by " (removal.witnessed) " of " (removal.shards) " shards" }
                                }
                            }
                        }
                        td class="narrow" data-label="Time left" { (removal.left(now)) }
                        td class="number" data-label="Documents" {
                            @match removal.documents { Some(count) => (show::number(count)), None => (show::unknown()) }
                        }
                        td class="number" data-label="Size" { (show::maybe_size(removal.bytes)) }
                        td class="narrow" data-label="Removed" {
                            span { (show::ago(now, removal.removed_at)) span class="under" { "by " (removal.removed_by) } }
                        }
                        td class="long" data-label="Reason" {
                            @match &removal.reason {
                                Some(reason) => span { (show::clip(reason, 160)) },
                                None => (show::unknown()),
                            }
                        }
                        td class="does" {
                            @if may_restore {
                                a class="button small" href=(removal.action("restore"))
                                    aria-label={ "Restore " (removal.name()) } { "Restore…" }
                            }
                        }
                    }
                }
            }
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn what_is_typed_is_found_anywhere_in_a_name() {
        assert_eq!(pattern("users"), "*users*");
        assert_eq!(pattern("us*s"), "us*s");
        assert_eq!(pattern("a[1]"), "*a\\[1\\]*");
    }
}
