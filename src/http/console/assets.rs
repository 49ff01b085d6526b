//! The files that pages need, in the program itself.

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use xxhash_rust::xxh3::xxh3_64;

use super::fault::Fault;
use super::page;

/// Name, kind, text.
const FILES: [(&str, &str, &str); 3] = [
    ("console.css", "text/css; charset=utf-8", include_str!("assets/console.css")),
    ("console.js", "text/javascript; charset=utf-8", include_str!("assets/console.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// The address of a file: another one with each version of it, so that browsers may keep it.
pub(super) fn address(name: &str) -> String {
    static VERSION: LazyLock<u64> = LazyLock::new(|| {
        FILES.iter().fold(0, |sum, (_, _, text)| sum ^ xxh3_64(text.as_bytes()).rotate_left(7))
    });
    format!("{}/static/{name}?v={:016x}", super::ROOT, *VERSION)
}

pub(super) fn file(name: &str) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(of, _, _)| *of == name) else {
        return page::refusal(&Fault::no_page(), None);
    };
    let head = [
        (CONTENT_TYPE, *kind),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::OK, head, *text).into_response()
}
