//! Handshakes and certificates.

use std::fmt;

use super::page::{Page, number};
use crate::tls::{Certificates, Failure, Port};

pub(super) fn write(certificates: Option<&Certificates>, page: &mut Page<'_>) -> fmt::Result {
    let failures = Port::ALL.into_iter().flat_map(|port| {
        Failure::ALL.into_iter().map(move |failure| {
            let labels = [("port", port.name()), ("reason", failure.name())];
            (labels, certificates.map_or(0, |certificates| certificates.failures(port, failure)))
        })
    });
    page.counters("tls_handshakes_failed", "Handshakes of TLS that failed", failures)?;
    page.seconds(
        "tls_certificate_expires_seconds",
        "Until the certificate expires; below zero, since it has",
        certificates.map(|certificates| seconds(certificates.milliseconds_left())),
    )?;
    let (done, failed) = certificates.map_or((0, 0), Certificates::reloads);
    page.counters(
        "tls_certificate_reloads",
        "Times that the certificates were read again",
        [("ok", done), ("failed", failed)].map(|(outcome, count)| ([("outcome", outcome)], count)),
    )
}

fn seconds(milliseconds: i64) -> f64 {
    let seconds = number(milliseconds.unsigned_abs()) / 1_000.0;
    if milliseconds < 0 { -seconds } else { seconds }
}
