//! The five calls: what they do, and what they refuse.

use proto::{
    json::structure,
    v1::{
        GetUnreadCountRequest, GetUserNotificationsRequest, MarkAsReadRequest, SendBulkNotificationRequest,
        SendNotificationRequest, Target, bulk_result, target,
    },
};
use serde_json::json;
use tonic::{Code, metadata::MetadataValue};
use tonic_types::StatusExt;

use super::{Grpc, by, refusal, to};
use crate::api::Who;

#[tokio::test]
async fn s3_2_what_is_sent_is_listed_counted_and_read() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let (reader, service) = (Who::user("u1"), Who::service().scope("inbox:any"));
    let data = json!({"order": 7, "tags": ["a"]});
    let request = SendNotificationRequest {
        priority: Some("1".to_owned()),
        kind: Some("warning".to_owned()),
        data: data.as_object().map(structure),
        ..to("u1", "first")
    };
    let sent = client
        .send_notification(by(&Who::service(), request))
        .await
        .unwrap();
    assert!(sent.metadata().get("ratelimit-limit").is_some());
    let sent = sent.into_inner();
    assert!(!sent.replayed && sent.created_at.is_some(), "{sent:?}");
    let second = grpc.send("u1", "second").await;

    // The reader's own call, and a service's by name, say the same.
    let own = GetUserNotificationsRequest::default();
    let named = GetUserNotificationsRequest {
        user_id: Some("u1".to_owned()),
        limit: Some(1),
        ..own.clone()
    };
    let listed = client
        .get_user_notifications(by(&reader, own))
        .await
        .unwrap()
        .into_inner();
    let ids: Vec<&str> = listed.notifications.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, [second.as_str(), sent.id.as_str()]);
    let first = &listed.notifications[1];
    assert_eq!(
        (first.title.as_str(), first.kind.as_str(), first.priority.as_str()),
        ("first", "warning", "1")
    );
    assert_eq!(first.data, data.as_object().map(structure));
    let page = client
        .get_user_notifications(by(&service, named.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.notifications, listed.notifications[..1]);
    let rest = GetUserNotificationsRequest {
        cursor: page.next_cursor,
        ..named
    };
    let page = client
        .get_user_notifications(by(&service, rest))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.notifications, listed.notifications[1..]);

    let one = MarkAsReadRequest {
        user_id: Some("u1".to_owned()),
        notification_ids: vec![sent.id.clone()],
        ..MarkAsReadRequest::default()
    };
    let marked = client.mark_as_read(by(&service, one)).await.unwrap().into_inner();
    assert_eq!((marked.count, marked.unread_count), (1, 1));
    let unread = client
        .get_unread_count(by(&reader, GetUnreadCountRequest::default()))
        .await
        .unwrap();
    assert_eq!(unread.into_inner().unread_count, 1);
    let all = MarkAsReadRequest {
        all: true,
        ..MarkAsReadRequest::default()
    };
    let marked = client.mark_as_read(by(&reader, all)).await.unwrap().into_inner();
    assert_eq!((marked.count, marked.unread_count), (1, 0));
}

#[tokio::test]
async fn s3_2_a_user_whom_a_service_names_first_keeps_what_came_before() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let all = SendNotificationRequest {
        to: Some(Target {
            kind: Some(target::Kind::Tenant(true)),
            except: None,
        }),
        title: Some("all".to_owned()),
        content: Some("c".to_owned()),
        ..SendNotificationRequest::default()
    };
    let service = Who::service().scope("inbox:any").scope("notifications:broadcast");
    client.send_notification(by(&service, all)).await.unwrap();
    let own = grpc.send("u9", "own").await;
    let count = GetUnreadCountRequest {
        user_id: Some("u9".to_owned()),
        ..GetUnreadCountRequest::default()
    };
    let unread = client.get_unread_count(by(&service, count)).await.unwrap();
    assert_eq!(unread.into_inner().unread_count, 2);
    let mark = MarkAsReadRequest {
        user_id: Some("u9".to_owned()),
        notification_ids: vec![own],
        ..MarkAsReadRequest::default()
    };
    client.mark_as_read(by(&service, mark)).await.unwrap();
    let unread = client
        .get_unread_count(by(&Who::user("u9"), GetUnreadCountRequest::default()))
        .await
        .unwrap();
    assert_eq!(unread.into_inner().unread_count, 1, "the tenant's is still there");
}

#[tokio::test]
async fn s3_2_a_key_makes_repeats_one() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let service = Who::service();
    let keyed = |title: &str| {
        let mut request = by(&service, to("u1", title));
        request
            .metadata_mut()
            .insert("idempotency-key", MetadataValue::from_static("k1"));
        request
    };
    let first = client.send_notification(keyed("a")).await.unwrap().into_inner();
    let again = client.send_notification(keyed("a")).await.unwrap().into_inner();
    assert!(!first.replayed && again.replayed);
    assert_eq!((first.id, first.created_at), (again.id, again.created_at));
    let other = client.send_notification(keyed("b")).await.unwrap_err();
    let expected = (
        Code::InvalidArgument,
        "idempotency_mismatch".to_owned(),
        Some("Idempotency-Key".to_owned()),
    );
    assert_eq!(refusal(&other), expected);

    // The field's key is the tenant's, whichever way a notification comes.
    let request = SendNotificationRequest {
        idempotency_key: Some("k2".to_owned()),
        ..to("u1", "c")
    };
    let first = client
        .send_notification(by(&service, request.clone()))
        .await
        .unwrap()
        .into_inner();
    let loud = SendNotificationRequest {
        kind: Some("loud".to_owned()),
        ..to("u2", "e")
    };
    let bulk = SendBulkNotificationRequest {
        notifications: vec![request, to("u2", "d"), loud],
    };
    let bulk = client
        .send_bulk_notification(by(&service, bulk))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (bulk.total, bulk.created, bulk.repeated, bulk.failed),
        (3, 1, 1, 1),
        "{bulk:?}"
    );
    match &bulk.results[0].result {
        Some(bulk_result::Result::Repeated(repeated)) => assert_eq!(repeated.id, first.id),
        other => panic!("{other:?}"),
    }
    match &bulk.results[2].result {
        Some(bulk_result::Result::Problem(problem)) => {
            assert_eq!(problem.status, 422);
            assert!(
                problem
                    .field
                    .as_deref()
                    .is_some_and(|field| field == "notifications[2].kind")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn s3_2_refusals_say_what_rest_s_say() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let service = Who::service();
    let text = |text: &str| Some(text.to_owned());
    let of = |request: SendNotificationRequest| by(&service, request);
    let bad = [
        (
            SendNotificationRequest {
                kind: text("loud"),
                ..to("u1", "t")
            },
            "kind",
        ),
        (
            SendNotificationRequest {
                channels: vec!["smoke".to_owned()],
                ..to("u1", "t")
            },
            "channels[0]",
        ),
        (
            SendNotificationRequest {
                title: text("a\0b"),
                ..to("u1", "t")
            },
            "title",
        ),
        (
            SendNotificationRequest {
                user_id: None,
                ..to("", "t")
            },
            "to",
        ),
        (
            SendNotificationRequest {
                user_id: None,
                to: Some(Target::default()),
                ..to("", "t")
            },
            "to",
        ),
    ];
    for (request, field) in bad {
        let status = client.send_notification(of(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(refusal(&status).2.as_deref(), Some(field), "{status:?}");
    }
    let cases = [
        (
            client
                .send_notification(tonic::Request::new(to("u1", "t")))
                .await
                .unwrap_err(),
            (Code::Unauthenticated, "token_missing"),
        ),
        (
            client
                .send_notification(super::with_token("x.y.z", to("u1", "t")))
                .await
                .unwrap_err(),
            (Code::Unauthenticated, "token_invalid"),
        ),
        (
            client
                .send_notification(by(&Who::user("u1"), to("u1", "t")))
                .await
                .unwrap_err(),
            (Code::PermissionDenied, "scope_missing"),
        ),
        (
            client
                .send_notification(of(SendNotificationRequest {
                    tenant_id: text("t2"),
                    ..to("u1", "t")
                }))
                .await
                .unwrap_err(),
            (Code::PermissionDenied, "tenant_mismatch"),
        ),
    ];
    for (status, (code, reason)) in cases {
        let (seen, said, _) = refusal(&status);
        assert_eq!((seen, said.as_str()), (code, reason), "{status:?}");
    }
    let mark = |ids: &[&str], all| MarkAsReadRequest {
        notification_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        all,
        ..MarkAsReadRequest::default()
    };
    for (request, code) in [
        (mark(&["no id"], false), Code::NotFound),
        (
            mark(&["019a0000-0000-7000-8000-000000000000"], false),
            Code::NotFound,
        ),
        (mark(&[], false), Code::InvalidArgument),
        (mark(&["x"], true), Code::InvalidArgument),
    ] {
        let status = client
            .mark_as_read(by(&Who::user("u1"), request))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
}

#[tokio::test]
async fn s3_2_a_spent_budget_says_when_to_come_back() {
    let grpc = Grpc::new().await;
    let mut client = grpc.client.clone();
    let reader = Who::user("busy");
    let mut refused = None;
    for _ in 0..200 {
        let count = client
            .get_unread_count(by(&reader, GetUnreadCountRequest::default()))
            .await;
        if let Err(status) = count {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("100 calls a minute are allowed");
    assert_eq!(refusal(&status).1, "rate_limited");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("ratelimit-remaining").unwrap(), "0");
    assert!(
        status
            .get_details_retry_info()
            .is_some_and(|info| info.retry_delay.is_some())
    );
}
