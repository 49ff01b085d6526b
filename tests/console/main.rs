//! The console over real HTTP, and in a real browser: what each page shows, what each form does, what is
//! refused.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../support/http.rs"]
#[allow(dead_code, reason = "not all of it is for the console")]
mod http;

mod actions;
mod browser;
mod chromium;
mod hostile;
mod house;
mod live;
mod login;
mod looks;
mod pages;
mod refusals;
mod rights;
