//! Finds the file that says where a FoundationDB is, as FoundationDB's own tools do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Names the file, as for FoundationDB's own tools.
const VARIABLE: &str = "FDB_CLUSTER_FILE";
const IN_FOLDER: &str = "fdb.cluster";
const ON_MACHINE: &str = "/etc/foundationdb/fdb.cluster";

/// The configured file, or the one of the variable, of the working folder, of the machine; the first that is named or there.
pub(super) fn find(configured: Option<&Path>) -> Result<PathBuf> {
    let path = choose(configured, std::env::var_os(VARIABLE), Path::new(IN_FOLDER));
    // The client only says later, and less, when it cannot read it.
    match std::fs::read_to_string(&path) {
        Ok(text) if names_a_cluster(&text) => Ok(path),
        Ok(_) => Err(Error::Unavailable(format!(
            "{} is no cluster file of FoundationDB: it has no line such as name:id@127.0.0.1:4500",
            path.display()
        ))),
        Err(error) => Err(Error::Unavailable(format!(
            "cannot read the cluster file {}: {error}",
            path.display()
        ))),
    }
}

fn choose(configured: Option<&Path>, variable: Option<OsString>, in_folder: &Path) -> PathBuf {
    if let Some(configured) = configured {
        return configured.to_owned();
    }
    if let Some(variable) = variable {
        return PathBuf::from(variable);
    }
    if in_folder.is_file() { in_folder.to_owned() } else { PathBuf::from(ON_MACHINE) }
}

fn names_a_cluster(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim();
        let described = line
            .split_once('@')
            .is_some_and(|(name, hosts)| name.contains(':') && !hosts.is_empty());
        described && !line.starts_with('#')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_wins_over_the_variable_and_that_over_the_usual_places() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("fdb.cluster");
        let variable = || Some(OsString::from("/variable"));
        assert_eq!(choose(Some(Path::new("/set")), variable(), &there), Path::new("/set"));
        assert_eq!(choose(None, variable(), &there), Path::new("/variable"));
        assert_eq!(choose(None, None, &there), Path::new(ON_MACHINE));
        std::fs::write(&there, "").unwrap();
        assert_eq!(choose(None, None, &there), there);
    }

    #[test]
    fn a_file_that_is_missing_or_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let refused = |path: &Path| find(Some(path)).unwrap_err().to_string();
        assert!(refused(&path).contains(&path.display().to_string()));
        std::fs::write(&path, "# a:b@c\nnothing\n").unwrap();
        assert!(refused(&path).contains("no cluster file"));
        std::fs::write(&path, "# comment\na:b@127.0.0.1:1\n").unwrap();
        assert_eq!(find(Some(&path)).unwrap(), path);
    }
}
