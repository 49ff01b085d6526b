//! The recycle bin: what is removed and can come back.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::removal::Removal;
use super::reply::{paged, rows};
use super::request::address;
use super::show;

/// Rows of a page.
const PAGE: &str = "50";

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
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("ORDER", "NEWEST".to_owned());
        if !self.find.is_empty() {
            option("MATCH", pattern(&self.find));
        }
        if !self.by.is_empty() {
            option("BY", self.by.clone());
        }
        option("COUNT", PAGE.to_owned());
        option("CURSOR", if self.cursor.is_empty() { "0".to_owned() } else { self.cursor.clone() });
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

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let search = Search::of(desk)?;
    let reply = match desk.call(search.words()).await {
        Err(fault) if fault.is("NOPERM") && search.namespace.is_empty() => {
            return Ok(name_one(&search));
        }
        reply => reply?,
    };
    let (list, next) = paged(&reply);
    let removals: Vec<Removal> = rows(list).into_iter().map(Removal::of).collect();
    let now = desk.now();
    let body = html! {
        div class="head" {
            div {
                h1 { "Recycle bin" }
                p class="sub" { "What was removed stays here until its time is over, and comes back with all that was in it." }
            }
        }
        (form(&search))
        section class="card" aria-labelledby="removed" {
            header {
                h2 id="removed" { "Removed " (search.kind()) ", newest first" }
                p {
                    @if search.namespaces { a href=(address("bin", &[])) { "Show buckets" } }
                    @else { a href=(address("bin", &[("kind", "namespaces")])) { "Show namespaces" } }
                }
            }
            div data-part="bin" {
                @if removals.is_empty() { (nothing(&search)) }
                @else { (table(&removals, now)) }
                (show::more(
                    &next.as_deref().map(|cursor| search.at(cursor)).unwrap_or_default(),
                    (!search.cursor.is_empty()).then(|| search.at("")).as_deref(),
                ))
            }
        }
    };
    Ok(Page::new(Place::Bin, "Recycle bin", body).live(Live::Events))
}

/// For those who may see some namespaces, but not all.
fn name_one(search: &Search) -> Page {
    let body = html! {
        div class="head" { h1 { "Recycle bin" } }
        p class="notice wait" {
            strong { "Name a namespace." } " You may not see what was removed in all of them together."
        }
        (form(search))
    };
    Page::new(Place::Bin, "Recycle bin", body)
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

/// Removals in a table, with what is done most: restore.
pub(super) fn table(removals: &[Removal], now: i64) -> Markup {
    html! {
        table class="list" {
            caption { "Removed and not yet purged" }
            thead {
                tr {
                    th scope="col" { "Name" } th scope="col" { "State" } th scope="col" { "Time left" }
                    th scope="col" class="number" { "Documents" } th scope="col" class="number" { "Size" }
                    th scope="col" { "Removed" } th scope="col" { "Reason" }
                    th scope="col" { span class="quiet" { "" } }
                }
            }
            tbody {
                @for removal in removals {
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
                            @if !removal.is_purging {
                                a class="button small" href=(removal.action("restore"))
                                    aria-label={ "Restore " (removal.name()) } { "Restore…" }
                            }
                        }
                    }
                }
            }
        }
    }
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
