//! Settings at run time.

use common::audit::Origin;

use crate::{
    model::{SettingChange, SettingVersion},
    store::{SettingWritten, Store, StoreError, settings},
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

    /// Changes a setting that was judged `beside` what [`Self::settings`] said: its next version. Nothing is changed where that
    /// is another by now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn change_setting(
        &self,
        change: SettingChange,
        beside: Vec<SettingVersion>,
        by: &Origin,
    ) -> Result<SettingWritten, StoreError> {
        self.single((change, beside, by.clone()), |(change, beside, by), tx| {
            Box::pin(settings::change(tx, change, beside, by))
        })
        .await
    }
}
