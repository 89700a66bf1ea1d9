//! What becomes of a data directory that is not there, is in use, or cannot be read.

use super::*;
use crate::segment::tests::Scratch;

#[test]
fn a_directory_is_made_only_for_a_server() {
    let scratch = Scratch::new("directory");
    let path = scratch.0.join("a/b");
    assert!(matches!(Directory::open(&path, false), Err(StoreError::Empty { data_dir }) if data_dir == path));
    assert!(!scratch.0.join("a").exists());
    assert!(!is_in_use(&path));
    let server = Directory::open(&path, true).expect("it is made");
    assert!(is_in_use(&path));
    assert_eq!(server.format().expect("readable"), FORMAT);
    for create in [false, true] {
        assert!(matches!(Directory::open(&path, create), Err(StoreError::InUse { .. })));
    }
    drop(server);
    assert!(!is_in_use(&path));
    for create in [false, true] {
        let again = Directory::open(&path, create).expect("nobody uses it");
        assert_eq!(again.format().expect("readable"), FORMAT);
    }
}

#[test]
fn a_format_that_cannot_be_read_is_not_taken_for_none() {
    let scratch = Scratch::new("directory-format");
    let directory = scratch.directory();
    let path = scratch.0.join(FORMAT_FILE);
    fs::create_dir(&path).expect("writable");
    assert!(matches!(directory.format(), Err(StoreError::Read { path: found, .. }) if found == path));
    // Nothing was written beside it.
    assert_eq!(fs::read_dir(&scratch.0).expect("a directory").count(), 1);
    fs::remove_dir(&path).expect("writable");
    for (text, format) in
        [("nanofaas-store 1\n", Some(1)), ("nanofaas-store 2", Some(2)), ("nanofaas-store 3\n", None)]
    {
        fs::write(&path, text).expect("writable");
        match directory.format() {
            Ok(found) => assert_eq!(Some(found), format),
            Err(StoreError::Format { found, .. }) => {
                assert_eq!((found.as_str(), format), (text.trim(), None))
            }
            Err(other) => panic!("{other}"),
        }
    }
}
