//! A target that is accepted is written back as it was read, and its routes never leave the caller's tenant.
#![no_main]

use common::{ids::TenantId, target::Audience};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Whether the target and the members of its expressions are objects, not lists that stand for their fields.
fn is_target(value: &Value) -> bool {
    let Value::Object(fields) = value else {
        return false;
    };
    ["all_of", "any_of"]
        .into_iter()
        .filter_map(|field| fields.get(field)?.as_array())
        .all(|members| members.iter().all(is_target))
}

fuzz_target!(|data: &[u8]| {
    let Ok(audience) = serde_json::from_slice::<Audience>(data) else {
        return;
    };
    // Objects that name a field twice are refused, so both readings see the same.
    assert!(
        serde_json::from_slice(data).is_ok_and(|value| is_target(&value)),
        "accepted: {audience:?}"
    );

    let Ok(json) = serde_json::to_vec(&audience) else {
        panic!("{audience:?} cannot be written")
    };
    match serde_json::from_slice::<Audience>(&json) {
        Ok(again) => assert_eq!(again, audience),
        Err(error) => panic!("{} cannot be read back: {error}", String::from_utf8_lossy(&json)),
    }

    let Ok(tenant) = TenantId::new("t") else {
        unreachable!()
    };
    let routes = audience.target.routes(&tenant);
    assert!(!routes.is_empty());
    let mut keys = routes
        .iter()
        .flat_map(|route| std::iter::once(&route.key).chain(&route.require));
    if audience.target.reaches_everyone() {
        assert!(keys.all(|key| matches!(key.tenant_id(), None | Some("t"))));
    } else {
        assert!(keys.all(|key| key.tenant_id() == Some("t")));
    }
    for (i, route) in routes.iter().enumerate() {
        assert!(!route.require.contains(&route.key));
        assert!(!routes[..i].contains(route));
    }
});
