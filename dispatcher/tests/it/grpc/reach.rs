//! No credential reaches beyond its tenant or its scopes, by whichever call.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::{prelude::*, test_runner::TestRunner};
use proto::v1::{
    GetUnreadCountRequest, GetUserNotificationsRequest, MarkAsReadRequest, SendNotificationRequest,
    WatchInboxRequest,
};
use tonic::Code;

use super::{Grpc, by, to};
use crate::api::Who;

const CALLS: [&str; 6] = ["send", "bulk", "list", "mark", "count", "watch"];
const SCOPES: [&str; 7] = [
    "notifications:write",
    "inbox:any",
    "publish",
    "service",
    "notifications:admin",
    "metrics",
    "contacts:write",
];

static CALLERS: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Clone)]
struct Try {
    call: &'static str,
    tenant: &'static str,
    scopes: Vec<&'static str>,
    /// Whether the body names a tenant, and which.
    says_tenant: Option<&'static str>,
    /// Whether it names a user who is not the caller.
    names_other: bool,
}

fn tries() -> impl Strategy<Value = Try> {
    (
        prop::sample::select(&CALLS[..]),
        prop::sample::select(&["t1", "t2"][..]),
        prop::sample::subsequence(&SCOPES[..], 0..=SCOPES.len()),
        prop::option::of(prop::sample::select(&["t1", "t2"][..])),
        any::<bool>(),
    )
        .prop_map(|(call, tenant, scopes, says_tenant, names_other)| Try {
            call,
            tenant,
            scopes,
            says_tenant,
            names_other,
        })
}

impl Try {
    /// What it has to be told.
    fn expected(&self) -> Code {
        let has = |scope| self.scopes.contains(&scope);
        let creates = matches!(self.call, "send" | "bulk");
        let foreign = self.says_tenant.is_some_and(|said| said != self.tenant);
        let allowed = if creates {
            has("notifications:write")
        } else {
            !self.names_other || has("inbox:any")
        };
        match (allowed, foreign, self.call) {
            (false, ..) => Code::PermissionDenied,
            // Each of many stands for itself.
            (true, true, "bulk") => Code::Ok,
            (true, true, _) => Code::PermissionDenied,
            // The victim's notification is of `t1`, and the victim's.
            (true, false, "mark") if self.tenant != "t1" || !self.names_other => Code::NotFound,
            (true, false, _) => Code::Ok,
        }
    }

    async fn run(&self, grpc: &Grpc, victims: &str) -> Code {
        let mut client = grpc.client.clone();
        // Each has a budget of its own.
        let name = format!("caller{}", CALLERS.fetch_add(1, Ordering::Relaxed));
        let caller = Who::user(&name).tenant(self.tenant);
        let caller = self.scopes.iter().fold(caller, |who, scope| who.scope(scope));
        let tenant_id = self.says_tenant.map(str::to_owned);
        let user_id = self.names_other.then(|| "victim".to_owned());
        let send = SendNotificationRequest {
            tenant_id: tenant_id.clone(),
            ..to("someone", "t")
        };
        let told = match self.call {
            "send" => client.send_notification(by(&caller, send)).await.map(drop),
            "bulk" => {
                let bulk = proto::v1::SendBulkNotificationRequest {
                    notifications: vec![send],
                };
                let answer = client.send_bulk_notification(by(&caller, bulk)).await;
                if let Ok(answer) = &answer {
                    let foreign = self.says_tenant.is_some_and(|said| said != self.tenant);
                    assert_eq!(answer.get_ref().created, u32::from(!foreign), "{self:?}");
                }
                answer.map(drop)
            }
            "list" => {
                let list = GetUserNotificationsRequest {
                    tenant_id,
                    user_id,
                    ..Default::default()
                };
                let answer = client.get_user_notifications(by(&caller, list)).await;
                if let Ok(answer) = &answer {
                    let sees = answer.get_ref().notifications.iter().any(|one| one.id == victims);
                    assert_eq!(sees, self.tenant == "t1" && self.names_other, "{self:?}");
                }
                answer.map(drop)
            }
            "mark" => {
                let ids = vec![victims.to_owned()];
                let mark = MarkAsReadRequest {
                    tenant_id,
                    user_id,
                    notification_ids: ids,
                    ..Default::default()
                };
                client.mark_as_read(by(&caller, mark)).await.map(drop)
            }
            "count" => {
                let count = GetUnreadCountRequest { tenant_id, user_id };
                client.get_unread_count(by(&caller, count)).await.map(drop)
            }
            _ => {
                let watch = WatchInboxRequest {
                    tenant_id,
                    user_id,
                    cursor: None,
                };
                client.watch_inbox(by(&caller, watch)).await.map(drop)
            }
        };
        told.map_or_else(|status| status.code(), |()| Code::Ok)
    }
}

#[test]
fn s3_2_no_credential_reaches_outside_its_tenant_or_scope() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (grpc, victims) = runtime.block_on(async {
        let grpc = Grpc::new().await;
        let victims = grpc.send("victim", "secret").await;
        (grpc, victims)
    });
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&tries(), |one| {
        let told = runtime.block_on(one.run(&grpc, &victims));
        prop_assert_eq!(told, one.expected(), "{:?}", one);
        Ok(())
    });
    result.unwrap();
}
