//! Settings at run time.

use common::audit::Origin;

use crate::{
    model::{SettingChange, SettingVersion},
    store::{Store, StoreError, settings},
};

impl Store {
    /// The newest version of every setting that was ever changed, by key.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn settings(&self) -> Result<Vec<SettingVersion>, StoreError> {
        settings::all(&mut self.snapshot().await?.access()).await
    }

    /// The versions of one setting, the newest first, at most a hundred.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn setting_versions(&self, key: &str) -> Result<Vec<SettingVersion>, StoreError> {
        settings::versions(&mut self.snapshot().await?.access(), key).await
    }

    /// Changes a setting: its next version. None: the one that was expected is not the newest, and nothing is changed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn change_setting(
        &self,
        change: SettingChange,
        by: &Origin,
    ) -> Result<Option<SettingVersion>, StoreError> {
        self.single((change, by.clone()), |(change, by), tx| {
            Box::pin(settings::change(tx, change, by))
        })
        .await
    }
}
