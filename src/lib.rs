//! Lethe: a document database that speaks the Redis protocol and whose
//! deletions are safe.

pub mod cli;
pub mod demo;
pub mod replicate;

pub mod node;

pub mod http;
pub mod server;
pub mod worker;

pub mod command;
pub mod session;
pub mod update;

pub mod check;
pub mod lifecycle;
pub mod query;

pub mod document;
pub mod index;
pub mod metadata;

pub mod access;

pub mod cluster;

pub mod error;
pub mod store;

pub mod client;

pub mod tls;

pub mod config;
pub mod meter;
pub mod resp;

pub mod value;

pub mod clock;
pub mod codec;
