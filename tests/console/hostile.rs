//! Names, reasons and documents that would like to be markup.

use crate::house::{House, percent};

const SCRIPT: &str = "<script>alert(1)</script>";
const IMAGE: &str = "\"><img src=x onerror='alert(2)'>&amp;{{7*7}}";

#[test]
fn names_reasons_and_documents_are_never_markup() {
    let house = House::build();
    let (bucket, removed) = (format!("b{SCRIPT}{IMAGE}"), format!("r{IMAGE}{SCRIPT}"));
    let namespace = format!("n{}", SCRIPT.replace('.', ""));
    house.done_in("global", ["NAMESPACE", "CREATE", &namespace]);
    let document = serde_json::json!({ SCRIPT: IMAGE, "deep": [SCRIPT] }).to_string();
    for name in [&bucket, &removed] {
        house.done_in(&namespace, ["BUCKET.CREATE", name]);
        house.done_in(&namespace, ["BUCKET.INSERT", name, "DOCS", &document]);
    }
    house.done_in(&namespace, ["BUCKET.DELETE", &bucket, "{}", "REASON", IMAGE]);
    house.done_in(&namespace, ["BUCKET.REPLICA", "REGISTER", &bucket, "mirror"]);
    house.done_in(&namespace, ["BUCKET.REMOVE", &removed, "REASON", &format!("{IMAGE}{SCRIPT}")]);
    let removal = house.removal();
    house.done_in("global", ["BUCKET.HOLD", &removal, "REASON", SCRIPT]);
    let (in_namespace, of_bucket) = (percent(&namespace), percent(&bucket));
    let mut visitor = house.visitor();
    for path in [
        "/console".to_owned(),
        format!("/console/namespace?name={in_namespace}"),
        format!("/console/bucket?namespace={in_namespace}&name={of_bucket}"),
        format!("/console/deleted?namespace={in_namespace}&bucket={of_bucket}"),
        "/console/bin".to_owned(),
        format!("/console/bin?find={}&by={}", percent(IMAGE), percent(SCRIPT)),
        "/console/audit".to_owned(),
        "/console/replicas".to_owned(),
        format!("/console/audit?bucket={}", percent(IMAGE)),
        format!("/console/removal?id={removal}"),
        format!("/console/restore?id={removal}"),
        format!("/console/purge?id={removal}"),
        format!("/console/unhold?id={removal}"),
        format!("/console/retain?id={removal}"),
        format!("/console/bucket?name={}", percent(SCRIPT)),
        format!("/console/namespace?name={}", percent(IMAGE)),
        format!("/console/removal?id={}", percent(SCRIPT)),
        format!("/console/{}", percent(SCRIPT)),
    ] {
        let answer = visitor.ask(&path, "");
        let body = &answer.body;
        assert!([200, 400, 404].contains(&answer.status), "{path}: {body}");
        assert_eq!(body.matches("<script").count(), 1, "{path}: our own only");
        assert!(!body.contains("<img src=x") && !body.contains("alert(1)</script>"), "{path}");
        assert_eq!(
            body.matches("<img").count(),
            body.matches("<img src=\"/console/static/icon").count()
        );
    }
    let page = visitor.page("/console/bin");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
}
