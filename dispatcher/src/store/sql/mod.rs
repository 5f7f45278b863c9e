//! The statements: what one catalogue has, the other has too.

/// Joins the constants of a name in both catalogues.
macro_rules! statements {
    ($noun:ident: $($name:ident),+ $(,)?) => {$(
        pub(in crate::store) const $name: crate::store::access::Statement = crate::store::access::Statement {
            sqlite: crate::store::sqlite::$noun::$name,
            postgres: crate::store::postgres::$noun::$name,
        };
    )+
        /// All of them with their names.
        #[cfg(test)]
        pub(in crate::store) const ALL: &[(&str, crate::store::access::Statement)] =
            &[$((stringify!($name), $name)),+];
    };
}

pub(super) mod accept;
pub(super) mod api_keys;
pub(super) mod audit;
pub(super) mod chains;
pub(super) mod collapse;
pub(super) mod events;
pub(super) mod history;
pub(super) mod inbox;
pub(super) mod lists;
pub(super) mod operate;
pub(super) mod queue;
pub(super) mod records;
pub(super) mod retention;
pub(super) mod schedules;
pub(super) mod settings;
pub(super) mod stops;

/// Every statement with its name.
#[cfg(test)]
pub(super) fn all() -> Vec<(&'static str, super::access::Statement)> {
    [
        accept::ALL,
        api_keys::ALL,
        audit::ALL,
        chains::ALL,
        collapse::ALL,
        events::ALL,
        history::ALL,
        inbox::ALL,
        lists::ALL,
        operate::ALL,
        queue::ALL,
        records::ALL,
        retention::ALL,
        schedules::ALL,
        settings::ALL,
        stops::ALL,
    ]
    .concat()
}
