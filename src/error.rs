//! Errors that a client sees.
