//! Bringing deleted documents back: one, or all of a removal.

use axum::http::StatusCode;
use maud::html;

use super::{Action, Sheet, can_be_mended, sheet};
use crate::http::console::desk::Desk;
use crate::http::console::fault::Fault;
use crate::http::console::namespace;
use crate::http::console::page::{Answer, Page, Place};
use crate::http::console::reply::{Row, texts};
use crate::http::console::request::{Fields, address};

/// Which documents.
struct Which {
    namespace: String,
    bucket: String,
    removal: String,
    document: Option<String>,
}

impl Which {
    fn of(desk: &Desk) -> Result<Self, Fault> {
        let query = &desk.query;
        Ok(Self {
            namespace: query.get("namespace").unwrap_or(desk.default_namespace()).to_owned(),
            bucket: query.required("bucket")?.to_owned(),
            removal: query.required("removal")?.to_owned(),
            document: query.get("document").map(str::to_owned),
        })
    }

    fn at(&self, page: &str, done: &str) -> String {
        let fields = [
            ("namespace", &*self.namespace),
            ("bucket", &*self.bucket),
            ("removal", if page == "undelete" { &*self.removal } else { "" }),
            (
                "document",
                if page == "undelete" { self.document.as_deref().unwrap_or_default() } else { "" },
            ),
            ("done", done),
        ];
        address(page, &fields)
    }

    fn words(&self, operation: &str) -> Vec<String> {
        let mut words = vec!["BUCKET.UNDELETE".to_owned(), self.bucket.clone()];
        if let Some(document) = &self.document {
            words.push(serde_json::json!({ "_id": document }).to_string());
        }
        words.extend(["REMOVAL", &self.removal, "OPID", operation].map(str::to_owned));
        words
    }
}

pub(super) async fn confirm(desk: &mut Desk, wrong: Option<&Fault>) -> Result<Page, Fault> {
    let which = Which::of(desk)?;
    desk.enter(&which.namespace);
    desk.expect(["BUCKET.UNDELETE", &which.bucket]).await?;
    let title = Action::Undelete.title(&format!("bucket '{}'", which.bucket));
    let crumbs = namespace::crumbs(&format!("{}.x", which.namespace));
    let fields = html! {
        div class="card what" {
            ul class="will" {
                @match &which.document {
                    Some(document) => li { "The document " code { (document) } " comes back as it was when it was deleted." },
                    None => li { "All documents come back that the removal " code { (which.removal) } " deleted and that are still kept." },
                }
                li { "They return to bucket " strong { (which.bucket) } " of namespace " strong { (which.namespace) } ", with an entry in every index." }
                li { "If an _id or a unique value is taken by now, it stops there and says so." }
            }
        }
    };
    let body = sheet(
        desk,
        &Sheet {
            action: Action::Undelete,
            title: &title,
            to: &which.at("undelete", ""),
            back: &which.at("deleted", ""),
            crumbs: &crumbs,
            fields: &fields,
            wrong: wrong.map(|fault| fault.text.as_str()),
            is_refused: false,
        },
    );
    let status = wrong.map_or(StatusCode::OK, |fault| fault.status);
    Ok(Page::new(Place::Overview, title, body).status(status))
}

pub(super) async fn carry_out(desk: &mut Desk, form: &Fields) -> Result<Answer, Fault> {
    let which = Which::of(desk)?;
    let operation = form.required("operation")?.to_owned();
    desk.enter(&which.namespace);
    match bring_back(desk, which.words(&operation)).await {
        Ok(()) => Ok(Answer::To(which.at("deleted", "undeleted"))),
        Err(fault) if can_be_mended(&fault) => Ok(Answer::Page(confirm(desk, Some(&fault)).await?)),
        Err(fault) => Err(fault),
    }
}

/// Batch by batch, as the command gives them, until nothing is left.
async fn bring_back(desk: &mut Desk, words: Vec<String>) -> Result<(), Fault> {
    let mut reply = desk.call(words).await?;
    loop {
        let row = Row::of(&reply);
        if texts(row.get("object_ids")).is_empty() {
            return Ok(());
        }
        let cursor = row.text("cursor_id").into_owned();
        reply = desk.call(["BUCKET.ADVANCE", "UNDELETE", &cursor]).await?;
    }
}
