//! Bytes as served: one copy of each, however many read it at once.
//!
//! In: a key and how to load what it names. Out: shared bytes. What was read last is kept, up to a bound; what is larger, or
//! older, lives as long as somebody reads it. Called by `round.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;

use super::RoundError;

/// Loads at once, of each shelf: those who wait find what another has loaded.
const LOADS_MAX: usize = 4;

/// What is served under keys of one kind.
pub(super) struct Shelf<K> {
    books: Mutex<Books<K>>,
    loads: Semaphore,
    /// Bytes that are kept though nobody reads them.
    keeps_bytes: usize,
}

struct Books<K> {
    all: BTreeMap<K, Weak<Vec<u8>>>,
    kept: VecDeque<(K, Arc<Vec<u8>>)>,
    kept_bytes: usize,
}

impl<K: Ord + Copy> Shelf<K> {
    /// Empty.
    pub(super) fn new(keeps_bytes: usize) -> Self {
        let books = Books { all: BTreeMap::new(), kept: VecDeque::new(), kept_bytes: 0 };
        Self { books: Mutex::new(books), loads: Semaphore::new(LOADS_MAX), keeps_bytes }
    }

    /// What `key` names; `None` where there is no such thing.
    pub(super) async fn get<F>(&self, key: K, load: impl FnOnce() -> F) -> Result<Option<Arc<Vec<u8>>>, RoundError>
    where
        F: Future<Output = Result<Option<Vec<u8>>, RoundError>>,
    {
        if let Some(found) = self.find(key) {
            return Ok(Some(found));
        }
        let _turn = self.loads.acquire().await.map_err(|_| RoundError::ShuttingDown)?;
        if let Some(found) = self.find(key) {
            return Ok(Some(found));
        }
        Ok(load().await?.map(|bytes| self.put(key, bytes)))
    }

    fn find(&self, key: K) -> Option<Arc<Vec<u8>>> {
        self.books.lock().expect("no panic holds this lock").all.get(&key)?.upgrade()
    }

    fn put(&self, key: K, bytes: Vec<u8>) -> Arc<Vec<u8>> {
        let mut guard = self.books.lock().expect("no panic holds this lock");
        let books = &mut *guard;
        let bytes = Arc::new(bytes);
        books.all.retain(|_, bytes| bytes.strong_count() > 0);
        books.all.insert(key, Arc::downgrade(&bytes));
        if bytes.len() <= self.keeps_bytes {
            books.kept_bytes += bytes.len();
            books.kept.push_back((key, bytes.clone()));
            while books.kept_bytes > self.keeps_bytes {
                let Some((_, oldest)) = books.kept.pop_front() else { break };
                books.kept_bytes -= oldest.len();
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn read(shelf: &Shelf<u8>, key: u8, length: usize, loads: &AtomicUsize) -> Arc<Vec<u8>> {
        let load = || async {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(Some(vec![key; length]))
        };
        shelf.get(key, load).await.expect("it loads").expect("it is there")
    }

    #[tokio::test]
    async fn readers_at_once_share_one_copy_and_what_is_too_large_goes_with_the_last_of_them() {
        let (shelf, loads) = (Shelf::new(100), AtomicUsize::new(0));
        let first = read(&shelf, 1, 1_000, &loads).await;
        for _ in 0..50 {
            assert!(Arc::ptr_eq(&first, &read(&shelf, 1, 1_000, &loads).await));
        }
        assert_eq!((loads.load(Ordering::Relaxed), Arc::strong_count(&first)), (1, 1));
        drop(first);
        read(&shelf, 1, 1_000, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 2, "nobody held it");
    }

    #[tokio::test]
    async fn what_was_read_last_is_kept_up_to_the_bound() {
        let (shelf, loads) = (Shelf::new(100), AtomicUsize::new(0));
        for key in [1, 2, 3, 3, 2] {
            read(&shelf, key, 40, &loads).await;
        }
        assert_eq!(loads.load(Ordering::Relaxed), 3);
        assert!(shelf.books.lock().expect("whole").kept_bytes <= 100);
        read(&shelf, 1, 40, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 4, "the oldest had to go");
        let nothing = shelf.get(9, || async { Ok(None) }).await.expect("it answers");
        assert!(nothing.is_none());
    }
}
