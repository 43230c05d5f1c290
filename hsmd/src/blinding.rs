//! The context of every operation with a secret key: blinded, so that what it computes from a key
//! is never twice the same in power, time or radiation.
//!
//! libsecp256k1 adds a random point to each multiplication of the generator, if it was given
//! randomness. The library's global context never is. This one is renewed when hsmd starts and
//! again at unlock, and then after [`USES`] operations or after [`AGE`] if there were any, so that
//! no blinding is measured often: renewing takes as long as one signature, a thousandth of what it
//! covers. (ECDH takes no context: it is made in constant time alone.) Checks of signatures have no
//! secret, and take the global one.

use secp256k1::{All, Secp256k1};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// After so many operations the blinding is renewed. One answer may have more: 483 HTLCs each way.
pub(crate) const USES: u64 = 1000;
/// After so long, if there was an operation.
pub(crate) const AGE: Duration = Duration::from_secs(60);

/// One for all threads that share a batch of signatures (`channel::cores`): to have it costs
/// nothing beside a signature.
static CONTEXT: LazyLock<RwLock<Arc<Secp256k1<All>>>> = LazyLock::new(|| RwLock::new(blinded()));
/// Operations since the last renewal.
static USED: AtomicU64 = AtomicU64::new(0);

fn blinded() -> Arc<Secp256k1<All>> {
    let mut context = Secp256k1::new();
    context.seeded_randomize(&Zeroizing::new(subdaemon::random()));
    Arc::new(context)
}

/// For one operation with a secret key.
pub(crate) fn secp() -> Arc<Secp256k1<All>> {
    USED.fetch_add(1, Ordering::Relaxed);
    CONTEXT.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// When the blinding was renewed last.
pub(crate) struct Blinding(Instant);

impl Blinding {
    /// Fresh.
    pub(crate) fn new(now: Instant) -> Self {
        let mut blinding = Self(now);
        blinding.renew(now);
        blinding
    }
    /// Renews it where it is time to. For the one thread that answers, between two answers.
    pub(crate) fn renew_if_due(&mut self, now: Instant) {
        if due(USED.load(Ordering::Relaxed), now.saturating_duration_since(self.0)) {
            self.renew(now);
        }
    }
    /// Adds fresh randomness to the context.
    pub(crate) fn renew(&mut self, now: Instant) {
        let fresh = blinded();
        *CONTEXT.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        USED.store(0, Ordering::Relaxed);
        self.0 = now;
    }
}

fn due(used: u64, age: Duration) -> bool {
    used >= USES || (used > 0 && age >= AGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

    #[test]
    fn blinding_is_renewed_after_many_operations_or_a_minute() {
        for (used, seconds, expected) in
            [(0, 3600, false), (1, 59, false), (1, 60, true), (999, 0, false), (1000, 0, true)]
        {
            assert_eq!(due(used, Duration::from_secs(seconds)), expected, "{used}, {seconds} s");
        }
    }

    /// What the library adds to each secret that it multiplies by the generator: a number behind
    /// the first word of its context.
    fn offset(context: &Secp256k1<All>) -> [u8; 32] {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; 32];
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, context.ctx().as_ptr() as u64 + 8).unwrap();
        bytes
    }

    /// A renewal takes the place of the context; whoever uses the one before ends with that.
    #[test]
    fn blinding_is_another_random_point_after_each_renewal() {
        let plain = || offset(&Secp256k1::new());
        assert_eq!(plain(), plain(), "without randomness it is always the same");
        let mut blinding = Blinding::new(Instant::now());
        let mut seen = vec![plain()];
        for _ in 0..5 {
            blinding.renew(Instant::now());
            let context = offset(&secp());
            assert!(!seen.contains(&context));
            seen.push(context);
        }
    }

    /// Renewed or not, the results are the same, and so are those of the global context.
    #[test]
    fn blinding_changes_no_key_and_no_signature() {
        let key = SecretKey::from_slice(&[7; 32]).unwrap();
        let digest = Message::from_digest([3; 32]);
        let mut blinding = Blinding::new(Instant::now());
        for _ in 0..20 {
            assert_eq!(secp().sign_ecdsa(&digest, &key), SECP256K1.sign_ecdsa(&digest, &key));
            let point = PublicKey::from_secret_key(&secp(), &key);
            assert_eq!(point, PublicKey::from_secret_key(SECP256K1, &key));
            blinding.renew(Instant::now());
        }
    }

    /// The global context is never blinded: hsmd takes it only where no secret is.
    #[test]
    fn global_context_is_used_for_checks_alone() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_test = name.contains("test") || name.contains("vectors");
            if path.is_dir() || is_test || name == "blinding.rs" {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<_> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                if line.contains("SECP256K1") && !line.trim_start().starts_with("use ") {
                    seen += 1;
                    let with_next = [*line, lines.get(at + 1).unwrap_or(&"")].concat();
                    let public = ["verify_ecdsa", "new_p2tr"];
                    let is_public = public.iter().any(|call| with_next.contains(call));
                    assert!(is_public, "{name}:{}: {line}", at + 1);
                }
            }
        }
        assert_eq!(seen, 3);
    }

    /// `cargo test --release -p hsmd -- --ignored --nocapture measures`: what a signature and a
    /// renewal take.
    #[test]
    #[ignore = "prints this machine's times"]
    fn measures_signatures_with_and_without_blinding() {
        let key = SecretKey::from_slice(&[7; 32]).unwrap();
        let digest = Message::from_digest([3; 32]);
        let time = |what: &str, n: u32, work: &mut dyn FnMut()| {
            let began = Instant::now();
            (0..n).for_each(|_| work());
            println!("{what}: {:?}", began.elapsed() / n);
        };
        let mut blinding = Blinding::new(Instant::now());
        for _ in 0..3 {
            time("global context", 10_000, &mut || {
                std::hint::black_box(SECP256K1.sign_ecdsa(&digest, &key));
            });
            time("blinded, renewed when due", 10_000, &mut || {
                std::hint::black_box(secp().sign_ecdsa(&digest, &key));
                blinding.renew_if_due(Instant::now());
            });
            time("renewal", 1000, &mut || blinding.renew(Instant::now()));
        }
        channel::cores::begin();
        let digests = Arc::new(vec![digest; 966]);
        let full = || {
            channel::cores::each(&digests, move |_, digest| secp().sign_ecdsa(digest, &key));
        };
        time("a full commitment, memory not locked", 20, &mut || full());
        println!("{:?}", subdaemon::memory::lock());
        time("a full commitment, memory locked", 20, &mut || full());
    }
}
