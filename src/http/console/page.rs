//! The frame around every page, and what goes with it over the wire.

use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::desk::{Desk, Standing};
use super::fault::Fault;
use super::request::{self, Fields, address};
use super::visitor::{self, TOKEN, Theme};

/// Nothing but our own files, no script or style in a page, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What is in the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Bin,
    Reclaim,
    Replicas,
    Cluster,
    Audit,
}

const MENU: [(Place, &str, &str); 6] = [
    (Place::Overview, "", "Overview"),
    (Place::Bin, "bin", "Recycle bin"),
    (Place::Reclaim, "reclaim", "Reclaim"),
    (Place::Replicas, "replicas", "Replicas"),
    (Place::Cluster, "cluster", "Cluster"),
    (Place::Audit, "audit", "Audit log"),
];

/// What of the menu is for this visitor. A page that he may look for in vain is not in it.
pub(super) async fn menu(desk: &mut Desk) -> Result<Vec<Place>, Fault> {
    let mut menu = vec![Place::Overview];
    let removed = [&["BUCKET.REMOVED"][..], &["NAMESPACE", "REMOVED"]];
    if removed.iter().any(|words| desk.may_somewhere(*words)) {
        menu.push(Place::Bin);
    }
    if desk.may(["PURGE.STATUS"]).await? {
        menu.push(Place::Reclaim);
    }
    if desk.may_somewhere(["BUCKET.REPLICA", "LIST", "any"]) {
        menu.push(Place::Replicas);
    }
    for (place, command) in [(Place::Cluster, "CLUSTER.DESCRIBE"), (Place::Audit, "AUDIT.LOG")] {
        if desk.may([command]).await? {
            menu.push(place);
        }
    }
    Ok(menu)
}

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) title: String,
    pub(super) place: Option<Place>,
    pub(super) body: Markup,
    /// It changes while it is looked at.
    pub(super) live: Live,
}

/// How a page changes while it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// It doesn't.
    No,
    /// With the journal and the barriers.
    Events,
    /// Also by itself, as engines give bytes back and heartbeats pass: nothing announces that.
    Moving,
}

impl Page {
    pub(super) fn new(
        place: impl Into<Option<Place>>,
        title: impl Into<String>,
        body: Markup,
    ) -> Self {
        let (title, place) = (title.into(), place.into());
        Self { status: StatusCode::OK, title, place, body, live: Live::No }
    }

    pub(super) fn live(self, live: Live) -> Self {
        Self { live, ..self }
    }

    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

/// What a form is answered with.
#[derive(Debug)]
pub(super) enum Answer {
    /// The form once more, with what is wrong.
    Page(Page),
    /// Where to go on.
    To(String),
}

/// The token that each form carries.
pub(super) fn token(desk: &Desk) -> Markup {
    html! { input type="hidden" name=(TOKEN) value=(desk.visitor.token); }
}

/// A page whole, as text.
pub(super) fn render(desk: &Desk, page: &Page) -> String {
    let theme = desk.visitor.theme;
    let frame = Frame {
        title: &page.title,
        place: page.place,
        theme,
        live: page.live != Live::No,
        menu: &desk.menu,
        who: who(desk),
        foot: themes(desk, theme),
    };
    let main = html! {
        (notice(desk.query.get("done")))
        (page.body)
    };
    frame.around(&main).into_string()
}

/// Who the visitor is, and how he becomes somebody else.
fn who(desk: &Desk) -> Markup {
    let Some(user) = desk.user() else { return html! {} };
    let is_member = matches!(desk.standing, Standing::Member(_));
    html! {
        form class="who" method="post" action=(address("logout", &[])) aria-label="Account" {
            span class="user" title={ "You are the user " (user) } { span class="as" { "User " } b { (user) } }
            @if is_member {
                (token(desk))
                button type="submit" { "Log out" }
            } @else if desk.services().users.all().len() > 1 {
                a href=(address("login", &[])) { "Log in" }
            }
        }
    }
}

fn themes(desk: &Desk, theme: Option<Theme>) -> Markup {
    let choices = [
        ("auto", "Auto", None),
        ("light", "Light", Some(Theme::Light)),
        ("dark", "Dark", Some(Theme::Dark)),
    ];
    html! {
        form class="themes" method="post" action=(address("theme", &[])) aria-label="Colours" {
            (token(desk))
            input type="hidden" name="back" value=(desk.here);
            span { "Colours" }
            div {
                @for (name, label, value) in choices {
                    button type="submit" name="theme" value=(name) aria-pressed=(value == theme) { (label) }
                }
            }
        }
    }
}

/// What was done, said on the page that follows. A fixed set: no link can put words in here.
fn notice(done: Option<&str>) -> Markup {
    let (kind, text) = match done {
        Some("left") => ("good", "You are logged out."),
        Some("restored") => ("good", "It is back, with everything that was in it."),
        Some("undeleted") => ("good", "The documents are back."),
        Some("held") => ("good", "It is on hold: nobody can purge it until the hold is lifted."),
        Some("unheld") => ("good", "The hold is lifted. It is kept until it expires."),
        Some("retained") => ("good", "The time it is kept was changed."),
        Some("purged") => ("good", "It is purged. Its bytes are being given back."),
        Some("purge-waits") => (
            "wait",
            "The purge is asked for and waits: not everybody has let go yet. It goes on by itself; \
             you need not stay.",
        ),
        _ => return html! {},
    };
    html! { p class={ "notice " (kind) } role="status" { (text) } }
}

/// What is around the content of a page.
struct Frame<'a> {
    title: &'a str,
    place: Option<Place>,
    theme: Option<Theme>,
    live: bool,
    menu: &'a [Place],
    /// At the end of the head.
    who: Markup,
    foot: Markup,
}

impl Frame<'_> {
    fn around(&self, main: &Markup) -> Markup {
        let theme = self.theme;
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[theme.map(Theme::name)] {
                head {
                    meta charset="utf-8";
                    title { (self.title) " · Lethe" }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content=(theme.map_or("light dark", Theme::name));
                    link rel="icon" type="image/svg+xml" href=(assets::address("icon.svg"));
                    link rel="stylesheet" href=(assets::address("console.css"));
                    script src=(assets::address("console.js")) defer {}
                }
                body data-live=[self.live.then_some("yes")] {
                    a class="skip" href="#main" { "Skip to the content" }
                    header class="top" {
                        a class="brand" href=(address("", &[])) {
                            img src=(assets::address("icon.svg")) alt="" width="24" height="24";
                            "Lethe"
                        }
                        (self.nav())
                        (self.who)
                    }
                    main id="main" tabindex="-1" { (main) }
                    footer { (self.foot) }
                    p id="link" class="link" role="status" hidden {}
                }
            }
        }
    }

    fn nav(&self) -> Markup {
        let shown = MENU.iter().filter(|(place, _, _)| self.menu.contains(place));
        html! {
            @if self.menu.is_empty() { div class="nav" {} }
            @else {
                nav class="nav" aria-label="Main" {
                    ul {
                        @for (place, page, label) in shown {
                            li {
                                a href=(address(page, &[]))
                                    aria-current=[(self.place == Some(*place)).then_some("page")] { (label) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A page with its head.
pub(super) fn respond(desk: &Desk, page: &Page, tag: Option<&str>) -> Response {
    send(desk, page.status, render(desk, page), tag)
}

/// A rendered page with its head.
pub(super) fn send(desk: &Desk, status: StatusCode, text: String, tag: Option<&str>) -> Response {
    let mut response = html_response(status, text);
    let headers = response.headers_mut();
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
        headers.insert(ETAG, tag);
    }
    if let Some(cookie) = desk.visitor.new_cookie() {
        headers.append(SET_COOKIE, cookie);
    }
    response
}

/// Goes on with another page, under the cookie that the visitor has now.
pub(super) fn see_other_as(desk: &Desk, to: &str) -> Response {
    let mut response = see_other(to);
    if let Some(cookie) = desk.visitor.new_cookie() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// Nothing has changed since the page with this tag.
pub(super) fn unchanged(tag: &str) -> Response {
    let mut response = guarded(StatusCode::NOT_MODIFIED.into_response());
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// What is wrong, to a visitor who is known.
pub(super) fn refuse(desk: &Desk, fault: &Fault) -> Response {
    let mut ways = Vec::new();
    if fault.status == StatusCode::GONE && desk.menu.contains(&Place::Bin) {
        ways.push((address("bin", &[]), "Look in the recycle bin"));
    }
    let misled = matches!(desk.standing, Standing::Misled);
    if fault.wants_login() || misled {
        ways.push((address("login", &[]), "Log in"));
    }
    if !fault.wants_login() {
        ways.push((address("", &[]), "To the overview"));
    }
    let page = Page::new(None, fault.title, explain(fault, &ways)).status(fault.status);
    allowing(respond(desk, &page, None), fault)
}

/// What is wrong with a request of which not even the visitor is known.
pub(super) fn refusal(fault: &Fault, theme: Option<Theme>) -> Response {
    let (who, foot) = (html! {}, html! {});
    let frame = Frame { title: fault.title, place: None, theme, live: false, menu: &[], who, foot };
    let page = frame.around(&explain(fault, &[(address("", &[]), "To the overview")]));
    allowing(html_response(fault.status, page.into_string()), fault)
}

fn explain(fault: &Fault, ways: &[(String, &str)]) -> Markup {
    html! {
        div class="fault" {
            p class="status" { (fault.status.as_u16()) }
            h1 { (fault.title) }
            p { (fault.text) }
            @if fault.is("NOPERM") {
                p class="quiet" { "Log in as somebody who may, or ask an administrator for the right." }
            }
            p class="actions" {
                @for (at, (to, label)) in ways.iter().enumerate() {
                    a class={ "button" @if at == 0 { " primary" } } href=(to) { (label) }
                }
            }
        }
    }
}

fn allowing(mut response: Response, fault: &Fault) -> Response {
    if let Some(allow) = fault.allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// Asks a browser to come again, this time from here.
pub(super) fn again() -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="0";
                title { "Lethe" }
                link rel="stylesheet" href=(assets::address("console.css"));
            }
            body { main id="main" { p { "One moment: " a href="" { "load the page" } " if nothing happens." } } }
        }
    };
    html_response(StatusCode::OK, page.into_string())
}

/// Goes on with another page.
pub(super) fn see_other(to: &str) -> Response {
    let mut response = guarded(StatusCode::SEE_OTHER.into_response());
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// Remembers the theme and goes back to where the visitor came from, as far as that is known.
pub(super) fn set_theme(form: &Fields) -> Result<Response, Fault> {
    let theme = match form.required("theme")? {
        "auto" => None,
        name => Some(Theme::named(name).ok_or_else(|| Fault::bad("There is no such theme."))?),
    };
    let mut response = see_other(request::back(form));
    if let Ok(cookie) = HeaderValue::from_str(&visitor::theme_cookie(theme)) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

fn html_response(status: StatusCode, text: String) -> Response {
    let mut response = guarded((status, Body::from(text)).into_response());
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What no answer goes without.
fn guarded(mut response: Response) -> Response {
    const GUARDS: [(HeaderName, &str); 7] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: browsers would then hide the origin of our own forms, too.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
