//! Pages that follow what happens.

use crate::house::House;

/// The tag of an answer.
fn tag(head: &str) -> String {
    head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned()
}

#[test]
fn an_unchanged_page_is_not_sent_again() {
    let house = House::build();
    let mut visitor = house.visitor();
    visitor.page("/console/bin");
    let first = visitor.ask("/console/bin", "");
    let again = visitor.ask("/console/bin", &format!("If-None-Match: {}\r\n", tag(&first.head)));
    assert_eq!((again.status, again.body.as_str()), (304, ""));
}

#[test]
fn a_page_that_waits_is_answered_when_something_is_removed() {
    let house = House::build();
    house.bucket("users", 1);
    let mut visitor = house.visitor();
    visitor.page("/console/bin");
    let first = visitor.ask("/console/bin", "");
    assert!(!first.body.contains("users"));
    let wait = format!("If-None-Match: {}\r\nPrefer: wait=20\r\n", tag(&first.head));
    let waiting = std::thread::spawn(move || {
        let answer = visitor.ask("/console/bin", &wait);
        (answer, visitor)
    });
    house.done("BUCKET.REMOVE users");
    let (answer, mut visitor) = waiting.join().unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("users"));
    // Without a wish to wait it is told at once that nothing has changed.
    let mut last = visitor.ask("/console/bin", "");
    loop {
        let unchanged = format!("If-None-Match: {}\r\n", tag(&last.head));
        let again = visitor.ask("/console/bin", &unchanged);
        if again.status == 304 {
            break;
        }
        // How long ago it was has changed: then it is another page.
        assert_ne!(again.body, last.body, "the same was sent again");
        last = again;
    }
}

#[test]
fn too_many_who_wait_leave_room_for_others() {
    let house = House::with(|config| config.http.max_connections = 40);
    let mut visitor = house.visitor();
    visitor.page("/console/audit");
    let first = visitor.ask("/console/audit", "");
    let wait = format!("If-None-Match: {}\r\nPrefer: wait=20\r\n", tag(&first.head));
    let waiting: Vec<_> = (0..30)
        .map(|_| {
            let (mut other, wait) = (house.visitor(), wait.clone());
            other.cookies.clone_from(&visitor.cookies);
            std::thread::spawn(move || other.ask("/console/audit", &wait).status)
        })
        .collect();
    assert!(visitor.page("/console").contains("Overview"));
    house.done("BUCKET.CREATE users");
    house.done("BUCKET.REMOVE users");
    let statuses: Vec<u16> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| [200, 304].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
}
