//! Settings, each change judged beside all others.

use dispatcher::{
    model::{SettingChange, SettingVersion},
    store::SettingWritten,
};
use serde_json::json;

use super::fresh;
use crate::support::by;

fn change(key: &str, value: u32, expected: Option<i64>) -> SettingChange {
    SettingChange {
        key: key.to_owned(),
        value: Some(json!(value)),
        expected,
    }
}

#[tokio::test]
async fn s4_7_of_two_changes_that_were_judged_beside_the_same_one_is_judged_again() {
    let fresh = fresh().await;
    let none: Vec<SettingVersion> = fresh.settings().await.unwrap();
    assert_eq!(none, []);
    let write = async |change, beside: &[SettingVersion]| {
        fresh
            .change_setting(change, beside.to_vec(), &by("root"))
            .await
            .unwrap()
    };
    let SettingWritten::Stored(first) = write(change("limits.queued_max", 7, None), &none).await else {
        panic!("nothing was changed");
    };
    assert_eq!((first.version, &first.value), (1, &Some(json!(7))));
    let another = change("limits.queued_max_per_tenant", 9, None);
    assert_eq!(write(another.clone(), &none).await, SettingWritten::Moved);
    let now = fresh.settings().await.unwrap();
    assert_eq!(now, [first]);
    let stale = change("limits.queued_max", 8, Some(0));
    assert_eq!(write(stale, &now).await, SettingWritten::Stale);
    assert!(matches!(write(another, &now).await, SettingWritten::Stored(_)));
    assert_eq!(fresh.settings().await.unwrap().len(), 2);
}
