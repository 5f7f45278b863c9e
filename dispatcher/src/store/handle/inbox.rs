//! The inbox. [`Store::touch_reader`] comes before the others.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use common::ids::{Name, NotificationId, TenantId};

use crate::{
    model::{Cursor, InboxItem, InboxPage, ListFilter, Micros, ReaderKeys, WalkCursor},
    store::{
        ChangesResult, Mark, Marked, Reach, ReadAll, Store, StoreError, Watch, feed, inbox, keys, marks,
        pages, sight, snoozes, writer::Work,
    },
};

/// How often a reader's last sight is written.
const REFRESH_READER: Duration = Duration::from_hours(1);
/// Readers that are remembered as written; above it they are forgotten and written once more.
const REMEMBERED_READERS: usize = 200_000;

impl Store {
    /// Sees a reader: its first sight of each key is kept, and which keys its newest token carries. Written at once where
    /// the keys are others than the last time, else at most hourly.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn touch_reader(&self, reader: &ReaderKeys) -> Result<(), StoreError> {
        let mut hasher = DefaultHasher::new();
        reader.keys.hash(&mut hasher);
        let keys = hasher.finish();
        let name = (reader.tenant.clone(), reader.user.clone());
        let now = Micros::now();
        if self
            .0
            .seen
            .get(&name)
            .is_some_and(|last| last.0 == keys && now < last.1.plus(REFRESH_READER))
        {
            return Ok(());
        }
        self.many(vec![reader.clone()], Work::Touch).await?;
        if self.0.seen.len() >= REMEMBERED_READERS {
            self.0.seen.clear();
        }
        self.0.seen.insert(name, (keys, now));
        Ok(())
    }

    /// A user as a reader with the keys of its newest token, for who may name others; false where it was never seen. Nothing is
    /// written by it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn named_reader(
        &self,
        tenant: &TenantId,
        user: &Name,
    ) -> Result<(ReaderKeys, bool), StoreError> {
        sight::named(&mut self.snapshot_or_stale().await?.access(), tenant, user).await
    }

    /// What the reader sees, newest first; without what is deleted, and of the place that the filter names.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(&self, reader: &ReaderKeys, filter: &ListFilter) -> Result<Vec<InboxItem>, StoreError> {
        pages::list(&mut self.snapshot_or_stale().await?.access(), reader, filter).await
    }

    /// The same as a page, from the top or from where an earlier one ended; `filter.offset` is not looked at. Looks at a
    /// bounded number of rows, so a page may be short and still have a next one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn page(
        &self,
        reader: &ReaderKeys,
        filter: &ListFilter,
        from: Option<&WalkCursor>,
    ) -> Result<InboxPage, StoreError> {
        pages::page(
            &mut self.snapshot_or_stale().await?.access(),
            reader,
            filter,
            from,
        )
        .await
    }

    /// One notification, if the reader sees it; also an archived one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn item(
        &self,
        reader: &ReaderKeys,
        id: NotificationId,
    ) -> Result<Option<InboxItem>, StoreError> {
        inbox::item(&mut self.snapshot_or_stale().await?.access(), reader, id).await
    }

    /// How many the reader sees that are neither read nor archived. Exact.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn unread_count(&self, reader: &ReaderKeys) -> Result<u64, StoreError> {
        let keys = keys::Keys::of(reader)?;
        inbox::unread(&mut self.snapshot_or_stale().await?.access(), reader, &keys).await
    }

    /// What happened after a cursor, at most `limit` entries; without a cursor nothing, and the cursor of the present.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn changes(
        &self,
        reader: &ReaderKeys,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<ChangesResult, StoreError> {
        // A cursor may be ahead of a replica, which would say that it is of another database.
        let mut snapshot = match after {
            Some(_) => self.snapshot().await?,
            None => self.snapshot_or_stale().await?,
        };
        feed::changes(&mut snapshot.access(), reader, after, limit).await
    }

    /// Marks notifications for this reader; what it does not see is left out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn mark(
        &self,
        reader: &ReaderKeys,
        ids: Vec<NotificationId>,
        mark: Mark,
    ) -> Result<Marked, StoreError> {
        self.single((reader.clone(), ids, mark), |(reader, ids, mark), tx| {
            Box::pin(marks::mark(tx, reader, ids, *mark))
        })
        .await
    }

    /// Readers with notifications that were put off until `now` or before, with the keys that the store knows of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn due_snoozes(
        &self,
        now: Micros,
        limit: u32,
    ) -> Result<Vec<(ReaderKeys, Vec<NotificationId>)>, StoreError> {
        snoozes::due(&mut self.snapshot().await?.access(), now, limit).await
    }

    /// What is due and cannot come back, as its reader no longer sees it, is looked at again at a time.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_off_snoozes(
        &self,
        reader: &ReaderKeys,
        ids: Vec<NotificationId>,
        until: Micros,
    ) -> Result<(), StoreError> {
        self.single((reader.clone(), ids, until), |(reader, ids, until), tx| {
            Box::pin(snoozes::put_off(tx, reader, ids, *until))
        })
        .await
    }

    /// Marks everything as read, up to a cursor or to the present. What arrives later stays unread, and so does what is
    /// marked unread later.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn mark_all_read(
        &self,
        reader: &ReaderKeys,
        up_to: Option<&Cursor>,
    ) -> Result<ReadAll, StoreError> {
        let reach = up_to.map_or(Reach::Now, |cursor| Reach::Cursor(cursor.clone()));
        self.read_up_to(reader, reach).await
    }

    /// Marks everything as read that was visible at a time: also where this is asked late, or again, what arrived since
    /// stays unread.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn mark_all_read_by(&self, reader: &ReaderKeys, time: Micros) -> Result<ReadAll, StoreError> {
        self.read_up_to(reader, Reach::Time(time)).await
    }

    async fn read_up_to(&self, reader: &ReaderKeys, reach: Reach) -> Result<ReadAll, StoreError> {
        self.single((reader.clone(), reach), |(reader, reach), tx| {
            Box::pin(marks::mark_all_read(tx, reader, reach))
        })
        .await
    }

    /// A subscription to commits under the reader's keys.
    #[must_use]
    pub fn watch(&self, reader: &ReaderKeys) -> Watch {
        self.0.watchers.watch(&reader.keys)
    }
}
