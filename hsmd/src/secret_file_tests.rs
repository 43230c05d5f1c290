use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own for each test, gone at the end.
struct Folder(PathBuf);
impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("fulmen-hsm-secret-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn secret(&self) -> PathBuf {
        self.0.join("hsm_secret")
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn seed(root: &Root) -> Vec<u8> {
    match root {
        Root::Raw(bytes) => bytes.to_vec(),
        Root::Seed(bytes) => bytes.to_vec(),
    }
}
/// What an operator reads.
fn said(why: Unusable) -> String {
    match why {
        Unusable::NeedsPassphrase(why) | Unusable::WrongPassphrase(why) | Unusable::Other(why) => {
            why
        }
    }
}
fn understood(content: &[u8], passphrase: Option<&str>) -> Result<Vec<u8>, String> {
    understand(Path::new("hsm_secret"), content, passphrase).map(|root| seed(&root)).map_err(said)
}

#[test]
fn new_secret_is_twelve_words_that_only_the_owner_can_read() {
    let folder = Folder::new();
    let (made, fresh) = open(&folder.secret(), None).unwrap();
    assert!(fresh);
    let content = std::fs::read(folder.secret()).unwrap();
    let mode = std::fs::metadata(folder.secret()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o400);
    assert_eq!(content[..32], [0; 32]);
    let words = std::str::from_utf8(&content[32..]).unwrap();
    assert_eq!(words.split(' ').count(), 12);
    assert!(!words.ends_with(['\n', ' ']));

    let (again, fresh) = open(&folder.secret(), None).unwrap();
    assert!(!fresh);
    assert_eq!(seed(&made), seed(&again));
    let (other, _) = open(&Folder::new().secret(), None).unwrap();
    assert_ne!(seed(&made), seed(&other));
}

#[test]
fn passphrase_is_needed_again_and_no_other_will_do() {
    let folder = Folder::new();
    let (made, _) = open(&folder.secret(), Some(b"correct horse")).unwrap();
    assert_ne!(std::fs::read(folder.secret()).unwrap()[..32], [0; 32]);
    let (again, _) = open(&folder.secret(), Some(b"correct horse")).unwrap();
    assert_eq!(seed(&made), seed(&again));
    let refused = |passphrase: Option<&[u8]>| open(&folder.secret(), passphrase).unwrap_err();
    let needs = |why| matches!(why, Unusable::NeedsPassphrase(s) if s.contains("--hsm-passphrase"));
    let wrong = |why, text: &str| matches!(why, Unusable::WrongPassphrase(s) if s.contains(text));
    assert!(needs(refused(None)));
    assert!(wrong(refused(Some(b"battery")), "not the passphrase"));
    assert!(wrong(refused(Some(&[0xff])), "UTF-8"));

    let plain = Folder::new();
    open(&plain.secret(), None).unwrap();
    assert!(wrong(open(&plain.secret(), Some(b"x")).unwrap_err(), "has no passphrase"));
}

#[test]
fn secret_file_of_another_form_is_named_with_its_length() {
    let refused = |content: &[u8]| understood(content, None).unwrap_err();
    assert_eq!(understood(&[7; 32], None), Ok(vec![7; 32]));
    assert!(understood(&[7; 32], Some("x")).unwrap_err().contains("raw"));
    assert!(refused(&[]).contains("0 bytes") && refused(&[]).contains("never finished"));
    for len in [1, 31] {
        assert!(refused(&vec![1; len]).contains(&format!("{len} bytes")), "{len}");
    }
    assert!(refused(&[1; 73]).contains("encrypted"));
    assert!(refused(&[1; 33]).contains("33 bytes"));
    assert!(refused(&[1; 64]).contains("64 bytes"));
    assert!(refused(&[b'a'; MAX_LENGTH + 1]).contains("more than"));
    let mut wrong_checksum = vec![0; 32];
    wrong_checksum.extend_from_slice("abandon ".repeat(12).trim_end().as_bytes());
    assert!(refused(&wrong_checksum).contains("mnemonic"));
}

#[test]
fn file_that_cannot_be_read_or_made_is_an_error_with_its_name() {
    let folder = Folder::new();
    let nowhere = folder.0.join("none").join("hsm_secret");
    assert!(said(open(&nowhere, None).unwrap_err()).contains("none/hsm_secret"));
    assert!(said(open(&folder.0, None).unwrap_err()).contains("cannot read"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100_000) })]

    #[test]
    fn arbitrary_files_are_understood_or_refused(
        content in prop::collection::vec(any::<u8>(), 0..400),
        passphrase in proptest::option::of("[a-z]{0,3}"),
    ) {
        let read = understood(&content, passphrase.as_deref());
        prop_assert_eq!(read.is_ok(), content.len() == 32 && passphrase.is_none());
    }
}
