use super::*;

fn scratch(name: &str) -> std::path::PathBuf {
    let path =
        std::env::temp_dir().join(format!("fulmen-db-{}-{name}.sqlite3", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn a_database_from_the_future_is_refused_and_left_alone() {
    let path = scratch("future");
    let db = open(&path).unwrap();
    db.pragma_update(None, "user_version", 10_000).unwrap();
    drop(db);
    let said = open(&path).unwrap_err().0;
    assert!(said.contains("10000") && said.contains("newer"), "{said}");
}

#[test]
fn somebody_elses_database_is_refused_and_left_alone() {
    let path = scratch("other");
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE version (version INTEGER); INSERT INTO version VALUES (286);")
        .unwrap();
    drop(other);
    let before = std::fs::read(&path).unwrap();
    let said = open(&path).unwrap_err().0;
    assert!(said.contains("not Fulmen's"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::write(&path, b"this is no database at all, but a longer text").unwrap();
    assert!(open(&path).unwrap_err().0.contains("no SQLite database"));
}

#[test]
fn another_secret_under_the_same_database_is_refused() {
    let db = open(&scratch("owner")).unwrap();
    assert!(check_owner(&db, Network::Regtest, NodeId([2; 33])).unwrap());
    assert!(!check_owner(&db, Network::Regtest, NodeId([2; 33])).unwrap());
    assert!(check_owner(&db, Network::Regtest, NodeId([3; 33])).is_err());
    assert!(check_owner(&db, Network::Signet, NodeId([2; 33])).is_err());
}

#[test]
fn a_counter_never_goes_back() {
    let db = open(&scratch("counter")).unwrap();
    assert_eq!((next_index(&db, "x").unwrap(), next_index(&db, "x").unwrap()), (1, 2));
}
