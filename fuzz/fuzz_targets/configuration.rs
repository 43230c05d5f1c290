//! A command line, up to the first zero byte, and a configuration file after it.

pub fn run(data: &[u8]) {
    let mut halves = data.splitn(2, |b| *b == 0);
    let line = String::from_utf8_lossy(halves.next().unwrap_or_default()).into_owned();
    let words: Vec<String> =
        line.split('\n').filter(|w| !w.is_empty()).map(|w| format!("--{w}")).collect();
    lightningd::fuzzing::configuration(&words, halves.next().unwrap_or_default().to_vec());
}
