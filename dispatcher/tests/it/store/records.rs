use common::ids::TenantId;
use dispatcher::{
    model::{Contact, NewTemplate},
    store::StoreError,
};
use uuid::Uuid;

use super::{fresh, name, tenant};
use crate::support::by;

fn template(name: &str) -> NewTemplate {
    NewTemplate {
        name: name.to_owned(),
        title: "{{ title }}".to_owned(),
        content: "c".to_owned(),
        html: None,
        channels: vec!["email".to_owned()],
        priority: None,
        kind: None,
        variables: vec!["title".to_owned()],
        syntax: Default::default(),
    }
}

#[tokio::test]
async fn contacts_are_replaced_found_and_forgotten() {
    let store = fresh().await;
    let user = name("u:1 张");
    let contact = |email: &str| Contact {
        email: Some(email.to_owned()),
        ..Contact::default()
    };
    assert_eq!(store.contact(&tenant(), &user).await.unwrap(), None);
    store
        .put_contact(&tenant(), &user, &contact("a"), &by("op"))
        .await
        .unwrap();
    store
        .put_contacts(
            &tenant(),
            vec![(user.clone(), contact("b")), (name("v"), contact("c"))],
            &by("op"),
        )
        .await
        .unwrap();
    assert_eq!(store.contact(&tenant(), &user).await.unwrap(), Some(contact("b")));
    let many = store
        .contacts(&tenant(), &[name("v"), name("w"), user.clone()])
        .await
        .unwrap();
    assert_eq!(many, [Some(contact("c")), None, Some(contact("b"))]);
    assert_eq!(
        store.contact(&TenantId::new("t2").unwrap(), &user).await.unwrap(),
        None
    );
    assert!(store.delete_contact(&tenant(), &user, &by("op")).await.unwrap());
    assert!(!store.delete_contact(&tenant(), &user, &by("op")).await.unwrap());
}

#[tokio::test]
async fn a_templates_name_is_taken_once_a_tenant() {
    let store = fresh().await;
    let other = TenantId::new("t2").unwrap();
    let made = store
        .create_template(&tenant(), template("b"), &by("op"))
        .await
        .unwrap();
    let taken = store
        .create_template(&tenant(), template("b"), &by("op"))
        .await
        .unwrap_err();
    assert_eq!(taken, StoreError::Conflict("the template's name"));
    store
        .create_template(&other, template("b"), &by("op"))
        .await
        .unwrap();
    let second = store
        .create_template(&tenant(), template("a"), &by("op"))
        .await
        .unwrap();
    assert_eq!(store.templates(&tenant()).await.unwrap(), [second, made.clone()]);
    assert_eq!(
        store.template_by_id(&tenant(), made.id).await.unwrap(),
        Some(made.clone())
    );
    assert_eq!(store.template_by_id(&other, made.id).await.unwrap(), None);
    assert_eq!(
        store.template_by_id(&tenant(), Uuid::now_v7()).await.unwrap(),
        None
    );
    assert_eq!(store.template_by_name(&tenant(), "b").await.unwrap(), Some(made));
    assert_eq!(store.template_by_name(&tenant(), "c").await.unwrap(), None);
}
