//! A program that was built without FoundationDB.

use std::process::Command;

#[test]
fn a_program_without_foundationdb_says_how_to_build_one_with_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(["--store", "foundationdb", "--port", "0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--features foundationdb"), "{message}");
}
