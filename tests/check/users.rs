//! Damage of users, and of what tells nodes that they have changed.

use lethe::check::Kind;
use lethe::codec::keys;
use lethe::codec::record::{SelectorRecord, UserRecord};

use crate::damage::{AtRest, clear, put, set};

/// As argon2id writes one; of no password that anybody knows.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$\
                    MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";

fn user() -> UserRecord {
    let root = SelectorRecord {
        rights: vec!["read".to_owned(), "restore-own".to_owned()],
        commands: vec!["-bucket.query".to_owned()],
        patterns: vec!["*".to_owned()],
    };
    UserRecord {
        born: 1,
        enabled: true,
        nopass: false,
        passwords: vec![HASH.to_owned()],
        selectors: vec![root],
        changed_at: 0,
        changed_by: "default".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn users_that_nobody_can_be_are_found() {
    use Kind::{FutureVersion, Missing, Undecodable, UnknownKey};
    let store = AtRest::new().await;
    let ada = keys::user("ada");
    let version = store.version(store.removal("asked")).await;
    let signal = set(keys::users_signal(), version.as_bytes());
    let whole = [signal.clone(), put(ada.clone(), &user())];
    store.expect("a user", &whole, &[]).await;

    let unknown = [clear(keys::users_signal()), put(ada.clone(), &user())];
    store.expect("nodes do not learn of it", &unknown, &[(Missing, ada.clone())]).await;
    let root = user().selectors[0].clone();
    let strange = SelectorRecord { rights: vec!["fly".to_owned()], ..root.clone() };
    let unsigned = SelectorRecord { commands: vec!["bucket.query".to_owned()], ..root };
    for (what, damaged) in [
        ("a right that there is not", UserRecord { selectors: vec![strange], ..user() }),
        ("neither allowed nor forbidden", UserRecord { selectors: vec![unsigned], ..user() }),
        ("no selector", UserRecord { selectors: Vec::new(), ..user() }),
        ("no hash", UserRecord { passwords: vec!["geheim".to_owned()], ..user() }),
    ] {
        let changes = [signal.clone(), put(ada.clone(), &damaged)];
        store.expect(what, &changes, &[(Undecodable, ada.clone())]).await;
    }
    let unreadable = [signal.clone(), set(ada.clone(), b"x")];
    store.expect("unreadable", &unreadable, &[(Undecodable, ada)]).await;
    let nobody = keys::user("not a name");
    let misnamed = [signal, put(nobody.clone(), &user())];
    store.expect("a name that is none", &misnamed, &[(UnknownKey, nobody)]).await;
    let future = [set(keys::users_signal(), &[0xfe; 10])];
    store.expect("from nowhere", &future, &[(FutureVersion, keys::users_signal())]).await;
    let short = [set(keys::users_signal(), b"x")];
    store.expect("no version", &short, &[(Undecodable, keys::users_signal())]).await;
}
