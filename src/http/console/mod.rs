//! The console: pages for people, over HTTP.
//!
//! ```text
//!   request ──► cookie, login, origin, form ──► Desk ──► the table of commands ──► replies
//!               (visitor, login, request)       │                                   │
//!   response ◄── page: head, policy, tag ◄──────┴───────── one file per page ◄──────┘
//! ```
//!
//! A page asks through a [`desk::Desk`], which runs commands as a client does. What a visitor may do,
//! what is recorded and what is answered is therefore the same as over RESP.
//!
//! # Invariants
//!
//! * GET and HEAD change nothing; what changes something is a POST with a form of this console.
//! * Every text is escaped where it is written: nothing of a client's is ever markup.
//! * Whoever is not logged in is at most the user that a client is who has said nothing, and that only
//!   under a name that no stranger can own; who is nobody sees the page that asks who he is, whatever
//!   he asks for.
//! * What a visitor may not do is not offered, and no page tells him whether it is there.
//! * All works without script; the script only keeps live pages fresh.
//!
//! Not here: connections and their bounds (`serve`), what commands do (`command`).

mod action;
mod assets;
mod audit;
mod bin;
mod bucket;
mod cluster;
mod deleted;
mod desk;
mod fault;
mod live;
mod login;
mod namespace;
mod overview;
mod page;
mod policy;
mod reclaim;
mod removal;
mod replicas;
mod reply;
mod request;
mod show;
mod visitor;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use tokio::sync::Semaphore;

use super::seats::Seat;
use super::serve::Peer;
use crate::command::Services;
use desk::{Desk, Standing};
use fault::Fault;
use login::Logins;
use page::{Answer, Page};
use request::Fields;
use visitor::{Secret, Visitor};

/// Where the console begins.
pub(super) const ROOT: &str = "/console";

/// Bytes of an address that one is led back to after the login.
const BACK_BYTES_MAX: usize = 2_000;

/// Live pages that may wait for something to change, but no more than half of all connections; the rest stays free.
const WAITING_MAX: usize = 24;

/// What all requests to the console share.
#[derive(Debug)]
pub(super) struct Console {
    services: Arc<Services>,
    secret: Secret,
    logins: Logins,
    waiting: Semaphore,
}

impl Console {
    pub(super) fn new(services: Arc<Services>) -> Self {
        let waiting = WAITING_MAX.min(services.config.http.max_connections / 2);
        let (secret, waiting) = (Secret::random(), Semaphore::new(waiting));
        Self { services, secret, logins: Logins::default(), waiting }
    }

    /// Answers a request for a path at or below [`ROOT`].
    pub(super) async fn serve(&self, peer: Peer, request: Request) -> Response {
        let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default();
        if let Some(file) = path.strip_prefix("/static/") {
            return match *request.method() {
                Method::GET | Method::HEAD => assets::file(file),
                _ => page::refusal(&Fault::method("GET, HEAD"), None),
            };
        }
        let theme = visitor::theme(request.headers());
        match Box::pin(self.answer(peer, request)).await {
            Ok(response) => response,
            Err(fault) => page::refusal(&fault, theme),
        }
    }

    async fn answer(&self, peer: Peer, request: Request) -> Result<Response, Fault> {
        let (parts, body) = request.into_parts();
        let posted = match parts.method {
            Method::GET | Method::HEAD => false,
            Method::POST => true,
            _ => return Err(Fault::method("GET, HEAD, POST")),
        };
        if !posted && visitor::came_without_cookies(&parts.headers) {
            return Ok(page::again());
        }
        let query = Fields::parse(parts.uri.query().unwrap_or_default())?;
        let path = parts.uri.path().strip_prefix(ROOT).unwrap_or_default().to_owned();
        let path = path.strip_prefix('/').unwrap_or_default();
        let here = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let visitor = Visitor::of(&parts.headers, &self.secret)?;
        let standing = self.standing(&visitor, peer, &parts.headers)?;
        let mut desk = Desk::open(&self.services, peer, visitor, standing, query, here);
        let answered = if posted {
            let seat = parts.extensions.get::<Arc<Seat>>().map(Arc::as_ref);
            self.take(path, &mut desk, (&parts.headers, body), seat).await
        } else {
            self.show(path, &mut desk, &parts.headers).await
        };
        Ok(match answered {
            Ok(response) => response,
            Err(fault) if fault.wants_login() && !posted => {
                let is_worth_it = desk.here != ROOT && desk.here.len() <= BACK_BYTES_MAX;
                let back = if is_worth_it { &desk.here } else { "" };
                page::see_other_as(&desk, &request::address("login", &[("back", back)]))
            }
            Err(fault) => page::refuse(&desk, &fault),
        })
    }

    /// Who it is that asks.
    fn standing(
        &self,
        visitor: &Visitor,
        peer: Peer,
        headers: &HeaderMap,
    ) -> Result<Standing, Fault> {
        let users = &self.services.users;
        let by_visitor = !live::is_of_script(headers);
        if let Some(login) = self.logins.find(users, visitor.cookie(), by_visitor) {
            return Ok(Standing::Member(login));
        }
        let Some(login) = users.unnamed(peer.address.ip()) else { return Ok(Standing::Nobody) };
        let is_ours = request::is_host_ours(headers)?;
        Ok(if is_ours { Standing::Unnamed(login) } else { Standing::Misled })
    }

    /// Shows a page.
    async fn show(
        &self,
        path: &str,
        desk: &mut Desk,
        headers: &HeaderMap,
    ) -> Result<Response, Fault> {
        if path == "login" {
            return Ok(page::respond(
                desk,
                &login::page(desk, request::back(&desk.query), None),
                None,
            ));
        }
        desk.expect_somebody()?;
        live::respond(self, path, desk, headers).await
    }

    /// Takes a form.
    async fn take(
        &self,
        path: &str,
        desk: &mut Desk,
        (headers, body): (&HeaderMap, Body),
        seat: Option<&Seat>,
    ) -> Result<Response, Fault> {
        request::check_origin(headers)?;
        let form = request::form(headers, body).await?;
        if seat.is_some_and(|seat| !seat.begin()) {
            // Nobody will read it: nothing is begun that would be broken off.
            return Err(Fault::gone_connection());
        }
        desk.visitor.check_token(&form)?;
        match path {
            "theme" => return page::set_theme(&form),
            "login" => return self.log_in(desk, headers, &form).await,
            "logout" => return Ok(self.log_out(desk)),
            _ => desk.expect_somebody()?,
        }
        desk.menu = page::menu(desk).await?;
        match post(path, desk, &form).await? {
            Answer::Page(page) => Ok(page::respond(desk, &page, None)),
            Answer::To(address) => Ok(page::see_other(&address)),
        }
    }

    /// Opens a session under a new cookie, so that one that somebody else knows is worth nothing.
    async fn log_in(
        &self,
        desk: &mut Desk,
        headers: &HeaderMap,
        form: &Fields,
    ) -> Result<Response, Fault> {
        let name = form.get("name").unwrap_or_default();
        let password = form.get("password").unwrap_or_default();
        let back = request::back(form);
        let login = match desk.log_in(name, password).await {
            // Without a password it is no better than not to log in at all.
            Ok(login) if !login.has_password() && !request::is_host_ours(headers)? => {
                return Err(Fault::wrong_host());
            }
            Ok(login) => login,
            Err(fault) => {
                let again = login::page(desk, back, Some((name, &fault)));
                return Ok(page::respond(desk, &again, None));
            }
        };
        self.logins.close(desk.visitor.cookie());
        desk.visitor.renew(&self.secret);
        self.logins.open(desk.visitor.cookie(), login);
        Ok(page::see_other_as(desk, back))
    }

    fn log_out(&self, desk: &mut Desk) -> Response {
        self.logins.close(desk.visitor.cookie());
        desk.visitor.renew(&self.secret);
        page::see_other_as(desk, &request::address("login", &[("done", "left")]))
    }

    /// Whether the visitor is still who he was when he asked.
    fn is_in_yet(&self, desk: &Desk) -> bool {
        match desk.standing {
            Standing::Member(_) => {
                self.logins.find(&self.services.users, desk.visitor.cookie(), false).is_some()
            }
            Standing::Unnamed(_) | Standing::Nobody | Standing::Misled => true,
        }
    }
}

/// Pages that only show something.
const PAGES: [&str; 10] = [
    "",
    "namespace",
    "bucket",
    "deleted",
    "bin",
    "removal",
    "reclaim",
    "replicas",
    "cluster",
    "audit",
];

/// The page at a path below [`ROOT`].
async fn get(path: &str, desk: &mut Desk) -> Result<Page, Fault> {
    desk.menu = page::menu(desk).await?;
    match path {
        "" => overview::page(desk).await,
        "namespace" => namespace::page(desk).await,
        "bucket" => bucket::page(desk).await,
        "deleted" => deleted::page(desk).await,
        "bin" => bin::page(desk).await,
        "removal" => removal::page(desk).await,
        "reclaim" => reclaim::page(desk).await,
        "replicas" => replicas::page(desk).await,
        "cluster" => cluster::page(desk).await,
        "audit" => audit::page(desk).await,
        _ => match action::Action::named(path) {
            Some(action) => action::confirm(action, desk).await,
            None => Err(Fault::no_page()),
        },
    }
}

/// Does what a form asks for.
async fn post(path: &str, desk: &mut Desk, form: &Fields) -> Result<Answer, Fault> {
    if let Some(action) = action::Action::named(path) {
        return action::carry_out(action, desk, form).await;
    }
    if PAGES.contains(&path) { Err(Fault::method("GET, HEAD")) } else { Err(Fault::no_page()) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::any;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{Duration, Instant, advance};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::SystemClock;
    use crate::http::seats::Seats;
    use crate::http::serve;

    #[tokio::test(start_paused = true)]
    async fn a_form_that_does_not_arrive_in_time_is_refused() {
        let services = Arc::new(Services::new(Arc::default(), Arc::new(SystemClock)));
        let console = Arc::new(Console::new(services));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let peer = Peer { address: nowhere, local: nowhere, tls: false };
        let handler = move |request: Request| {
            let console = Arc::clone(&console);
            async move { console.serve(peer, request).await }
        };
        let routes = Router::new().route("/console/{*page}", any(handler));
        // One that says nothing more, and one that sends a byte again and again.
        for drops in [0, 100] {
            let (mut client, server) = duplex(64 * 1024);
            let seat = Seats::new(1).take().await;
            let stop = CancellationToken::new();
            let served = tokio::spawn(serve::serve(server, routes.clone(), seat, stop));
            let head =
                b"POST /console/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\
                         Content-Type: application/x-www-form-urlencoded\r\n\r\nname=";
            client.write_all(head).await.unwrap();
            let began = Instant::now();
            for _ in 0..drops {
                if served.is_finished() || client.write_all(b"x").await.is_err() {
                    break;
                }
                advance(Duration::from_millis(500)).await;
            }
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("did not arrive in time. Nothing was changed."), "{answer}");
            assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
            served.await.unwrap();
        }
    }
}
