//! The console: pages for people, over HTTP.
//!
//! ```text
//!   request ──► host, origin, cookie, form ──► Desk ──► the table of commands ──► replies
//!               (request, visitor)              │                                   │
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
//! * Without a login it answers only on the loopback, and only under a name that no stranger can own.
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
mod namespace;
mod overview;
mod page;
mod reclaim;
mod removal;
mod replicas;
mod reply;
mod request;
mod show;
mod visitor;

use std::sync::Arc;

use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::serve::Peer;
use crate::command::Services;
use desk::Desk;
use fault::Fault;
use page::{Answer, Page};
use request::Fields;
use visitor::{Secret, Visitor};

/// Where the console begins.
pub(super) const ROOT: &str = "/console";

/// Live pages that may wait for something to change; the rest of the connections stays free.
const WAITING_MAX: usize = 24;

/// What all requests to the console share.
#[derive(Debug)]
pub(super) struct Console {
    services: Arc<Services>,
    secret: Secret,
    waiting: Semaphore,
}

impl Console {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services, secret: Secret::random(), waiting: Semaphore::new(WAITING_MAX) }
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
        request::check_host(&parts.headers)?;
        visitor::check_peer(&self.services, peer)?;
        let query = Fields::parse(parts.uri.query().unwrap_or_default())?;
        let path = parts.uri.path().strip_prefix(ROOT).unwrap_or_default().to_owned();
        let path = path.strip_prefix('/').unwrap_or_default();
        let here = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        if !posted && visitor::came_without_cookies(&parts.headers) {
            return Ok(page::again());
        }
        let visitor = Visitor::of(&parts.headers, &self.secret)?;
        if posted {
            request::check_origin(&parts.headers)?;
            let form = request::form(&parts.headers, body).await?;
            visitor.check_token(&form)?;
            if path == "theme" {
                return page::set_theme(&form);
            }
            let mut desk = Desk::open(&self.services, peer, visitor, query, here);
            return match post(path, &mut desk, &form).await? {
                Answer::Page(page) => Ok(page::respond(&desk, &page, None)),
                Answer::To(address) => Ok(page::see_other(&address)),
            };
        }
        let mut desk = Desk::open(&self.services, peer, visitor, query, here);
        live::respond(self, path, &mut desk, &parts.headers).await
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
